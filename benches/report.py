"""The table: figures kept as JSON between runs of single benches, rendered to RESULTS.md."""

import dataclasses
import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path

import lab

HERE = Path(__file__).resolve().parent


@dataclasses.dataclass
class Line:
    """One line of the table. `value` is compared with `must` and `aim`; less is better unless `higher`."""

    what: str
    ours: str
    beside: str
    value: float | None
    must: float
    aim: float
    higher: bool = False
    must_text: str = ""
    aim_text: str = ""
    note: str = ""

    def verdict(self):
        if self.note:
            return f"**{self.note}**"
        if self.value is None:
            return "**not measured**"
        better = lambda bound: self.value >= bound if self.higher else self.value <= bound
        return "aim reached" if better(self.aim) else "must reached" if better(self.must) else "**misses**"


def keep(name, lines, load):
    """Takes one bench's lines into the kept figures."""
    lab.KEPT.mkdir(parents=True, exist_ok=True)
    when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")
    kept = {"when": when, "load": load, "priority": _priority(), "lines": [dataclasses.asdict(line) for line in lines]}
    (lab.KEPT / f"result-{name}.json").write_text(json.dumps(kept, indent=1))


def _priority():
    """Niceness of these processes, and of their session among the others: raised, it hides what a busy machine does."""
    group = Path("/proc/self/autogroup")
    return os.nice(0), int(group.read_text().split()[-1]) if group.exists() else 0


def _version(*command):
    try:
        out = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "absent"
    return re.search(r"\d+[\d.]*\d", out.stdout + out.stderr)[0]


def machine():
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    system = re.search(r'PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text())[1]
    total = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 1024**2
    cores = len(os.sched_getaffinity(0))
    programs = {
        "ffmpeg": ("ffmpeg", "-version"), "nginx": ("nginx", "-v"), "chromium": ("chromium", "--version"),
        "rustc": ("rustc", "--version"), "headwater": (str(lab.HEADWATER), "--version"),
    }
    versions = ", ".join(f"{name} {_version(*command)}" for name, command in programs.items())
    kernel = platform.release().split("-")[0]
    return f"{model[1] if model else platform.machine()}, {cores} cores, {total:.1f} GiB; {system}, Linux {kernel}; {versions}"


def render(order):
    rows, loads = [], []
    for name in order:
        place = lab.KEPT / f"result-{name}.json"
        if not place.exists():
            rows.append(f"| `{name}` | | not measured yet | | | | |")
            continue
        kept = json.loads(place.read_text())
        nice, group = kept["priority"]
        priority = f", niceness {nice} in a session of {group}" if nice or group else ""
        loads.append(f"`{name}` {kept['when']} UTC, load {kept['load'][0]:.1f} before and {kept['load'][1]:.1f} after{priority}")
        for fields in kept["lines"]:
            line = Line(**fields)
            must, aim = line.must_text or f"{line.must:g}", line.aim_text or f"{line.aim:g}"
            rows.append(f"| `{name}` | {line.what} | {line.ours} | {line.beside} | {must} | {aim} | {line.verdict()} |")
    return "\n".join(
        [
            "# Results",
            "",
            f"Written by `make bench` on {machine()}.",
            "One bench alone: `benches/run.sh NAME`. What misses its bound says so.",
            "",
            "| bench | what | headwater | beside | must | aim | |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            "A figure counts for the machine it was made on; the ratios to the peer of the same run travel better. CPU figures and ratios bear a",
            "busy machine; times do not: where the load average before a bench (its first minute's mean) is well above 1, something else was",
            "running and the times, the frame counts and the number of ladders are worse than they would be alone. A niceness below 0 says that the",
            "bench was put before what else was running.",
            "",
            "\n".join(f"- {load}" for load in loads),
            "",
        ]
    )


def write(order):
    text = render(order)
    (HERE / "RESULTS.md").write_text(text)
    return text

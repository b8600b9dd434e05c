"""What viewers cost: the origin's own load bench, beside nginx."""

import re

import lab
from lab import log
from report import Line


def _bench(*words):
    command = ["cargo", "bench", "--locked", "--quiet", "-p", "origin", "--bench", "serving", "--", *words]
    text, _, _ = lab.run(command, cwd=lab.ROOT)
    log(text.strip().replace("\n", "\n  "))
    return text


def serving():
    """Playlist, part and segment requests per CPU second of the server, wrk as the load."""
    lines = []
    for row in re.finditer(r"^(\S+) +(\d+) bytes +\|(.*)\|(.*)\|(.*)\| *([\d.]+) ([\d.]+)$", _bench("requests"), re.M):
        name, size, ours, sendfile, memory, *ratios = (cell.strip() for cell in row.groups())
        ratio = min(float(value) for value in ratios)
        kind = "playlist" if name.endswith("m3u8") else "segment" if name.count(".") == 1 else "part"
        ours, sendfile, memory = (re.sub(r"(\d+) +([\d.]+) Gb", r"\1 requests, \2 Gbit", cell) for cell in (ours, sendfile, memory))
        lines.append(
            Line(f"{kind} of {size} bytes, per core and second", f"{ours}; ratios {ratios[0]} and {ratios[1]}",
                 f"nginx sendfile: {sendfile}; nginx from memory: {memory}", ratio, 0.8, 1.0, higher=True)
        )
    if len(lines) != 3:
        raise RuntimeError("the bench printed another table")
    return lines


def held():
    """10 000 blocking reloads held at once."""
    text = _bench("held", "10000")
    time, unit = re.search(r"part ready -> last answer:.*p99 ([\d.]+)(\S+)", text).groups()
    seconds = float(time) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit]
    errors = int(re.search(r"(\d+) errors", text)[1])
    cores, most = re.search(r"server: ([\d.]+) cores, (\d+) MB", text).groups()
    note = f"{errors} requests failed" if errors else ""
    return [
        Line("10 000 held reloads: ready → last answer, p99", f"{seconds:.2f} s ({cores} cores)", "—", seconds, 1, 0.3, note=note),
        Line("10 000 held reloads: memory of the server", f"{most} MB", "—", float(most), 400, 200),
    ]

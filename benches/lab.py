"""What every bench needs: processes and what they cost, the server, clips and foreign tools."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
# Clips, tools and the figures of earlier runs: outside the sources.
KEPT = TARGET / "bench-suite"
HEADWATER = TARGET / "release" / "headwater"
TICK = os.sysconf("SC_CLK_TCK")
FFMPEG = ["ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-v", "error", "-y"]

CLIP_SECONDS = 30
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
# The rungs of the default ladder: lines, and kbit/s.
RUNGS = [(1080, 2500), (720, 1200), (480, 750), (360, 400), (240, 150)]


def log(text):
    print(f"  {text}", flush=True)


def percentile(values, percent):
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * percent // 100)]


# --- what processes cost ---


def _stat(pid):
    """Parent, CPU seconds of itself and of the children it has buried."""
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[1]), sum(int(field) for field in fields[11:15]) / TICK


def tree(root):
    """The processes below `root` and itself, with their CPU seconds; the dead count with whoever waited for them."""
    seen = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError):
                seen[int(entry)] = _stat(int(entry))
    found, open_ = {}, [root]
    while open_:
        pid = open_.pop()
        if pid in seen:
            found[pid] = seen[pid][1]
            open_ += [child for child, (parent, _) in seen.items() if parent == pid]
    return found


def cpu(root):
    return sum(tree(root).values())


def memory_mb(root):
    """Proportional set size of the process tree: shared pages count once."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            total += int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
    return total / 1024


def run(command, **options):
    """Runs a program to its end, which must be a success: its output and the CPU seconds of it and its children."""
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        child = subprocess.Popen([str(part) for part in command], stdout=out, stderr=subprocess.STDOUT, **options)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode(errors="replace")
    if child.returncode:
        raise RuntimeError(f"{command[0]} ended with {child.returncode}:\n{text}")
    return text, usage.ru_utime + usage.ru_stime, time.monotonic() - began


@contextlib.contextmanager
def program(command, **options):
    """A program that runs beside a measurement and is ended with it."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen([str(part) for part in command], **{**quiet, **options})
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextlib.contextmanager
def scratch():
    """A folder in memory: a disk is not what is measured."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="headwater-bench-", dir=base)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def until(what, limit, ask, pause=0.02):
    """The first answer of `ask` that is not empty."""
    deadline = time.monotonic() + limit
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {limit} s")
        time.sleep(pause)


# --- things made once ---


def kept(name, make):
    place = KEPT / name
    if not place.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        fresh = KEPT / f"new-{name}"
        make(fresh)
        fresh.rename(place)
    return place


def clip(name):
    """1080p30, 6 Mbit/s at most, closed groups of 2 s, AAC 48 kHz stereo; the same bytes every time."""
    picture = {"hard": _hard, "easy": _easy}[name]()
    return kept(f"{name}-{zlib.crc32(picture.encode()):08x}.mp4", lambda path: _encode(path, picture))


def _hard():
    # A picture full of detail under a slow zoom, soft as a lens makes it; shapes that move over it; film grain on top.
    frames = CLIP_SECONDS * 30
    return (
        f"mandelbrot=s=640x360:r=30:start_scale=0.02:end_scale=0.02:maxiter=300,trim=end_frame=1,"
        f"zoompan=z='1+on*0.001':x='iw/2-iw/zoom/2+on*0.05':y='ih/2-ih/zoom/2':d={frames}:s=1920x1080:fps=30,"
        f"gblur=sigma=1.6,format=yuv420p[base];"
        f"life=s=160x90:r=10:ratio=0.3:random_seed=7:mold=20:life_color=white:mold_color=gray,"
        f"scale=1920:1080:flags=bicubic,fps=30,format=yuv420p[life];"
        f"[base][life]blend=all_mode=screen:all_opacity=0.1,noise=c0s=4:c0f=t+u:c0_seed=11"
    )


def _easy():
    # Six seconds a slide, and a small noisy camera picture.
    words = "a live stream is cut into segments and each segment into parts that a player asks for before they exist so".split()
    draw = f"drawtext=fontfile={FONT}"
    slides = []
    for slide in range(CLIP_SECONDS // 6 + 1):
        shown = f"enable='between(t,{6 * slide},{6 * slide + 5.99})'"
        slides.append(f"{draw}:fontsize=64:fontcolor=white:x=80:y=28:text='Chapter {slide + 1}':{shown}")
        for line in range(11):
            start = (slide * 7 + line * 5) % len(words)
            text = " ".join((words[start:] + words[:start])[:9])
            slides.append(f"{draw}:fontsize=40:fontcolor=0x222222:x=80:y={190 + 66 * line}:text='{text}':{shown}")
    return (
        f"color=c=0xf7f5ee:s=1920x1080:r=30,drawbox=x=0:y=0:w=1920:h=120:c=0x1d3557:t=fill,{','.join(slides)}[slides];"
        f"testsrc2=s=480x270:r=30,gblur=sigma=4,noise=c0s=8:c0f=t+u:c0_seed=4[camera];"
        f"[slides][camera]overlay=x=1400:y=770"
    )


def _encode(path, picture):
    sound = (
        "sine=frequency=330:sample_rate=48000,volume=0.2[tone];anoisesrc=r=48000:a=0.05:seed=3[noise];"
        "[tone][noise]amix=inputs=2,aformat=channel_layouts=stereo[a]"
    )
    log(f"making {path.name.removeprefix('new-')}")
    video = "-c:v libx264 -preset veryfast -bf 0 -g 60 -sc_threshold 0 -b:v 6M -maxrate 6M -bufsize 300k".split()
    run(
        [*FFMPEG, "-filter_complex", f"{picture},format=yuv420p[v];{sound}", "-map", "[v]", "-map", "[a]", *video]
        + ["-threads", 2, "-c:a", "aac", "-b:a", "128k", "-t", CLIP_SECONDS, "-f", "mp4", path]
    )


def small_clip():
    """1080p30 as a lecture sends it: 2.5 Mbit/s in all, for servers that only pack it anew."""

    def make(path):
        video = "-c:v libx264 -preset veryfast -bf 0 -g 60 -sc_threshold 0 -b:v 2370k -maxrate 2370k -bufsize 300k".split()
        run([*FFMPEG, "-i", clip("hard"), *video, "-x264-params", "nal-hrd=cbr", "-c:a", "copy", "-f", "mp4", path])

    return kept(f"{clip('hard').stem}-2500k.mp4", make)


def ffmpeg_vmaf():
    """An ffmpeg with libvmaf: the static one that a package of the Python index carries."""

    def make(path):
        run(["python3", "-m", "venv", path])
        run([path / "bin/python", "-m", "pip", "install", "--quiet", "imageio-ffmpeg==0.8.1"])

    found = kept("imageio-ffmpeg", make).glob("lib/*/site-packages/imageio_ffmpeg/binaries/ffmpeg-*")
    return next(found)


# --- the server ---

KEY = "bench-0123456789abcdef"


class Server:
    """`headwater serve` on free ports with a data dir of its own."""

    def __init__(self, folder, *flags, streams=("live",), command="serve"):
        self.ready_file = folder / "ready.json"
        self.ready_file.unlink(missing_ok=True)
        addresses = [word for name in ("rtmp", "http", "ops") for word in (f"--{name}", "127.0.0.1:0")]
        declared = [word for id in streams for word in ("--stream", f"{id}={KEY}-{id}")]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
        self.log_file = folder / "server.log"
        self.data_dir = folder / "data"
        self.began = time.monotonic()
        with self.log_file.open("wb") as out:
            self.child = subprocess.Popen(
                [HEADWATER, command, "--data-dir", self.data_dir, "--ready-file", self.ready_file]
                + [*addresses, *declared, *map(str, flags)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=clean, cwd=folder,
            )
        until("the server is ready", 20, self._is_ready, pause=0.001)
        self.started_in = time.monotonic() - self.began
        addresses = json.loads(self.ready_file.read_text())["ready"]
        self.http, self.rtmp, self.ops = (addresses[name] for name in ("http", "rtmp", "ops"))
        self.pid = self.child.pid

    def _is_ready(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"the server ended:\n{self.log_file.read_text()}")
        return self.ready_file.exists()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Nobody waits for what is left to watch.
        self.child.send_signal(signal.SIGTERM)
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def settle(self):
        """Waits until its spare worker has started and measured: a server does that once, not once a stream."""
        time.sleep(1.0)
        last = -1.0
        while (now := cpu(self.pid)) != last:
            last = now
            time.sleep(1.0)

    def publish_url(self, stream="live"):
        return f"rtmp://{self.rtmp}/live/{KEY}-{stream}"

    def publish(self, path, stream="live", *flags):
        """An encoder that sends a file as it is, in real time."""
        return program([*FFMPEG, "-re", *flags, "-i", path, "-c", "copy", "-f", "flv", self.publish_url(stream)])

    def player(self, stream="live"):
        return Player(self.http, stream)

    def api(self, path):
        token = (self.data_dir / "admin-token").read_text().strip()
        connection = http.client.HTTPConnection(self.http, timeout=20)
        connection.request("GET", f"/api/v1/{path}", headers={"Authorization": f"Bearer {token}"})
        return json.loads(connection.getresponse().read())

    def metric(self, name):
        connection = http.client.HTTPConnection(self.ops, timeout=20)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        return [float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[{{ ]", line)]

    def workers(self):
        """Its children, the one that has worked most first."""
        found = {pid: used for pid, used in tree(self.pid).items() if pid != self.pid}
        return sorted(found, key=found.get, reverse=True)


class Player:
    """One connection that reads playlists and media."""

    def __init__(self, address, stream):
        self.connection = http.client.HTTPConnection(address, timeout=20)
        self.base = f"/live/{stream}/"

    def get(self, path):
        """Status and body."""
        self.connection.request("GET", self.base + path)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def renditions(self):
        """Paths of the media playlists, by name; empty until there is something to play."""
        status, body = self.get("index.m3u8")
        paths = re.findall(r"[^\s\"]+/index\.m3u8", body.decode()) if status == 200 else []
        return {path.split("/")[-2]: path for path in paths}

    def playlist(self, path, query=""):
        status, body = self.get(path + query)
        return body.decode() if status == 200 else ""

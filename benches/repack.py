"""Many streams that are only packed anew: beside nginx-rtmp and ffmpeg."""

import contextlib
import subprocess
import time

import lab
from lab import FFMPEG, Server, log
from report import Line

STREAMS = 26
WARM, SECONDS = 6, 20


@contextlib.contextmanager
def _nginx(folder):
    port = _free_port()
    conf = f"""
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log error;
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
events {{ worker_connections 1024; }}
rtmp {{ server {{ listen 127.0.0.1:{port}; chunk_size 65536;
  application live {{ live on; hls on; hls_path {folder}/hls; hls_fragment 2s; hls_playlist_length 12s; }} }} }}
"""
    (folder / "hls").mkdir()
    (folder / "hls").chmod(0o777)
    folder.chmod(0o755)
    (folder / "nginx.conf").write_text(f"user root;{conf}")
    with lab.program(["nginx", "-p", folder, "-c", folder / "nginx.conf"]) as process:
        lab.until("nginx listens", 10, lambda: _listens(port))
        yield process.pid, [f"rtmp://127.0.0.1:{port}/live/s{n}" for n in range(STREAMS)]


@contextlib.contextmanager
def _ffmpeg(folder):
    """One listening ffmpeg a stream, below one shell, so that they are one tree."""
    ports = [_free_port() for _ in range(STREAMS)]
    commands = []
    for n, port in enumerate(ports):
        (folder / f"f{n}").mkdir()
        hls = f"-c copy -f hls -hls_time 2 -hls_segment_type fmp4 -hls_flags delete_segments {folder}/f{n}/index.m3u8"
        commands.append(f"{' '.join(FFMPEG)} -listen 1 -i rtmp://127.0.0.1:{port}/live/s{n} {hls} &")
    script = "trap 'kill $(jobs -p)' TERM\n" + "\n".join(commands) + "\nwait; wait"
    with lab.program(["bash", "-c", script]) as process:
        lab.until("every ffmpeg listens", 20, lambda: _listening(ports))
        yield process.pid, [f"rtmp://127.0.0.1:{port}/live/s{n}" for n, port in enumerate(ports)]


@contextlib.contextmanager
def _headwater(folder):
    streams = [f"s{n}" for n in range(STREAMS)]
    # As much behind the edge as nginx keeps.
    flags = ["--ladder", "passthrough", "--max-streams", STREAMS, "--dvr", 12_000]
    with Server(folder, *flags, streams=streams) as server:
        time.sleep(1)
        yield server.pid, [server.publish_url(stream) for stream in streams]
        log(f"parts listed: {sum(server.metric('headwater_part_publish_delay_seconds_count')):.0f}")


def _free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _listens(port):
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _listening(ports):
    # Asked of the kernel: a connection would be taken for the encoder.
    with open("/proc/net/tcp") as table:
        open_ = {int(line.split()[1].split(":")[1], 16) for line in table.readlines()[1:] if line.split()[3] == "0A"}
    return open_.issuperset(ports)


def _measure(name, server):
    """CPU seconds a minute and megabytes, a stream."""
    with lab.scratch() as folder, server(folder) as (pid, urls), contextlib.ExitStack() as publishers:
        empty = lab.memory_mb(pid)
        for url in urls:
            command = [*FFMPEG, "-re", "-stream_loop", -1, "-i", lab.small_clip(), "-c", "copy", "-f", "flv", url]
            publishers.enter_context(lab.program(command))
            time.sleep(0.1)
        time.sleep(WARM)
        began, before = time.monotonic(), lab.cpu(pid)
        time.sleep(SECONDS)
        used = (lab.cpu(pid) - before) / (time.monotonic() - began) * 60 / STREAMS
        memory = (lab.memory_mb(pid) - (0 if name == "ffmpeg" else empty)) / STREAMS
        log(f"{name}: {used:.3f} CPU-s/min, {memory:.1f} MB a stream")
        return used, memory


def repack():
    """26 passthrough streams of 2.5 Mbit/s: CPU and memory of each."""
    lab.small_clip()
    ours = _measure("headwater", _headwater)
    nginx = _measure("nginx", _nginx)
    ffmpeg = _measure("ffmpeg", _ffmpeg)
    cells = [f"{cpu:.2f} CPU-s/min, {memory:.1f} MB" for cpu, memory in (ours, nginx, ffmpeg)]
    ratio = ours[0] / nginx[0]
    note = "media of 12 s in memory: 3.8 MB of it; nginx and ffmpeg write files"
    return [
        Line(f"{STREAMS} passthrough RTMP streams, 2.5 Mbit/s, each", f"{cells[0]} ({note}), ratio {ratio:.2f}",
             f"nginx-rtmp: {cells[1]}; ffmpeg remux: {cells[2]}", ratio, 1.5, 1.0)
    ]

"""What a ladder costs, how it looks, and how many fit: beside ffmpeg."""

import os
import re
import subprocess
import time

import lab
from lab import CLIP_SECONDS, FFMPEG, RUNGS, Server, log
from report import Line

CLIPS = ("hard", "easy")
PER_MINUTE = 60 / CLIP_SECONDS


def _hls(folder):
    """fMP4 HLS of five pictures and one sound, as a server would keep it."""
    variants = " ".join(f"v:{n},agroup:a,name:{lines}p" for n, (lines, _) in enumerate(RUNGS)) + " a:0,agroup:a,name:sound"
    return ["-f", "hls", "-hls_time", 2, "-hls_segment_type", "fmp4", "-hls_playlist_type", "event"] + [
        "-hls_flags", "single_file", "-var_stream_map", variants, folder / "%v.m3u8",
    ]


def as_most_people(source, folder):
    """Split, bicubic, veryfast, every rung encoded."""
    scales = [f"[s{n}]scale=-2:{lines}[v{n}]" for n, (lines, _) in enumerate(RUNGS) if n]
    graph = f"[0:v]split={len(RUNGS)}[v0]{''.join(f'[s{n}]' for n in range(1, len(RUNGS)))};{';'.join(scales)}"
    command = [*FFMPEG, "-i", source, "-filter_complex", graph]
    for n, (_, rate) in enumerate(RUNGS):
        command += ["-map", f"[v{n}]", f"-b:v:{n}", f"{rate}k"]
        command += [f"-maxrate:v:{n}", f"{rate * 105 // 100}k", f"-bufsize:v:{n}", f"{rate}k"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-g", 60, "-keyint_min", 60, "-sc_threshold", 0]
    return command + ["-map", "0:a", "-c:a", "aac", "-b:a", "128k", *_hls(folder)]


def as_well_as_it_can(source, folder):
    """What the server does, said to ffmpeg: a cascade of scalers, one thread an encoder, its settings of x264."""
    graph = "[0:v]split=2[v0][s1];"
    for n, (lines, _) in list(enumerate(RUNGS))[1:]:
        last = n == len(RUNGS) - 1
        kernel = "bicubic" if lines > 480 else "lanczos"
        graph += f"[s{n}]scale=-2:{lines}:flags={kernel}" + (f"[v{n}]" if last else f",split=2[v{n}][s{n + 1}];")
    command = [*FFMPEG, "-threads", 1, "-filter_complex_threads", 1, "-i", source, "-filter_complex", graph]
    for n, (_, rate) in enumerate(RUNGS):
        command += ["-map", f"[v{n}]", f"-b:v:{n}", f"{rate}k"]
        command += [f"-maxrate:v:{n}", f"{rate}k", f"-bufsize:v:{n}", f"{rate * 7 // 10}k"]
    command += ["-c:v", "libx264", "-preset", "superfast", "-g", 60, "-sc_threshold", 0, "-threads:v", 1]
    command += ["-x264-params", "scenecut=0:rc-lookahead=2:sync-lookahead=0:mbtree=1:bframes=1:b-adapt=0:trellis=1"]
    return command + ["-map", "0:a", "-c:a", "copy", *_hls(folder)]


def encoded_ladder(folder):
    """The default ladder with no rung passed through, as a file."""
    path = folder / "ladder.toml"
    rungs = "".join(f"[[rungs]]\nheight = {lines}\nbitrate_bps = {rate * 1000}\n" for lines, rate in RUNGS)
    path.write_text(f"passthrough = false\n{rungs}")
    return path


def ours(name, ladder, keep):
    """CPU seconds of the server for a clip sent in real time, its rungs kept as files; and what is wrong with the run."""
    with lab.scratch() as folder, Server(folder, "--ladder", ladder(folder) if ladder else "default") as server:
        server.settle()
        before = lab.cpu(server.pid)
        player = server.player()
        with server.publish(lab.clip(name)) as publisher:
            paths = lab.until("there is something to play", 20, player.renditions, pause=0.25)
            lab.until("the clip is sent", CLIP_SECONDS + 20, lambda: publisher.poll() is not None, pause=0.25)
        ended = lambda: all("ENDLIST" in player.playlist(path) for path in paths.values())
        lab.until("the playlists end", 60, ended, pause=0.25)
        used = lab.cpu(server.pid) - before
        wrong = _wrong(server, player, paths)
        if not wrong:
            save(player, paths, keep)
        return used, wrong


def _wrong(server, player, paths):
    """Why a run does not count: a machine that is too busy makes less than the whole ladder."""
    changes = [item["data"]["alive"] for item in server.api("events")["items"] if item["type"] == "rungs.changed"]
    if len(paths) <= len(RUNGS) or any(len(alive) < len(RUNGS) for alive in changes):
        return "rungs were given up"
    for name, path in paths.items():
        text = player.playlist(path)
        seconds = sum(length for _, length, gap in segments(text) if not gap)
        if abs(seconds - CLIP_SECONDS) > 0.5:
            return f"{name} is {seconds:.1f} s long or has gaps"
    return ""


def save(player, renditions, folder):
    """Each rendition as one file: its init section and all its segments but those that are listed as gaps."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in renditions.items():
        text = player.playlist(path)
        base = path.rsplit("/", 1)[0]
        init = re.search(r'#EXT-X-MAP:URI="([^"]+)"', text)[1]
        with (folder / f"{name}.mp4").open("wb") as out:
            for one in [init] + [one for one, _, gap in segments(text) if not gap]:
                status, body = player.get(f"{base}/{one}")
                if status != 200:
                    raise RuntimeError(f"{one}: {status}")
                out.write(body)


def segments(text):
    """Name, length in seconds, and whether it is a gap, of each segment of a playlist."""
    found, length, gap = [], 0.0, False
    for line in text.splitlines():
        if line.startswith("#EXTINF:"):
            length = float(line[8:].split(",")[0])
        elif line == "#EXT-X-GAP":
            gap = True
        elif line and not line.startswith("#"):
            found.append((line, length, gap))
            gap = False
    return found


def _beside(line, keep):
    with lab.scratch() as folder:
        (text, used, wall) = lab.run(line(lab.clip(keep.name), folder))
        keep.mkdir(parents=True, exist_ok=True)
        for lines, _ in RUNGS:
            (folder / f"{lines}p.m4s").rename(folder / "x.mp4")
            (keep / f"{lines}p.mp4").write_bytes((folder / "x.mp4").read_bytes())
    return used, wall


def _cost(what, ladder, line, label, folder, must, aim):
    ours_all, peers, faults = [], [], []
    for name in CLIPS:
        lab.clip(name)
    for name in CLIPS:
        # A run that does not count is no figure, good or bad: it is made again.
        for _ in range(3):
            used, wrong = ours(name, ladder, lab.KEPT / folder / "headwater" / name)
            if not wrong:
                break
            log(f"{name}: {wrong}: again")
        peer, _ = _beside(line, lab.KEPT / folder / "ffmpeg" / name)
        ours_all.append(used * PER_MINUTE)
        peers.append(peer * PER_MINUTE)
        if wrong:
            faults.append(f"{name}: {wrong}")
        log(f"{name}: {ours_all[-1]:.1f} beside {peers[-1]:.1f} CPU-s/min {wrong}")
    ratio = sum(ours_all) / sum(peers)
    each = lambda values: f"{sum(values) / 2:.1f} CPU-s/min ({values[0]:.1f} hard, {values[1]:.1f} easy)"
    note = f"no valid run, the machine was too busy ({'; '.join(faults)})" if faults else ""
    return [Line(what, f"{each(ours_all)}, ratio {ratio:.2f}", f"{label}: {each(peers)}", ratio, must, aim, note=note)]


def transcode():
    """Default ladder: the top rung is the publisher's own."""
    return _cost(
        "CPU of 1080p30, five rungs, default", None, as_most_people, "ffmpeg as most people write it", "default", 0.60, 0.45
    )


def encode():
    """Every rung encoded."""
    return _cost(
        "CPU of 1080p30, five rungs, all encoded", encoded_ladder, as_well_as_it_can, "the best ffmpeg line", "encoded", 1.05, 0.95
    )


def _vmaf(source, rung):
    """VMAF of a rung, seen at 1080p, every sixth picture; with its bit rate in kbit/s and the number of pictures."""
    graph = (
        "[0:v]setpts=PTS-STARTPTS,scale=1920:1080:flags=bicubic,format=yuv420p[rung];"
        "[1:v]setpts=PTS-STARTPTS,format=yuv420p[source];"
        "[rung][source]libvmaf=n_threads=2:n_subsample=6:shortest=1"
    )
    command = [lab.ffmpeg_vmaf(), "-hide_banner", "-nostdin", "-nostats", "-i", rung, "-i", source]
    text, _, _ = lab.run([*command, "-lavfi", graph, "-f", "null", "-"])
    probe = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "packet=size", "-of", "csv=p=0", rung]
    sizes = [int(size) for size in re.findall(r"\d+", subprocess.run(probe, capture_output=True, text=True, check=True).stdout)]
    return float(re.search(r"VMAF score: ([\d.]+)", text)[1]), sum(sizes) * 8 / 1000 / (len(sizes) / 30), len(sizes)


def quality():
    """Each encoded rung, from the runs that `transcode` kept (made first where they are missing)."""
    if not (lab.KEPT / "default/headwater/easy").exists() or not (lab.KEPT / "default/ffmpeg/easy").exists():
        transcode()
    lines = []
    for lines_, rate in RUNGS[1:]:
        differences, cells = [], {"headwater": [], "ffmpeg": []}
        for name in CLIPS:
            scores = {}
            for who in cells:
                file = lab.KEPT / "default" / who / name / f"{lines_}p.mp4"
                scores[who], kbps, pictures = _vmaf(lab.clip(name), file)
                cells[who].append(f"{scores[who]:.1f} at {kbps:.0f} kbit/s ({name})")
                log(f"{lines_}p {name} {who}: {cells[who][-1]}, {pictures} pictures")
            differences.append(scores["headwater"] - scores["ffmpeg"])
        worst = min(differences)
        what = f"VMAF of {lines_}p, {rate} kbit/s, seen at 1080p"
        lines.append(
            Line(what, ", ".join(cells["headwater"]) + f"; worst {worst:+.1f}", ", ".join(cells["ffmpeg"]), -worst, 1.0, 0.0,
                 must_text="not 1.0 lower", aim_text="not lower")
        )
    return lines


def capacity():
    """Ladders at once, each at real time with every rung."""
    cores = len(os.sched_getaffinity(0))
    seconds = 20
    clips = [lab.clip(name) for name in CLIPS]
    most, details = 0, []
    for count in range(1, 7):
        ids = [f"s{n}" for n in range(count)]
        with lab.scratch() as folder, Server(folder, "--max-streams", 8, streams=ids) as server:
            server.settle()
            before = lab.cpu(server.pid)
            publishers = []
            began = time.monotonic()
            for n, id in enumerate(ids):
                publisher = server.publish(clips[n % 2], id)
                publishers.append((publisher, publisher.__enter__()))
            try:
                time.sleep(4)
                ratios, alive = [], []
                while time.monotonic() - began < seconds:
                    time.sleep(2)
                    ratios += server.metric("headwater_encode_realtime_ratio")
                    alive += [len(server.api(f"streams/{id}")["rungs"]) for id in ids]
                used = (lab.cpu(server.pid) - before) / (time.monotonic() - began)
            finally:
                for publisher, _ in publishers:
                    publisher.__exit__(None, None, None)
        worst = min(ratios, default=0)
        fine = min(alive, default=0) == len(RUNGS) and worst >= 0.97
        details.append(f"{count}: ratio {worst:.2f}, {min(alive, default=0)} rungs, {used:.2f} cores")
        log(details[-1])
        if not fine:
            break
        most = count
    with lab.scratch() as folder:
        _, used, wall = lab.run(as_most_people(lab.clip("hard"), folder))
    speed = CLIP_SECONDS / wall
    log(f"ffmpeg: {speed:.2f} times real time, {used / CLIP_SECONDS:.2f} CPU seconds a second")
    beside = f"ffmpeg as most people write it: {speed:.1f} (hard clip, as fast as it goes)"
    return [Line(f"1080p30 default ladders at real time on {cores} cores", f"{most} ({'; '.join(details)})", beside, most, 2, 3, higher=True)]

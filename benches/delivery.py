"""From an access unit to the player: the delay of parts, what a worker's death costs, and how long a start takes."""

import datetime
import os
import re
import signal
import threading
import time

import lab
from lab import RUNGS, Server, log, percentile
from report import Line
from transcode import encoded_ladder, save, segments

PART_SECONDS = 0.25


class Follower:
    """A player of one rendition that asks for each part before it exists, and notes when which was listed."""

    def __init__(self, server, stream, path):
        self.player = server.player(stream)
        self.path = path
        # (when it was seen here in UTC seconds, when its first access unit came to the server, its length in seconds)
        self.parts = []
        self.stop = False
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop = True
        self.thread.join(25)

    def _follow(self):
        text, known = self.player.playlist(self.path), None
        while not self.stop:
            listed = _parts(text)
            now = time.time()
            for place, start, length in listed:
                if known is not None and place > known:
                    self.parts.append((now, start, length))
            known = max([place for place, _, _ in listed], default=known)
            hint = re.search(r'PRELOAD-HINT:TYPE=PART,URI="(\d+)\.(\d+)\.m4s"', text)
            if not hint:
                # It stands between two segments, or has ended.
                time.sleep(0.005)
                text = self.player.playlist(self.path) or text
                continue
            text = self.player.playlist(self.path, f"?_HLS_msn={hint[1]}&_HLS_part={hint[2]}") or text


def _parts(text):
    """The parts of a playlist: place, UTC of the first access unit, length."""
    found, at = [], 0.0
    for line in text.splitlines():
        if stamp := re.match(r"#EXT-X-PROGRAM-DATE-TIME:(.*)Z", line):
            at = datetime.datetime.fromisoformat(stamp[1] + "+00:00").timestamp()
        elif part := re.match(r'#EXT-X-PART:DURATION=([\d.]+),URI="(\d+)\.(\d+)\.m4s"', line):
            found.append(((int(part[2]), int(part[3])), at, float(part[1])))
            at += float(part[1])
    return found


def latency():
    """Access unit received to part listed, beyond the part's own length."""
    lines = []
    for what, ladder, name, musts, aims in (
        ("transcoded", encoded_ladder, "720p", (60, 200), (30, 100)),
        ("passthrough", None, "1080p", (15, 60), (8, 30)),
    ):
        with lab.scratch() as folder, Server(folder, "--ladder", ladder(folder) if ladder else "passthrough") as server:
            server.settle()
            with server.publish(lab.clip("easy"), "live", "-stream_loop", -1):
                player = server.player()
                paths = lab.until("there is something to play", 20, player.renditions)
                time.sleep(4)
                rendition = paths.get(name) or next(path for other, path in paths.items() if other != "audio")
                with Follower(server, "live", rendition) as follower:
                    time.sleep(20)
        delays = [(seen - start - length) * 1000 for seen, start, length in follower.parts]
        if len(delays) < 40:
            raise RuntimeError(f"only {len(delays)} parts were listed")
        for percent, must, aim in ((50, musts[0], aims[0]), (99, musts[1], aims[1])):
            value = percentile(delays, percent)
            lines.append(
                Line(f"access unit received → part listed, {what}, p{percent}", f"part {value:+.0f} ms", "the part's own length",
                     value, must, aim, must_text=f"+{must} ms", aim_text=f"+{aim} ms")
            )
            log(f"{what} p{percent}: {value:+.0f} ms of {len(delays)} parts")
    return lines


def crash():
    """SIGKILL of a stream's worker, again and again: how long until its playlists advance, and what is lost."""
    kills, a_stream = 20, 3  # a stream replays so many deaths a minute
    streams = [f"s{n}" for n in range(-(-kills // a_stream))]
    pauses, lost, reduced = [], 0, 0
    with lab.scratch() as folder, Server(folder, "--max-streams", 4, streams=streams) as server:
        for stream in streams:
            server.settle()
            with server.publish(lab.clip("easy"), stream) as publisher:
                player = server.player(stream)
                paths = lab.until("there is something to play", 20, lambda: "240p" in player.renditions() and player.renditions())
                with Follower(server, stream, paths["240p"]) as follower:
                    lab.until("parts come", 20, lambda: len(follower.parts) > 6)
                    for _ in range(min(a_stream, kills - len(pauses))):
                        pauses.append(_kill(server, follower))
                        time.sleep(1)
                    time.sleep(1)
                publisher.terminate()
                publisher.wait()
                ended = lambda: all("ENDLIST" in player.playlist(path) for path in paths.values())
                lab.until("the playlists end", 30, ended, pause=0.1)
                lost += _lost(player, paths)
                changes = [item["data"]["alive"] for item in server.api("events")["items"] if item["type"] == "rungs.changed" and item["stream"] == stream]
                reduced += any(len(alive) < len(RUNGS) for alive in changes)
            log(f"{stream}: {', '.join(f'{pause:.2f}' for pause in pauses[-a_stream:])} s, {lost} pictures lost so far")
    shed = f" (rungs were given up for want of CPU in {reduced} of {len(streams)} streams, and count)" if reduced else ""
    what = f"worker SIGKILL → playlist advances, {len(pauses)} kills"
    return [
        Line(f"{what}, p50", f"{percentile(pauses, 50):.2f} s", "—", percentile(pauses, 50), 2, 1),
        Line(f"{what}, max", f"{max(pauses):.2f} s", "—", max(pauses), 5, 2.5),
        Line("pictures lost by them, any rung", f"{lost}{shed}", "—", lost, 0, 0),
    ]


def _kill(server, follower):
    """The end of the longest pause of the six seconds after the kill, from the kill."""
    victim = server.workers()[0]
    before = len(follower.parts)
    killed = time.time()
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        time.sleep(0.05)
        times = [killed] + [seen for seen, _, _ in follower.parts[before:]]
        steps = [(later - earlier, later - killed) for earlier, later in zip(times, times[1:])]
        # It goes on when the parts come at their pace again: as many as the time since asks for.
        if steps and times[-1] - killed > 2 and len(steps) * PART_SECONDS > 1.5:
            return max(steps)[1]
    raise RuntimeError("the playlist did not go on within 10 s")


def _lost(player, paths):
    """Pictures missing from the rungs: each picture is 1/30 s of a playlist."""
    lost = 0
    with lab.scratch() as folder:
        save(player, paths, folder)
        for name, path in paths.items():
            if name == "audio":
                continue
            # A gap counts as lost, too.
            seconds = sum(length for _, length, _ in segments(player.playlist(path)))
            probe = ["ffprobe", "-v", "error", "-select_streams", "v", "-count_packets", "-show_entries", "stream=nb_read_packets"]
            count, _, _ = lab.run([*probe, "-of", "csv=p=0", folder / f"{name}.mp4"])
            pictures = int(re.search(r"\d+", count)[0])
            missing = abs(round(seconds * 30) - pictures)
            if missing:
                log(f"{name}: {pictures} pictures in {seconds:.2f} s")
            lost += missing
    return lost


def start():
    """`serve` to ready."""
    times = []
    with lab.scratch() as folder:
        for _ in range(10):
            with Server(folder) as server:
                times.append(server.started_in)
    value = percentile(times, 50)
    return [Line("`serve` start → ready, p50 of 10", f"{value:.3f} s (max {max(times):.3f})", "—", value, 0.5, 0.1)]

"""What a viewer sees: in hls.js in headless Chromium, through the player page."""

import json
import re
import subprocess
import time
from pathlib import Path

import lab
from lab import Server, log, percentile
from report import Line

SCRIPT = Path(__file__).resolve().parent / "browser.mjs"


def glass():
    """Glass to glass: the demo's burnt clock read from the picture in the browser."""
    with lab.scratch() as folder, Server(folder, command="demo") as server:
        player = server.player("demo")
        lab.until("there is something to play", 30, player.renditions)
        time.sleep(5)
        text, _, _ = lab.run(["node", SCRIPT, "glass", f"http://{server.http}/watch/demo", 20])
    seen = json.loads(text.strip().splitlines()[-1])
    if len(seen["delays"]) < 60:
        raise RuntimeError(f"only {len(seen['delays'])} clocks were read, {seen['unread']} could not be")
    p50, p95 = (percentile(seen["delays"], percent) / 1000 for percent in (50, 95))
    log(f"{len(seen['delays'])} clocks read, {seen['unread']} not; heights {seen['levels']}; hls.js says {percentile(seen['latency'] or [0], 50)} ms")
    heights = "/".join(f"{height}p" for height in seen["levels"])
    pace = len(seen["delays"] + [None] * seen["unread"]) / 20
    return [
        Line("glass to glass in hls.js, loopback, 250 ms parts, p50", f"{p50:.2f} s (p95 {p95:.2f} s, {heights}, {pace:.0f} pictures a second)", "—",
             p50, 1.5, 1.0)
    ]


def join():
    """A viewer waits on the page; from the encoder's start to the first picture."""
    times = []
    for _ in range(4):
        with lab.scratch() as folder, Server(folder) as server:
            server.settle()
            command = ["node", SCRIPT, "join", f"http://{server.http}/watch/live"]
            with lab.program(command, stdout=subprocess.PIPE, text=True) as browser:
                if browser.stdout.readline().strip() != "open":
                    raise RuntimeError("the page did not open")
                time.sleep(3)
                began = time.time()
                with server.publish(lab.clip("easy"), "live"):
                    shown = json.loads(browser.stdout.readline())
        times.append(shown / 1000 - began)
        log(f"{times[-1]:.2f} s")
    value = percentile(times, 50)
    text = f"{value:.2f} s (of {len(times)}; {min(times):.2f} to {max(times):.2f})"
    return [Line("publish → first picture in the browser, p50", text, "—", value, 3, 1.5)]

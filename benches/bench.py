"""Runs the benches named on the command line, or all, and writes RESULTS.md."""

import importlib
import os
import signal
import sys
import time
import traceback

import report

# The order of the table.
BENCHES = ("transcode", "encode", "quality", "capacity", "latency", "glass", "join", "repack", "serving", "held", "crash", "start")


def find(name):
    for module in ("transcode", "delivery", "repack", "serving", "browser"):
        found = getattr(importlib.import_module(module), name, None)
        if found and found.__module__ == module:
            return found
    raise SystemExit(f"there is no bench {name}; there are {' '.join(BENCHES)}")


def main():
    # What a bench has started ends with it, also when it is told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    names = sys.argv[1:] or BENCHES
    failed = []
    for name, bench in [(name, find(name)) for name in names]:
        print(f"{name}: {bench.__doc__.splitlines()[0]}", flush=True)
        before, began = os.getloadavg()[0], time.monotonic()
        try:
            lines = bench()
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        report.keep(name, lines, (before, os.getloadavg()[0]))
        for line in lines:
            print(f"  {line.what}: {line.ours} | {line.beside} | {line.verdict()}  [{time.monotonic() - began:.0f} s]", flush=True)
    print("\n" + report.write(BENCHES))
    if failed:
        raise SystemExit(f"failed: {' '.join(failed)}")


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Measures the server beside its peers and writes RESULTS.md.
# usage: benches/run.sh [BENCH...]     the benches: see BENCHES in bench.py; all when none is named
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet -p headwater
PYTHONDONTWRITEBYTECODE=1 exec python3 benches/bench.py "$@"

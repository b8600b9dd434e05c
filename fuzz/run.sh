#!/usr/bin/env bash
# Runs every fuzz target for a number of seconds each (default 30), or only those named after it; one on each core.
# A find ends the run and is left under fuzz/artifacts; its input becomes a unit test.
set -euo pipefail
cd "$(dirname "$0")/.."
export SECONDS_EACH=${1:-30}
shift || true
# Coverage instrumentation is an unstable option; this lets the pinned compiler take it.
export RUSTC_BOOTSTRAP=1
[ $# -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
[ $# -gt 0 ] && targets=("$@")

# No address sanitizer: the parsers are safe Rust, and without it the same time tries several times as much.
cargo fuzz build --sanitizer none

one() {
  local target=$1 log
  log=$(mktemp)
  mkdir -p "fuzz/corpus/$target" "fuzz/seeds/$target"
  if ! cargo fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
    -max_total_time="$SECONDS_EACH" -timeout=1 -rss_limit_mb=256 -max_len=65536 -verbosity=0 \
    -print_final_stats=1 >"$log" 2>&1; then
    cat "$log"
    rm -f "$log"
    # 255 makes xargs start no further target.
    exit 255
  fi
  local runs peak
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  peak=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
  echo "fuzz: $target: $runs inputs in $SECONDS_EACH s, $peak MB, nothing found"
  rm -f "$log"
}
export -f one
printf '%s\0' "${targets[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -c 'one "$1"' _

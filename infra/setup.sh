#!/usr/bin/env bash
# Installs what a make target needs on Debian or Ubuntu, and does nothing where it is there already.
# usage: infra/setup.sh build|check|test|bench|fuzz
set -euo pipefail

root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

packages() {
  local missing=()
  for name in "$@"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return
  echo "setup: installing ${missing[*]}"
  root apt-get update -qq
  root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# A cargo subcommand, kept where cargo keeps its programs, so that it is compiled once per machine.
tool() {
  command -v "$1" >/dev/null && return
  echo "setup: compiling $1 (once)"
  env -u CARGO_TARGET_DIR cargo install --locked "$1"
}

build() {
  packages ca-certificates curl build-essential pkg-config clang libclang-dev \
    libavcodec-dev libavformat-dev libavfilter-dev libavutil-dev libswscale-dev libswresample-dev
  command -v npm >/dev/null || packages nodejs npm
  export PATH="$HOME/.cargo/bin:$PATH"
  if ! command -v cargo >/dev/null; then
    echo "setup: installing Rust with rustup"
    curl --proto '=https' --tlsv1.2 -fsSL https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none
  fi
  # rust-toolchain.toml names the version; rustup fetches it here unless told not to.
  cargo --version >/dev/null
}

check() { build; tool cargo-deny; }

test_() {
  build
  tool cargo-nextest
  packages ffmpeg chromium procps python3-venv nginx libnginx-mod-rtmp strace \
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
    gstreamer1.0-plugins-ugly gstreamer1.0-libav
}

# The peers, and what loads them; the fonts stand on the slides of a clip.
bench() {
  build
  packages ffmpeg chromium fonts-dejavu-core nginx libnginx-mod-rtmp python3-venv wrk
}

fuzz() {
  build
  tool cargo-fuzz
}

case "${1:-}" in
  build) build ;;
  check) check ;;
  test) test_ ;;
  bench) bench ;;
  fuzz) fuzz ;;
  *) echo "usage: $0 build|check|test|bench|fuzz" >&2; exit 2 ;;
esac

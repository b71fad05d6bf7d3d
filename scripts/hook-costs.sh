#!/usr/bin/env bash
# Times the hooks in a pod with a leader: nanoseconds of each case through the hook, of libc alone, and of the
# difference, tab-separated; then what the system calls cost that the hooks make beside.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/prepare.sh gcc ip valgrind # callgrind.h
scripts/build.sh >&2
cargo run --quiet -p ctests --bin hooks

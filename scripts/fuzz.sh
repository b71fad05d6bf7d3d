#!/bin/sh
# Builds every fuzz target on the stable toolchain and runs each for a while.
#
#   scripts/fuzz.sh [SECONDS]      default 5 a target
#
# A crash leaves its input in xds-runtime/fuzz/artifacts/TARGET/ and ends the script with an error.
set -eu

seconds=${1:-5}
case $seconds in
    '' | *[!0-9]*) echo "usage: scripts/fuzz.sh [SECONDS]" >&2; exit 2 ;;
esac

cd "$(dirname "$0")/../xds-runtime/fuzz"
host=$(rustc -vV | sed -n 's/^host: //p')

# What cargo-fuzz passes, without the address sanitizer, which needs a nightly toolchain. With --target the flags
# do not reach build scripts and proc macros.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
export RUSTFLAGS
cargo build --release --target "$host"

for source in fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    mkdir -p "corpus/$target" "artifacts/$target"
    echo "fuzz $target: ${seconds} s"
    log=artifacts/$target.log
    if ! "target/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=4096 -artifact_prefix="artifacts/$target/" -print_final_stats=1 "corpus/$target" 2>"$log"; then
        tail -n 40 "$log" >&2
        echo "fuzz $target: FAILED, input in xds-runtime/fuzz/artifacts/$target/" >&2
        exit 1
    fi
    grep -E 'stat::number_of_executed_units|cov:' "$log" | tail -n 2
done

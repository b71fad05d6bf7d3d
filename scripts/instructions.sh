#!/usr/bin/env bash
# Counts instructions of the benchmarks of xds-runtime and of the hooks, and compares them with docs/instructions.tsv:
# fails where a case takes 5 % more or less. Counts are the same on a busy machine as on an idle one.
# Usage: scripts/instructions.sh [--update]   --update writes docs/instructions.tsv
set -euo pipefail
cd "$(dirname "$0")/.."

[[ $(uname -m) == x86_64 ]] || {
  echo "the committed counts are those of x86_64" >&2
  exit 1
}
scripts/prepare.sh gcc ip valgrind
scripts/build.sh
# The same options as with any other use of the benchmarks: what the compiler inlines depends on them.
benchmarks=$(cargo bench -p xds-runtime --bench runtime --no-run --message-format=json |
  sed -n 's/.*"executable":"\([^"]*\/runtime-[^"]*\)".*/\1/p')
cargo build --quiet -p ctests --bins

dumps=${CARGO_TARGET_DIR:-target}/instructions
rm -rf "$dumps"
mkdir -p "$dumps"
valgrind --quiet --tool=callgrind --instr-atstart=no --compress-strings=no --compress-pos=no \
  --callgrind-out-file="$dumps/runtime" "$benchmarks" --counted
cargo run --quiet -p ctests --bin hooks -- --counted "$dumps/hooks"
cargo run --quiet -p ctests --bin instructions -- "$dumps" docs/instructions.tsv "$@"

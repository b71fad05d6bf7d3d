#!/usr/bin/env bash
# Measures ldmesh beside what one would otherwise run and makes docs/performance.md of it, with its plots.
# Usage: scripts/bench.sh [--quick]   quick: shows in two minutes that it works; the document is target/bench/performance.md
set -euo pipefail
cd "$(dirname "$0")/.."

document=docs/performance.md quick=()
if [[ ${1:-} == --quick ]]; then
  document=target/bench/performance.md quick=(--quick)
fi

scripts/prepare.sh gcc valgrind curl ip ss nginx haproxy microsocks iptables git +libnginx-mod-stream +proxychains4 +libsocket-wrapper
scripts/build.sh
scripts/envoy.sh >/dev/null
scripts/coredns.sh >/dev/null
# The harness's own programs, too.
cargo build -p ctests -p bench --bins
bench=${CARGO_TARGET_DIR:-target}/debug/bench

for part in hooks side-by-side names programs scale; do
  "$bench" measure "$part" "${quick[@]}"
done
"$bench" report --document "$document"
echo "made $document"

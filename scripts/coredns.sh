#!/usr/bin/env bash
# Makes sure of a real CoreDNS to compare look-ups with: builds it from ctests/coredns into the target directory; prints
# its path.
set -euo pipefail
cd "$(dirname "$0")/.."

module=$PWD/ctests/coredns
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")
program=$folder/coredns-$(cat "$module"/{go.mod,go.sum,main.go} | sha256sum | cut -c1-12)
mkdir -p "$folder"
exec 9>"$folder/coredns.lock" # tests run side by side
flock 9
if ! [[ -e $program ]]; then
  scripts/prepare.sh go >&2
  cd "$module"
  go build -trimpath -ldflags='-s -w' -o "$program.new" . >&2
  mv "$program.new" "$program"
fi
echo "$program"

#!/usr/bin/env bash
# Makes sure of the control plane that does things wrong (ctests/go-control-plane), built into the target directory;
# prints its path. Ends with status 3 where the machine's Go is too old for it.
set -euo pipefail
cd "$(dirname "$0")/.."

module=$PWD/ctests/go-control-plane
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")
program=$folder/go-control-plane-$(cat "$module"/go.{mod,sum} "$module"/*.go | sha256sum | cut -c1-12)
mkdir -p "$folder"
exec 9>"$folder/go-control-plane.lock" # tests run side by side
flock 9
if ! [[ -e $program ]]; then
  scripts/prepare.sh go >&2
  cd "$module"
  needed=$(awk '$1 == "go" { print $2 }' go.mod)
  found=$(GOTOOLCHAIN=local go env GOVERSION)
  found=${found#go}
  if [[ $(printf '%s\n' "$needed" "${found%% *}" | sort -V | head -1) != "$needed" ]]; then
    echo "Go $found is too old for ctests/go-control-plane, which needs $needed" >&2
    exit 3
  fi
  go build -trimpath -ldflags='-s -w' -o "$program.new" . >&2
  mv "$program.new" "$program"
fi
echo "$program"

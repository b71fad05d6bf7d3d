#!/usr/bin/env bash
# Makes sure of a real helm to test the chart with: builds it from k8s/e2e/go.mod into the target directory; prints its
# path.
set -euo pipefail
cd "$(dirname "$0")/.."

module=$PWD/k8s/e2e
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/helm-$(cat "$module"/go.{mod,sum} | sha256sum | cut -c1-12)")
mkdir -p "${folder%/*}"
exec 9>"$folder.lock" # tests run side by side
flock 9
if ! [[ -e $folder/helm ]]; then
  scripts/prepare.sh go >&2
  mkdir -p "$folder/new"
  cd "$module"
  go build -trimpath -ldflags='-s -w' -o "$folder/new/" tool >&2
  mv "$folder/new/helm" "$folder/helm"
  rmdir "$folder/new"
fi
echo "$folder/helm"

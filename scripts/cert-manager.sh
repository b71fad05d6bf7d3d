#!/usr/bin/env bash
# Makes sure of a real cert-manager to test the chart with: builds its controllers and its cainjector, one program, from
# ctests/cert-manager into the target directory; prints the folder, which also holds cert-manager's `crds.yaml`.
set -euo pipefail
cd "$(dirname "$0")/.."

module=$PWD/ctests/cert-manager
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/cert-manager-$(cat "$module"/{go.mod,go.sum,main.go} | sha256sum | cut -c1-12)")
mkdir -p "${folder%/*}"
exec 9>"$folder.lock" # tests run side by side
flock 9
if ! [[ -e $folder/crds.yaml ]]; then
  scripts/prepare.sh go >&2
  mkdir -p "$folder"
  cd "$module"
  go build -trimpath -ldflags='-s -w' -o "$folder/cert-manager" . >&2
  # Each file begins without a mark of its own.
  for file in "$(go list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)"/deploy/crds/*.yaml; do
    printf -- '---\n'
    cat "$file"
  done >"$folder/crds.new"
  mv "$folder/crds.new" "$folder/crds.yaml"
fi
echo "$folder"

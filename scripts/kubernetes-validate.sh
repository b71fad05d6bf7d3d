#!/usr/bin/env bash
# Makes sure of kubernetes-validate, which has Kubernetes' schemas, in a virtual environment of the target directory;
# prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.36.0
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/kubernetes-validate-$version")
mkdir -p "${folder%/*}"
exec 9>"$folder.lock" # tests run side by side
flock 9
if ! [[ -e $folder/installed ]]; then
  scripts/prepare.sh python3 >&2
  python3 -m venv --clear "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check "kubernetes-validate==$version" >&2
  touch "$folder/installed"
fi
echo "$folder/bin/kubernetes-validate"

#!/usr/bin/env bash
# Builds what is shipped, side by side in the target directory's release folder: libldmesh.so, and
# ldmesh as one static binary that runs in any image.
set -euo pipefail
cd "$(dirname "$0")/.."

release=${CARGO_TARGET_DIR:-target}/release
# Naming both packages gives both commands the same features of every dependency, so that each is
# built once; --lib keeps the first from linking a dynamic ldmesh that the second would replace.
cargo build --release -p ldmesh-shim -p ldmesh --lib
cargo rustc --release -p ldmesh --bin ldmesh -- -C target-feature=+crt-static

# A static-pie is told from a dynamic program by its lack of a loader.
if readelf --program-headers --wide "$release/ldmesh" | grep -q INTERP; then
  echo "$release/ldmesh is not static" >&2
  exit 1
fi

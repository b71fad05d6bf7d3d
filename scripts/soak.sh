#!/usr/bin/env bash
# Soaks the release builds (scripts/build.sh) and prints the report that CI prints after a minute.
# Usage: scripts/soak.sh [length] [seed]     length: 90s, 10m; seed: as an earlier run printed it
set -euo pipefail
cd "$(dirname "$0")/.."

export LDMESH_SOAK=${1:-10m}
if [[ -n ${2:-} ]]; then
  export LDMESH_SOAK_SEED=$2
fi
exec cargo test -p ctests --test soak -- --nocapture

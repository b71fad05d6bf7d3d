#!/usr/bin/env bash
# Makes a small Debian with a JRE for the demo's images, as a tar file for `docker import`; prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."

base=$(realpath -m "${CARGO_TARGET_DIR:-target}/java-base.tar")
mkdir -p "${base%/*}"
exec 9>"$base.lock" # tests run side by side
flock 9
if ! [[ -e $base ]]; then
  scripts/prepare.sh mmdebstrap >&2
  # As in scripts/rootfs.sh: nothing is configured, and so no alternative makes a link to java.
  mmdebstrap --quiet --variant=extract --include=base-files,netbase,libc6,openjdk-17-jre-headless \
    --aptopt='Acquire::Check-Valid-Until "false"' --format=tar bookworm "$base.new" http://deb.debian.org/debian >&2
  mv "$base.new" "$base"
fi
echo "$base"

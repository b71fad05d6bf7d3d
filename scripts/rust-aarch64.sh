#!/usr/bin/env bash
# Unpacks Debian sid's Rust with the standard library for aarch64, where rustup cannot be asked for one, and
# the C libraries to run its programs with; prints the path of its rustc. It is made where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/rust-aarch64")
mkdir -p "${folder%/*}"
exec 9>"$folder.lock"
flock 9
if ! [[ -x $folder/rustc ]]; then
  scripts/prepare.sh mmdebstrap >&2
  rm -rf "$folder"
  mkdir -p "$folder/sid"
  # As in scripts/rootfs.sh.
  mmdebstrap --quiet --variant=extract --architectures=amd64,arm64 --aptopt='Acquire::Check-Valid-Until "false"' \
    --include=rustc,libstd-rust-dev:amd64,libstd-rust-dev:arm64,libc6:arm64,libgcc-s1:arm64,musl:arm64 \
    --format=tar sid - http://deb.debian.org/debian |
    tar --extract --no-same-owner --exclude='./dev/*' --exclude='./usr/share/*' --directory "$folder/sid"
  # Its compiler is for a newer glibc than this machine's may be, so it runs with its own.
  cat >"$folder/rustc.new" <<EOF
#!/bin/sh
exec '$folder/sid/usr/lib64/ld-linux-x86-64.so.2' --library-path '$folder/sid/usr/lib/x86_64-linux-gnu' \\
  '$folder/sid/usr/bin/rustc' --sysroot '$folder/sid/usr' "\$@"
EOF
  chmod +x "$folder/rustc.new"
  mv "$folder/rustc.new" "$folder/rustc"
fi
echo "$folder/rustc"

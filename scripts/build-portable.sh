#!/usr/bin/env bash
# Builds the one libldmesh.so for glibc 2.17 and newer and for musl into dist/, and checks what it needs.
# Usage: scripts/build-portable.sh
set -euo pipefail
cd "$(dirname "$0")/.."

target=x86_64-unknown-linux-gnu
out=dist/libldmesh-x86_64.so

tools=$(scripts/portable-tools.sh)
PATH=$tools:$PATH cargo zigbuild --release -p ldmesh-shim --target "$target.2.17"
mkdir -p dist
cp "${CARGO_TARGET_DIR:-target}/$target/release/libldmesh.so" "$out.new"
# Wanted for __tls_get_addr. On glibc the loader is there anyway; musl has the symbol in its only file.
"$tools/patchelf" --remove-needed ld-linux-x86-64.so.2 "$out.new"
mv "$out.new" "$out" # a process may have the old one loaded

scripts/check-portable.sh "$out"

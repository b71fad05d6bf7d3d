#!/usr/bin/env bash
# Builds the one libldmesh.so of an architecture, for glibc 2.17 and newer and for musl, into dist/, and checks what it
# needs.
# Usage: scripts/build-portable.sh [x86_64|aarch64]
set -euo pipefail
cd "$(dirname "$0")/.."

architecture=${1:-x86_64}
case $architecture in
  x86_64) loader=ld-linux-x86-64.so.2 ;;
  aarch64) loader=ld-linux-aarch64.so.1 ;;
  *)
    echo "usage: $0 [x86_64|aarch64]" >&2
    exit 2
    ;;
esac
target=$architecture-unknown-linux-gnu
out=dist/libldmesh-$architecture.so
built=${CARGO_TARGET_DIR:-target}

tools=$(scripts/portable-tools.sh)
# A toolchain without the target's standard library builds nothing for it.
if ! [[ -d $(rustc --print sysroot)/lib/rustlib/$target ]]; then
  RUSTC=$(scripts/rust-aarch64.sh)
  export RUSTC
  # What another compiler has built would be built anew at each change between the two.
  built=$built/rust-aarch64/built
fi
PATH=$tools:$PATH CARGO_TARGET_DIR=$built cargo zigbuild --release -p ldmesh-shim --target "$target.2.17"
mkdir -p dist
cp "$built/$target/release/libldmesh.so" "$out.new"
# Wanted for __tls_get_addr. On glibc the loader is there anyway; musl has the symbol in its only file.
"$tools/patchelf" --remove-needed "$loader" "$out.new"
mv "$out.new" "$out" # a process may have the old one loaded

scripts/check-portable.sh "$out"

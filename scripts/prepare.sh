#!/usr/bin/env bash
# Installs what the scripts need and the machine lacks (Debian, Ubuntu); elsewhere, names it.
# Usage: scripts/prepare.sh [command|+package...]   the commands and packages to make sure of
set -euo pipefail

declare -A package=(
  [gcc]=gcc [g++]=g++ [curl]=curl [strace]=strace [ip]=iproute2 [ss]=iproute2 [python3]=python3 [perl]=perl
  [wget]=wget [setpriv]=util-linux [unshare]=util-linux [git]=git [readelf]=binutils [musl-gcc]=musl-tools
  [ssh]=openssh-client [sshd]=openssh-server [java]=openjdk-17-jre-headless [javac]=openjdk-17-jdk-headless
  [node]=nodejs [php]=php-cli [escript]=erlang-base [go]=golang-go [tclsh]=tcl [aria2c]=aria2
  [nc.openbsd]=netcat-openbsd [nc.traditional]=netcat-traditional
  [psql]=postgresql-client [sysctl]=procps [flock]=util-linux [redis-cli]=redis-tools [nginx]=nginx-light [apache2]=apache2-bin [initdb]=postgresql [cgi-fcgi]=libfcgi-bin
  [setarch]=util-linux [mariadbd]=mariadb-server-core [mariadb]=mariadb-client-core [mvn]=maven [qemu-aarch64]=qemu-user [etcd]=etcd-server
  [dockerd]=docker.io [docker]=docker.io [aarch64-linux-gnu-gcc]=gcc-aarch64-linux-gnu
)

if ! command -v cargo >/dev/null; then
  echo "cargo is missing: install Rust 1.95 or newer (https://rustup.rs), then run this again" >&2
  exit 1
fi

# has COMMAND: /usr/sbin is not in every user's PATH, and PHP-FPM and PostgreSQL's server carry a version.
has() {
  PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null ||
    compgen -G "/usr/sbin/$1[0-9].[0-9]" >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/$1" >/dev/null
}

missing=()
for command in "$@"; do
  # Debian's name of a package that has no command of its own.
  if [[ $command == +* ]]; then
    dpkg -s "${command#+}" &>/dev/null || missing+=("${command#+}")
    continue
  fi
  has "$command" ||
    missing+=("${package[$command]:-$command}")
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
# Tests start servers themselves; installing one must not.
policy=/usr/sbin/policy-rc.d
if ! [[ -e $policy ]]; then
  trap '"${sudo[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
  "${sudo[@]}" chmod 755 "$policy"
fi
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -o DPkg::Lock::Timeout=300 -y -qq --no-install-recommends "${missing[@]}" >/dev/null

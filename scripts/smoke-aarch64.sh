#!/usr/bin/env bash
# Runs dist/libldmesh-aarch64.so (scripts/build-portable.sh aarch64) under qemu-user with Debian sid's glibc and musl,
# in a pod whose control plane and backends are of this machine (scripts/build.sh). Prints a line for each thing that
# was shown; fails at the first that is not so.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
if [[ ${1:-} != --inside ]]; then
  scripts/prepare.sh qemu-aarch64 ip
  cargo build --quiet -p ctests --bins
  root=$(dirname "$(scripts/rust-aarch64.sh)")/sid
  tools=$(scripts/portable-tools.sh)
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # qemu-user (7.2) knows no SO_COOKIE, without which the library leaves a socket alone: here it is the inode.
  cat >"$work/cookie.c" <<'END'
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
long syscall(long number, long a, long b, long c, long d, long e, long f) {
    struct stat file;
    if (number == SYS_getsockopt && b == SOL_SOCKET && c == 57 && !fstat(a, &file))
        return *(unsigned long *)d = file.st_ino, 0;
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return (unsigned long)x0 > -4096UL ? (errno = -x0, -1) : x0;
}
END
  for libc in gnu.2.17 musl; do
    mkdir "$work/${libc%%.*}"
    "$tools/python-zig" cc -target "aarch64-linux-$libc" -shared -fPIC -fno-sanitize=all -O1 \
      -o "$work/${libc%%.*}/cookie.so" "$work/cookie.c"
    for name in libc_version loaded lookup dial fork_after_lookup system_calls; do
      "$tools/python-zig" cc -target "aarch64-linux-$libc" -dynamic -fno-sanitize=all -std=gnu11 -O1 -pthread \
        -o "$work/${libc%%.*}/$name" "ctests/c/$name.c"
    done
  done
  cp dist/libldmesh-aarch64.so "$work/libldmesh.so"
  "$target/debug/pod" -- "$0" --inside "$work" "$root"
  exit
fi

work=$2 root=$3
pids=()
trap 'kill -9 "${pids[@]}" 2>/dev/null; wait 2>/dev/null || true' EXIT

fail() {
  echo "NOT SO: $*" >&2
  exit 1
}
# until_true WHAT COMMAND...: polls; the deadline is a failure.
until_true() {
  local deadline=$((SECONDS + 10)) what=$1
  shift
  until "$@"; do
    ((SECONDS < deadline)) || fail "not in time: $what"
    sleep 0.05
  done
}
listening() { (exec 3<>"/dev/tcp/${1/://}") 2>/dev/null; }

for n in 1 2 3; do
  "$target/debug/backend" --name "greeter-$n" --mode echo --listen "127.0.1.$n:8080" >/dev/null &
  pids+=($!)
  until_true "greeter-$n listens" listening "127.0.1.$n:8080"
done
"$target/release/ldmesh" serve k8s/demo --listen 127.0.0.1:15010 >"$work/serve.log" 2>&1 &
pids+=($!)
until_true "ldmesh serve listens" listening 127.0.0.1:15010

# Where programs look for their loader and libraries. Everything else is the pod's.
mkdir "$work/root"
ln -s "$root/usr/lib" "$work/root/lib"
plain() { qemu-aarch64 -L "$work/root" "$work/$libc/$1" "${@:2}"; }
# There is no agent of this architecture, so a thread leads. An emulated process is slow to be ready.
mesh() {
  local status=0
  qemu-aarch64 -L "$work/root" -E LD_PRELOAD="$work/libldmesh.so:$work/$libc/cookie.so" -E LDMESH_XDS=http://127.0.0.1:15010 \
    -E LDMESH_LEAD=thread -E LDMESH_READY_TIMEOUT=20s "$work/$libc/$1" "${@:2}" >"$work/out" 2>"$work/errors" ||
    status=$?
  ! [[ -s $work/errors ]] || fail "$* says on standard error: $(<"$work/errors")"
  ((status == 0)) || fail "$* exits with $status: $(<"$work/out")"
}
# said WORDS: the last program printed them; otherwise the smoke test ends.
said() { grep -q -- "$1" "$work/out" || fail "no \"$1\" in: $(<"$work/out")"; }

for libc in gnu musl; do
  if [[ $libc == gnu ]]; then
    name=$(plain libc_version)
  else
    # It shows how it is to be called, and fails.
    name="musl $({ qemu-aarch64 "$root/usr/lib/aarch64-linux-musl/libc.so" 2>&1 || true; } | sed -n 's/^Version //p')"
  fi
  mesh loaded
  said "version=[0-9]"
  mesh lookup greeter 80 stream inet
  said "addr=10.96.0.10 port=80"
  mesh fork_after_lookup greeter 80 30
  said "failed=0"
  for n in 1 2 3; do said "backend=greeter-$n"; done
  mesh dial 10.96.0.10 80
  said "peer=10.96.0.10:80"
  said "echo=ping"
  mesh system_calls 10.96.0.10 80
  said "backend=greeter"
  said "unknown=-1 error=ENOSYS"
  said "got=5 echo=ping"
  ! plain lookup greeter >"$work/out" || fail "the name is known without the library: $(<"$work/out")"
  echo "aarch64, $name: loaded, looked up, forked, connected to each endpoint in turn, made system calls"
done

#!/usr/bin/env bash
# Checks what a portable libldmesh.so needs and shows: what is missing where it is preloaded kills every process.
# Usage: scripts/check-portable.sh FILE
set -euo pipefail
cd "$(dirname "$0")/.."

file=$1
glibc=2.17
size_limit=$((6 << 20))
tls_limit=512
musl=/usr/lib/x86_64-linux-musl/libc.so # of any architecture: musl has the same functions everywhere

scripts/prepare.sh readelf musl-gcc

failures=0
fail() {
  echo "$file: $*" >&2
  failures=1
}

# symbols FILE 0: what it exports; symbols FILE 1: what it cannot do without.
symbols() {
  readelf --dyn-syms --wide "$1" | awk -v undefined="$2" \
    '($5 == "GLOBAL" || ($5 == "WEAK" && !undefined)) && ($7 == "UND") == undefined {
       sub(/@.*/, "", $8); print $8 }' | LC_ALL=C sort -u
}
# Fields of the program header of a type: offset, addresses, sizes, flags.
segment() { readelf --program-headers --wide "$file" | awk -v type="$1" '$1 == type'; }
dynamic=$(readelf --dynamic --wide "$file")

needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$dynamic")
for name in $needed; do
  case $name in
    libc.so.6 | libpthread.so.0 | libdl.so.2 | libm.so.6) ;; # musl takes these names for itself
    *) fail "needs $name" ;;
  esac
done

# Every version it asks for, the highest last.
versions=$(readelf --version-info --wide "$file" | grep -o 'GLIBC_[0-9A-Z.]*' | sort -Vu)
highest=${versions##*$'\n'}
[[ $(printf '%s\n' "GLIBC_$glibc" "$highest" | sort -V | tail -n 1) == "GLIBC_$glibc" ]] ||
  fail "asks for $highest; GLIBC_$glibc is the limit"

exports=$(symbols "$file" 0)
diff -u scripts/exports.golden - <<<"$exports" || fail "exports changed, see above"
absent=$(symbols "$file" 1 | LC_ALL=C comm -23 - <(symbols "$musl" 0))
[[ -z $absent ]] || fail "musl has no" $absent

tls=$(segment TLS | awk '{ print $6 }')
((${tls:-0} <= tls_limit)) || fail "PT_TLS has $((tls)) bytes; $tls_limit is the limit"
[[ $(segment GNU_STACK) == *" RW "* ]] || fail "demands an executable stack"
[[ -n $(segment GNU_RELRO) ]] || fail "has no RELRO"
# A process that maps pages both writable and executable is refused by SELinux and by systemd's MemoryDenyWriteExecute.
[[ $(segment LOAD) != *RWE* ]] || fail "has a segment that is writable and executable"

[[ $dynamic == *NODELETE* ]] || fail "not linked with -z nodelete"
[[ $dynamic == *"(INIT_ARRAY)"* ]] || fail "has no constructor"
for tag in TEXTREL INIT FINI FINI_ARRAY RELR; do
  case $tag in
    TEXTREL) why="has text relocations" ;;
    INIT) why="has a DT_INIT, which runs before its constructors" ;;
    FINI | FINI_ARRAY) why="does something at exit" ;;
    RELR) why="has packed relocations, which glibc before 2.36 and musl before 1.2.4 leave out" ;;
  esac
  ! grep -qE "\($tag\)|FLAGS\).*\b$tag\b" <<<"$dynamic" || fail "$why"
done

size=$(stat -c %s "$file")
((size <= size_limit)) || fail "has $size bytes; $size_limit is the limit"

printf '%-10s %s\n' file "$file" size "$size bytes" needs "$(echo $needed)" \
  versions "up to $highest" exports "$(wc -w <<<"$exports")" TLS "$((${tls:-0})) bytes"
exit "$failures"

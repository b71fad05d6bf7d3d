#!/usr/bin/env bash
# Formatting, lints, unit and integration tests, end-to-end tests over release builds, and a short
# run of each fuzz target. Ends with "N passed, N failed, N skipped"; fails when anything failed.
# With CI=true a skipped test is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."

scripts/prepare.sh gcc g++ curl strace ip ss sysctl flock python3 perl wget setpriv unshare readelf musl-gcc mmdebstrap || exit 1
scripts/prepare.sh git ssh sshd java javac node ruby php escript go tclsh lua5.4 +lua-socket +php-curl +erlang-inets \
  +python3-requests +libwww-perl aria2c busybox socat nc.openbsd nc.traditional ncat || exit 1
scripts/prepare.sh redis-server redis-cli nginx haproxy apache2 psql initdb php-fpm cgi-fcgi mariadbd mariadb || exit 1
scripts/prepare.sh valgrind fakeroot openssl node +libpython3.11-testsuite +libasan8 +libtsan2 +libjemalloc2 \
  +libtcmalloc-minimal4 +libsocket-wrapper +libnss-wrapper +libfaketime dockerd docker iptables || exit 1

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
# The cells of docs/compatibility.md outlive the run: see what `table` says when they differ.
mkdir -p target/ctests
export LDMESH_SKIP_LOG=$logs/skipped LDMESH_TABLE=$PWD/target/ctests/table
: >"$LDMESH_SKIP_LOG"
: >"$LDMESH_TABLE"

passed=0 failed=0 skipped=0
rows=()

# step NAME COMMAND...: runs a command; counts its tests, or itself when it has none.
step() {
  local name=$1 log=$logs/log start=$SECONDS status good=0 bad=0 left_out=0
  shift
  echo "== $name"
  "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  read -r good bad left_out < <(
    awk '/^test result:/ { good += $4; bad += $6; out += $8 } END { print good + 0, bad + 0, out + 0 }' "$log"
  )
  if ((good + bad == 0)); then
    if ((status)); then bad=1; else good=1; fi
  elif ((status && bad == 0)); then
    bad=1 # died outside a test
  fi
  passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + left_out))
  rows+=("$(printf '%-28s %6d %6d %7d %6ds' "$name" "$good" "$bad" "$left_out" $((SECONDS - start)))")
  return "$status"
}

step formatting cargo fmt --all --check
step lints cargo clippy --workspace --all-targets -- -D warnings
step "unit and integration tests" cargo test --workspace --exclude ctests --no-fail-fast
if step "release builds" scripts/build.sh && step "portable library" scripts/build-portable.sh; then
  step "instruction counts" scripts/instructions.sh
  step "bills of materials" scripts/sbom.sh
  step "systems with other libcs" eval "scripts/rootfs.sh bullseye && scripts/rootfs.sh sid"
  # Without a Go that is new enough, tests against Istio, the chart and the faulty control plane skip themselves by name,
  # and there are no benchmarks.
  benchmarks=()
  if printf '%s\n' go1.26 "$(go env GOVERSION 2>/dev/null)" | sort -VC; then
    step "a real Istio" scripts/istiod.sh
    step "a real helm" scripts/helm.sh
    step "a real cert-manager" scripts/cert-manager.sh
    step "a faulty control plane" scripts/go-control-plane.sh
    step "a real CoreDNS" scripts/coredns.sh && benchmarks=(scripts/bench.sh --quick)
  fi
  # Without a JDK and Maven, the demo's tests skip themselves by name.
  if scripts/prepare.sh javac mvn; then
    step "the Spring demo" scripts/spring.sh
  fi
  if step "a real Envoy" scripts/envoy.sh; then
    if ((${#benchmarks[@]})); then step "benchmarks, briefly" "${benchmarks[@]}"; fi
    step "end-to-end tests" timeout 45m cargo test -p ctests --no-fail-fast -- --show-output
    step "compatibility tables" cargo run --quiet -p ctests --bin table -- "$LDMESH_TABLE" --document docs/compatibility.md
  else
    echo "no end-to-end tests without a real Envoy" >&2
  fi
else
  echo "no end-to-end tests without release builds" >&2
fi
if [[ -x scripts/fuzz.sh ]]; then
  step "fuzz targets, 5 s each" scripts/fuzz.sh 5
fi

# A test that skips itself counts as passed for cargo.
own_skips=$(wc -l <"$LDMESH_SKIP_LOG")
passed=$((passed - own_skips)) skipped=$((skipped + own_skips))

echo
printf '%-28s %6s %6s %7s %7s\n' step passed failed ignored time
printf '%s\n' "${rows[@]}"
if ((own_skips)); then
  echo
  echo "skipped for want of something on this machine:"
  sort "$LDMESH_SKIP_LOG"
fi
if ((skipped)) && [[ ${CI:-} == true ]]; then
  echo "CI allows no skipped test"
  failed=$((failed + skipped)) skipped=0
fi
echo
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))

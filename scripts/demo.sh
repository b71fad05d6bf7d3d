#!/usr/bin/env bash
# Shows unmodified programs in the mesh: builds, then runs everything in a network of its own.
# Each step prints a table; the script fails when a step is not as it says.
set -euo pipefail
cd "$(dirname "$0")/.."

release=$PWD/${CARGO_TARGET_DIR:-target}/release
[[ ${CARGO_TARGET_DIR:-} == /* ]] && release=$CARGO_TARGET_DIR/release

if [[ ${1:-} != --inside ]]; then
  scripts/prepare.sh gcc curl ip python3 perl readelf
  echo "building (the first time takes some minutes)"
  scripts/build.sh
  cargo build --release -p ctests --bins
  if "$release/pod" -- true; then
    exec "$release/pod" --hostname demo -- "$0" --inside
  fi
  echo "Note: this machine does not allow user namespaces, so the demo uses the host's network and"
  echo "full service names, and leaves out the step that looks a name up without the library."
  echo
  LDMESH_DEMO_ON_HOST=1 exec "$0" --inside
fi

work=$(mktemp -d)
pids=()
declare -A backend_pid
cleanup() {
  trap - EXIT
  ((${#pids[@]})) && kill -9 "${pids[@]}" 2>/dev/null
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

unset http_proxy HTTP_PROXY all_proxy ALL_PROXY LD_PRELOAD
export LDMESH_RUN_DIR=$work/run
suffix=
if [[ -n ${LDMESH_DEMO_ON_HOST:-} ]]; then
  suffix=.svc.cluster.local
  # No agent that would outlive the demo.
  export LDMESH_LEAD=thread
fi
greeter=greeter${suffix:+.default$suffix}
other=greeter.other$suffix
xds=http://127.0.0.1:15010
started=$SECONDS

fail() {
  echo "NOT AS SAID: $*" >&2
  "$release/ldmesh" status >&2 2>/dev/null || true
  exit 1
}

# until_true SECONDS WHAT COMMAND...: polls; the deadline is a failure.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    ((SECONDS < deadline)) || fail "not in time: $what"
    sleep 0.05
  done
}

start_backend() { # NAME ADDRESS
  "$release/backend" --name "$1" --listen "$2:8080" >"$work/$1.log" &
  pids+=($!)
  backend_pid[$1]=$!
  until_true 5 "backend $1 listens" grep -q ready "$work/$1.log"
}

mesh() { "$release/ldmesh" run --xds "$xds" -- "$@"; }

curl_once() { mesh curl -sS --max-time 5 "http://$1/" 2>>"$work/errors"; }

curls() { # COUNT HOST: one answer or "FAILED" a line
  for ((i = 0; i < $1; i++)); do curl_once "$2" || echo FAILED; done
}

python_gets() { # COUNT HOST: one process, a connection for each request
  mesh python3 -c '
import sys, urllib.request
for _ in range(int(sys.argv[1])):
    try:
        print(urllib.request.urlopen(f"http://{sys.argv[2]}/", timeout=5).read().decode(), end="")
    except OSError as error:
        print("FAILED", error)
' "$1" "$2"
}

perl_gets() { # COUNT HOST: sockets by hand, names by gethostbyname
  mesh perl -MIO::Socket::INET -e '
for (1 .. $ARGV[0]) {
    my $socket = IO::Socket::INET->new("$ARGV[1]:80") or do { print "FAILED $!\n"; next };
    print $socket "GET / HTTP/1.0\r\n\r\n";
    my ($answer) = grep { /^\S+ 127/ } <$socket>;
    print $answer // "FAILED\n";
}' "$1" "$2"
}

# table FILE EXPECTED...: counts answers by backend; exactly the expected ones must have answered.
table() {
  local file=$1 seen
  shift
  awk '{ count[$1]++ } END { for (name in count) printf "    %-12s %3d\n", name, count[name] }' "$file" | sort
  seen=$(awk '{ print $1 }' "$file" | sort -u | tr '\n' ' ')
  [[ ${seen% } == "$*" ]] || fail "answers came from \"${seen% }\", not from \"$*\" ($(tail -n 3 "$work/errors" 2>/dev/null))"
}

step() { printf '\n%s\n' "$*"; }

# scale COUNT: writes the greeter's EndpointSlice with that many endpoints, as Kubernetes would.
scale() {
  python3 - "$work/mesh" "$1" <<'PY'
import os, pathlib, re, sys

folder, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
endpoints = "\n".join(
    f"  - addresses: ['127.0.1.{n}']\n    conditions: {{ready: true}}" for n in range(1, count + 1))
for file in sorted(folder.rglob("*.y*ml")):
    text = file.read_text()
    documents = re.split(r"(?m)^---.*\n", text)
    for index, document in enumerate(documents):
        if (re.search(r"(?m)^kind: EndpointSlice", document)
                and re.search(r"kubernetes\.io/service-name: *greeter\b", document)
                and not re.search(r"namespace: *other\b", document)):
            head = re.sub(r"(?ms)^endpoints:.*?(?=^\S|\Z)", "", document)
            documents[index] = head.rstrip() + f"\nendpoints:\n{endpoints}\n"
            fresh = file.with_suffix(".new")
            fresh.write_text("---\n".join(documents))
            os.replace(fresh, file)
            sys.exit(0)
sys.exit("the demo's mesh has no EndpointSlice of the greeter")
PY
}

answers_from() { [[ $(curl_once "$greeter") == "$1 "* ]]; }
no_answer_from() {
  local answers
  answers=$(curls 10 "$greeter")
  ! grep -Eq "^($1) " <<<"$answers"
}
port_open() { (exec 3<>/dev/tcp/127.0.0.1/15010) 2>/dev/null; }

for n in 1 2 3 4; do start_backend "greeter-$n" "127.0.1.$n"; done
for n in 1 2; do start_backend "other-$n" "127.0.2.$n"; done
cp -r k8s/demo "$work/mesh"
"$release/ldmesh" serve "$work/mesh" --listen 127.0.0.1:15010 >"$work/serve.log" 2>&1 &
serve=$!
pids+=("$serve")
until_true 5 "ldmesh serve listens" port_open

step "1. curl http://$greeter/: port 80 of the service, port 8080 of three endpoints"
curls 30 "$greeter" >"$work/out"
table "$work/out" greeter-1 greeter-2 greeter-3

step "2. The same with Python, in one process"
python_gets 30 "$greeter" >"$work/out"
table "$work/out" greeter-1 greeter-2 greeter-3

step "3. The same with Perl"
perl_gets 30 "$greeter" >"$work/out"
table "$work/out" greeter-1 greeter-2 greeter-3

step "4. curl http://$other/: the same name in another namespace"
curls 20 "$other" >"$work/out"
table "$work/out" other-1 other-2

step "5. Scaled up to four endpoints"
scale 4
until_true 5 "a fourth endpoint answers" answers_from greeter-4
curls 40 "$greeter" >"$work/out"
table "$work/out" greeter-1 greeter-2 greeter-3 greeter-4

step "6. Scaled down to two"
scale 2
until_true 5 "two endpoints answer no more" no_answer_from "greeter-3|greeter-4"
curls 20 "$greeter" >"$work/out"
table "$work/out" greeter-1 greeter-2

step "7. A backend is killed, and the control plane does not know: no request fails"
kill -9 "${backend_pid[greeter-2]}"
wait "${backend_pid[greeter-2]}" 2>/dev/null || true
{ curls 20 "$greeter"; python_gets 20 "$greeter"; } >"$work/out"
table "$work/out" greeter-1

step "8. The control plane is killed: a new process still works"
kill -9 "$serve"
wait "$serve" 2>/dev/null || true
port_open && fail "the control plane still listens"
curls 10 "$greeter" >"$work/out"
table "$work/out" greeter-1

if [[ -z $suffix ]]; then
  step "9. The same curl without the library"
  status=0
  message=$(curl -sS --max-time 10 "http://$greeter/" 2>&1) || status=$?
  echo "    $message"
  ((status == 6)) || fail "curl exited with $status, not with 6 (could not resolve host)"
fi

printf '\nAll as said, in %d s.\n' $((SECONDS - started))

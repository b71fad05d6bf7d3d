#!/usr/bin/env bash
# Runs a Docker Engine of its own until standard input ends: in namespaces of its own, whose bridge leads nowhere, and
# with all its files in FOLDER, which is deleted in the end. Prints what DOCKER_HOST has to be once the engine answers;
# fails with the reason where no engine can run.
# Usage: scripts/docker-engine.sh FOLDER
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

folder=$(realpath -m "${1:?usage: scripts/docker-engine.sh FOLDER}")
socket=$folder/docker.sock

# Inside: PID 1 of a PID namespace, so that nothing outlives it.
if [[ ${2:-} == inside ]]; then
  ip link set lo up
  # The sockets of containerd's shims have a fixed place; those of the host's services do not belong to an engine.
  mount -t tmpfs -o mode=755 tmpfs /run
  # Nor does what dockerd and containerd make wherever they run, or read of a host's own engine.
  mount -t tmpfs tmpfs /etc/docker
  mount -t tmpfs tmpfs /opt
  dockerd --config-file "$folder/daemon.json" --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" --host "unix://$socket" \
    --group root --cgroup-parent "/ldmesh-engine-$3" --bip 10.88.0.1/24 --shutdown-timeout 2 &>"$folder/log" &
  engine=$!
  exec 3<&0
  {
    cat <&3 >/dev/null || true
    kill "$engine"
  } &
  wait "$engine"
  exit
fi

if ((EUID)); then
  echo "a Docker Engine needs root" >&2
  exit 1
fi
for command in dockerd docker iptables ip unshare; do
  if ! command -v "$command" >/dev/null; then
    echo "no $command on this machine" >&2
    exit 1
  fi
done

mkdir -p "$folder"
mkdir -p /etc/docker # to be covered inside
# Nothing of this machine's settings, credentials or plugins is read.
echo '{}' >"$folder/daemon.json"
mkdir -p "$folder/cli"
export DOCKER_CONFIG=$folder/cli
exec 3<&0
unshare --net --mount --pid --fork --mount-proc --kill-child "$BASH" "${BASH_SOURCE[0]}" "$folder" inside $$ <&3 &
engine=$!
up=
while kill -0 "$engine" 2>/dev/null; do
  if docker --host "unix://$socket" version &>/dev/null; then
    up=1
    echo "unix://$socket"
    break
  fi
  sleep 0.1
done
exec 1>&- # who waits for the address must not wait for the end
wait "$engine" || true
if ! [[ $up ]]; then
  echo "Docker Engine does not start: $(grep -v 'level=info' "$folder/log" | tail -n 1)" >&2
fi
find /sys/fs/cgroup -depth -type d \( -path "*/ldmesh-engine-$$" -o -path "*/ldmesh-engine-$$/*" \) -exec rmdir {} + 2>/dev/null || true
rm -rf "$folder"
[[ $up ]]

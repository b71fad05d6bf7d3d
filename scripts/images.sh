#!/usr/bin/env bash
# Builds the image of ldmesh without network, from what scripts/build.sh and scripts/build-portable.sh made: tags it,
# saves it as dist/image-ARCHITECTURE.tar (`docker load`), and prints its size. The engine is the one that answers
# (DOCKER_HOST), else one of its own that ends with the script.
# Usage: scripts/images.sh [x86_64|aarch64]...
set -euo pipefail
cd "$(dirname "$0")/.."

(($#)) || set -- x86_64
scripts/prepare.sh dockerd iptables ip unshare

work=$(mktemp -d)
cleanup() {
  if [[ ${engine:-} ]]; then
    exec 7>&- # its standard input
    wait "$engine" || true
  fi
  rm -rf "$work"
}
trap cleanup EXIT
if ! docker version &>/dev/null; then
  mkfifo "$work/stdin" "$work/stdout"
  scripts/docker-engine.sh "$work/engine" <"$work/stdin" >"$work/stdout" &
  engine=$!
  exec 7>"$work/stdin"
  read -r DOCKER_HOST <"$work/stdout"
  export DOCKER_HOST
fi

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[[ -z $(git status --porcelain 2>/dev/null) ]] || revision+=-dirty
source=$(git remote get-url origin 2>/dev/null || true)
[[ $source == https://* ]] || source=

for architecture; do
  case $architecture in
    x86_64) platform=linux/amd64 command=${LDMESH_TARGET_DIR:-${CARGO_TARGET_DIR:-target}/release}/ldmesh ;;
    aarch64) platform=linux/arm64 command=dist/ldmesh-aarch64 ;;
    *)
      echo "usage: $0 [x86_64|aarch64]..." >&2
      exit 2
      ;;
  esac
  library=dist/libldmesh-$architecture.so
  for file in "$command" "$library"; do
    if ! [[ -f $file ]]; then
      echo "$file is missing: scripts/build.sh and scripts/build-portable.sh build it" >&2
      exit 1
    fi
  done
  staged=$work/$architecture
  mkdir "$staged"
  install -m 755 "$command" "$staged/ldmesh"
  install -m 644 "$library" "$staged/libldmesh.so"
  tags=("ldmesh:$version-$architecture")
  [[ $architecture != "$(uname -m)" ]] || tags+=("ldmesh:$version" ldmesh:latest)
  # The old builder is in every engine and needs no plugin.
  if ! DOCKER_BUILDKIT=0 docker build --file docker/Dockerfile --target staged --platform "$platform" \
    --build-arg VERSION="$version" --build-arg REVISION="$revision" --build-arg SOURCE="$source" \
    "${tags[@]/#/--tag=}" "$staged" &>"$work/log"; then
    cat "$work/log" >&2
    exit 1
  fi
  mkdir -p dist
  docker save --output "$work/image.tar" "${tags[@]}"
  mv "$work/image.tar" "dist/image-$architecture.tar"
  docker image inspect --format "${tags[0]} {{.Os}}/{{.Architecture}} {{.Size}} bytes" "${tags[0]}"
done

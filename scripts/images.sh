#!/usr/bin/env bash
# Builds the image of ldmesh without network, from what scripts/build.sh and scripts/build-portable.sh made, and prints
# its tags and size. The engine is the one that answers (DOCKER_HOST); else one of its own, which ends with the script:
# then the image is saved as dist/image-ARCHITECTURE.tar (`docker load`). `demo` stands for the demo's Spring Boot
# applications (dist/image-demo.tar).
# Usage: scripts/images.sh [x86_64|aarch64|demo]...
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

# build DOCKERFILE TARGET FOLDER FLAG...
build() {
  if ! docker build --file "$1" --target "$2" "${@:4}" "$3" &>"$work/log"; then
    cat "$work/log" >&2
    exit 1
  fi
}

# report FILE IMAGE...: a line about each image; all of them into a file of dist/ where they would go with the engine.
report() {
  local image
  for image in "${@:2}"; do
    docker image inspect --format "$image {{.Os}}/{{.Architecture}} {{.Size}} bytes" "$image"
  done
  if [[ ${engine:-} ]]; then
    mkdir -p dist
    docker save --output "$work/image.tar" "${@:2}"
    mv "$work/image.tar" "dist/$1"
  fi
}

demo() {
  local base applications application
  export DOCKER_BUILDKIT=0
  base=$(scripts/java-base.sh)
  applications=$(scripts/spring.sh)
  docker import --change "ENV PATH=/usr/lib/jvm/java-17-openjdk-$(dpkg --print-architecture)/bin:/usr/bin:/bin" \
    "$base" ldmesh-java-base >/dev/null
  for application in spring-client spring-server; do
    build docker/demo/Dockerfile "$application" "$applications" --build-arg BASE=ldmesh-java-base --tag "$application"
  done
  report image-demo.tar spring-client spring-server
}

for architecture; do
  case $architecture in
    demo)
      demo
      continue
      ;;
    x86_64) platform=linux/amd64 command=${LDMESH_TARGET_DIR:-${CARGO_TARGET_DIR:-target}/release}/ldmesh ;;
    aarch64) platform=linux/arm64 command=dist/ldmesh-aarch64 ;;
    *)
      echo "usage: $0 [x86_64|aarch64|demo]..." >&2
      exit 2
      ;;
  esac
  library=dist/libldmesh-$architecture.so
  for file in "$command" "$library"; do
    if ! [[ -f $file ]]; then
      echo "$file is missing: scripts/build.sh and scripts/build-portable.sh build it, for aarch64 scripts/build-aarch64.sh" >&2
      exit 1
    fi
  done
  staged=$work/$architecture
  mkdir "$staged"
  install -m 755 "$command" "$staged/ldmesh"
  install -m 644 "$library" "$staged/libldmesh.so"
  tags=("ldmesh:$version-$architecture")
  if [[ $architecture == "$(uname -m)" ]]; then
    tags+=("ldmesh:$version" ldmesh:latest)
    export DOCKER_BUILDKIT=0 # in every client and engine
  else
    # The old builder takes whatever is made from scratch for this machine's. Debian's client has the new one built in.
    export DOCKER_BUILDKIT=1 PATH=/usr/bin:$PATH
  fi
  build docker/Dockerfile staged "$staged" --platform "$platform" "${tags[@]/#/--tag=}" \
    --build-arg VERSION="$version" --build-arg REVISION="$revision" --build-arg SOURCE="$source"
  report "image-$architecture.tar" "${tags[@]}"
done

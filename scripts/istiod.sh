#!/usr/bin/env bash
# Makes sure of a real Istio to test against: builds istiod (`pilot-discovery`), the sidecar's `pilot-agent`,
# `kube-apiserver` and `kubectl` from ctests/istiod/go.mod into the target directory; prints the folder, which also holds
# Istio's `crds.yaml` and the template of its Envoy's bootstrap.
set -euo pipefail
cd "$(dirname "$0")/.."

module=$PWD/ctests/istiod
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/istiod-$(cat "$module"/go.{mod,sum} | sha256sum | cut -c1-12)")
mkdir -p "${folder%/*}"
exec 9>"$folder.lock" # tests run side by side
flock 9
scripts/prepare.sh etcd iptables >&2
if ! [[ -e $folder/crds.yaml ]]; then
  scripts/prepare.sh go >&2
  mkdir -p "$folder"
  cd "$module"
  # Without symbols: a third of the size, and of the time to link.
  go build -trimpath -ldflags='-s -w' -o "$folder/" tool >&2
  istio=$(go list -m -f '{{.Dir}}' istio.io/istio)
  install -m 644 "$istio/tools/packaging/common/envoy_bootstrap.json" "$folder/envoy_bootstrap.json"
  install -m 644 "$istio/manifests/charts/base/files/crd-all.gen.yaml" "$folder/crds.new"
  mv "$folder/crds.new" "$folder/crds.yaml"
fi
echo "$folder"

#!/usr/bin/env bash
# Writes the bills of materials (CycloneDX 1.5) of what the image holds: dist/ldmesh-ARCHITECTURE.cdx.json and
# dist/libldmesh-ARCHITECTURE.cdx.json. They name each crate that is compiled in, and what else is linked: Rust's
# standard library and, in the static command, glibc. Each is checked against CycloneDX's schema.
# Usage: scripts/sbom.sh [x86_64|aarch64]
set -euo pipefail
cd "$(dirname "$0")/.."

architecture=${1:-x86_64}
version=0.5.9
tools=$(realpath -m "${CARGO_TARGET_DIR:-target}/cyclonedx-$version")
mkdir -p "${tools%/*}"
exec 9>"$tools.lock"
flock 9
if ! [[ -x $tools/bin/cargo-cyclonedx ]]; then
  cargo install --quiet --locked --debug cargo-cyclonedx --version "$version" --root "$tools" --target-dir "$tools/build" >&2
  rm -rf "$tools/build"
fi
if ! [[ -e $tools/python/checked ]]; then
  scripts/prepare.sh python3 git >&2
  python3 -m venv "$tools/python"
  "$tools/python/bin/pip" install --quiet --disable-pip-version-check 'cyclonedx-python-lib[json-validation]==11.12.0' >&2
  touch "$tools/python/checked"
fi
flock --unlock 9

# It writes beside each crate's Cargo.toml: in a copy.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git ls-files -z | tar --null --files-from=- --create | tar --extract --directory "$work"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) "$tools/bin/cargo-cyclonedx" cyclonedx --quiet --manifest-path "$work/cli/Cargo.toml" \
  --describe binaries --no-build-deps --format json --spec-version 1.5 --target "$architecture-unknown-linux-gnu"

mkdir -p dist
rustc=rustc glibc=libc6-dev # the package of libc.a
if [[ $architecture == aarch64 ]]; then
  glibc=libc6-dev-arm64-cross
  [[ -d $(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu ]] || rustc=$(scripts/rust-aarch64.sh)
fi
linked=$("$rustc" --version | cut -d' ' -f2)
glibc=$(dpkg-query --show --showformat='${Package} ${Version}' "$glibc")
"$tools/python/bin/python" - "$work" "$architecture" "$linked" "$glibc" <<'END'
import json, sys
from urllib.parse import quote
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

work, architecture, rust, glibc = sys.argv[1:]
package, version = glibc.split()
std = {"type": "library", "bom-ref": "rust-std", "name": "rust-std", "version": rust,
       "licenses": [{"expression": "MIT OR Apache-2.0"}], "purl": f"pkg:generic/rust-std@{rust}"}
libc = {"type": "library", "bom-ref": "glibc", "name": "glibc", "version": version,
        "licenses": [{"license": {"id": "LGPL-2.1-or-later"}}], "purl": f"pkg:deb/debian/{package}@{quote(version)}"}
for crate, made, name, linked in (("cli", "ldmesh_bin", "ldmesh", [std, libc]), ("shim", "ldmesh_cdylib", "libldmesh", [std])):
    with open(f"{work}/{crate}/{made}.cdx.json") as file:
        bom = json.loads(file.read().replace(f"path+file://{work}/", "path:"))
    bom["components"] += linked
    top = bom["metadata"]["component"]["bom-ref"]
    for edge in bom["dependencies"]:
        if edge["ref"] == top:
            edge["dependsOn"] = edge.get("dependsOn", []) + [one["bom-ref"] for one in linked]
    bom["dependencies"] += [{"ref": one["bom-ref"]} for one in linked]
    text = json.dumps(bom, indent=1) + "\n"
    assert work not in text, "a path of this machine"
    wrong = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    if wrong:
        sys.exit(f"{name}: {wrong}")
    path = f"dist/{name}-{architecture}.cdx.json"
    with open(path, "w") as file:
        file.write(text)
    print(f"{path}: {len(bom['components'])} components")
END

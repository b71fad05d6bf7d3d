#!/usr/bin/env bash
# Builds the demo's Spring Boot applications with Maven into the target directory; prints the folder, which then holds
# `spring-client.jar` and `spring-server.jar`.
set -euo pipefail
cd "$(dirname "$0")/.."

sum=$(find k8s/demo/spring-{client,server}/{pom.xml,src} -type f | sort | xargs sha256sum | sha256sum | cut -c1-12)
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/spring-$sum")
mkdir -p "${folder%/*}"
exec 9>"$folder.lock" # tests run side by side
flock 9
if ! [[ -e $folder/built ]]; then
  scripts/prepare.sh javac mvn >&2
  mkdir -p "$folder"
  for application in spring-client spring-server; do
    # Built from a copy: the sources' folders stay clean.
    rm -rf "$folder/$application"
    cp -r "k8s/demo/$application" "$folder/"
    mvn -q -B -f "$folder/$application/pom.xml" package >&2
    mv "$folder/$application/target/$application.jar" "$folder/"
    rm -r "${folder:?}/$application"
  done
  touch "$folder/built"
fi
echo "$folder"

# get.sh HOST COMMAND...: speaks HTTP through a command that only carries bytes; prints the body, ends as it does.
set -o pipefail
"${@:2}" <<<"GET / HTTP/1.0"$'\r\n'"Host: $1"$'\r\n\r' | tail -n 1

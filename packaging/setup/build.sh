#!/bin/sh
# Builds one package with a progress bar where a person is watching.
#   build.sh OUTPUT PACKAGE [go build flags…]
# The bar counts the packages that are out of date; the engine's C++ is one of
# them and takes most of the time (3 to 5 minutes on two cores when cold).
set -eu
out=$1 pkg=$2
shift 2
if [ ! -t 2 ]; then
  exec go build "$@" -o "$out" "$pkg"
fi
total=$(go list -deps -f '{{if .Stale}}x{{end}}' "$pkg" | grep -c x || true)
log=$(mktemp)
status=$(mktemp)
trap 'rm -f "$log" "$status"' EXIT
{ go build -v "$@" -o "$out" "$pkg" 2>&1; echo $? >"$status"; } | tee "$log" | awk -v total="$total" -v name="$(basename "$out")" '
  /^[^# ]/ { n++; w = total ? int(30 * n / total) : 30; if (w > 30) w = 30
    bar = ""; for (i = 0; i < 30; i++) bar = bar (i < w ? "█" : "░")
    printf "\r  %-16s %s %d/%d packages", name, bar, n, total > "/dev/stderr" }
  END { if (n) printf "\n" > "/dev/stderr" }'
code=$(cat "$status")
[ "$code" = 0 ] || { cat "$log" >&2; exit "$code"; }

#!/bin/sh
# Makes the RPM and the DEB of binaries that are built.
#   pack.sh BINARIES VERSION OUT [rpm] [deb]
# BINARIES holds cloister and cloister-verify. The same binaries, version and
# commit make the same bytes, unless the RPM is signed: SIGN names a file with an
# OpenPGP secret key, NFPM_PASSPHRASE opens it.
set -eu
usage="pack.sh takes the folder of the binaries, a version and a folder for the packages"
: "${CONFIG:=packaging/linux/cloister.toml}" # the configuration that the packages carry
binaries=${1:?$usage} version=${2:?$usage} out=${3:?$usage}
shift 3
[ $# -gt 0 ] || set -- rpm deb
mkdir -p "$out"
binaries=$(cd "$binaries" && pwd)
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."

if [ ! -x build/nfpm ] || [ packaging/nfpm/go.mod -nt build/nfpm ]; then
  go build -modfile packaging/nfpm/go.mod -o build/nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm
fi

parts=$out/parts
mkdir -p "$parts"
"$binaries/cloister" man | gzip -9n >"$parts/cloister.1.gz"
gzip -9n <packaging/linux/cloister-verify.1 >"$parts/cloister-verify.1.gz"
"$binaries/cloister" completion bash >"$parts/completion.bash"
go run ./packaging/licences "$binaries/cloister" >"$parts/licences.txt"

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)}
export CONFIG SOURCE_DATE_EPOCH VERSION="$version" BINARIES="$binaries" PARTS="$parts" SIGN="${SIGN:-}"
for kind; do
  build/nfpm package -f packaging/nfpm/nfpm.yaml -p "$kind" -t "$out/" >"$parts/nfpm.log" 2>&1 ||
    { cat "$parts/nfpm.log" >&2; exit 1; }
done
rm -rf "$parts"

#!/bin/sh
# Puts what an operator carries to the machines into one folder, with a list of
# checksums that `sha256sum -c SHA256SUMS` checks on any machine.
#   media.sh OUT RELEASE-FOLDER STARTER-PACK
set -eu
out=${1:?} released=${2:?} starter=${3:?}
rm -rf "$out"
mkdir -p "$out/verifiers"
cp "$released"/*.rpm "$released"/*.deb "$starter" README.md LICENSE "$out/"
cp build/verifiers/* "$out/verifiers/"
(cd "$out" && find . -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs sha256sum > SHA256SUMS)
echo "$out: $(du -sh "$out" | cut -f1)"

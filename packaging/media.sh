#!/bin/sh
# Puts what an operator carries to the machines into one folder, with a list of
# checksums that `sha256sum -c SHA256SUMS` checks on any machine.
#   media.sh OUT PACKAGES STARTER-PACK VERIFIERS
# SIGN names a file with an OpenPGP secret key (NFPM_PASSPHRASE opens it): then the
# list is signed as the RPM is, and the public key lies beside it as KEY.asc. The
# key on a medium proves nothing about that medium: give its fingerprint to the
# operators on another way. Without SIGN there are checksums alone.
set -eu
out=${1:?} packages=${2:?} starter=${3:?} verifiers=${4:?}
rm -rf "$out"
mkdir -p "$out/verifiers"
cp "$packages"/*.rpm "$packages"/*.deb README.md LICENSE "$out/"
ln "$starter" "$out/" 2>/dev/null || cp "$starter" "$out/"
cp "$verifiers"/cloister-verify* "$out/verifiers/"

if [ -n "${SIGN:-}" ]; then
  home=$(mktemp -d)
  trap 'gpgconf --homedir "$home" --kill all 2>/dev/null || true; rm -rf "$home"' EXIT
  chmod 700 "$home"
  pgp() { printf '%s' "${NFPM_PASSPHRASE:-}" | gpg --homedir "$home" --batch --quiet --pinentry-mode loopback --passphrase-fd 0 "$@"; }
  pgp --import "$SIGN"
  pgp --armor --export >"$out/KEY.asc"
fi
(cd "$out" && find . -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs sha256sum >SHA256SUMS)
if [ -n "${SIGN:-}" ]; then
  pgp --armor --detach-sign --output "$out/SHA256SUMS.asc" "$out/SHA256SUMS"
  echo "$out: $(du -sh "$out" | cut -f1), signed by $(gpg --show-keys --with-colons "$out/KEY.asc" | awk -F: '$1 == "fpr" {print $10; exit}')"
else
  echo "$out: $(du -sh "$out" | cut -f1), with checksums and without a signature (SIGN=FILE signs)"
fi

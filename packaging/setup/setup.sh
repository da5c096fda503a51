#!/bin/sh
# Installs what a stage of the Makefile needs and the machine lacks.
#   setup.sh run    to build and run a node
#   setup.sh test   to run the tests as well
# As root it installs at once. Otherwise it shows the one line that is needed and
# asks; YES=1 answers for scripts. Debian 12 or newer; elsewhere it names what is
# missing and leaves the choice of packages to you.
set -eu
stage=${1:?"setup.sh takes run or test"}

need_go=1.26
have_go=$(go env GOVERSION 2>/dev/null | sed 's/^go//; s/ .*//' || true)
if [ -z "$have_go" ] || [ "$(printf '%s\n%s\n' "$need_go" "$have_go" | sort -V | head -n 1)" != "$need_go" ]; then
  echo "Cloister needs Go $need_go or newer; this machine has ${have_go:-none}. Install it from your Go mirror and run make again." >&2
  exit 1
fi

packages="gcc g++ libc6-dev nlohmann-json3-dev libstb-dev python3-pip"
[ "$stage" = test ] && packages="$packages chromium-headless-shell iproute2 util-linux python3-venv fonts-dejavu-core slapd samba samba-ad-dc samba-dsdb-modules samba-ad-provision winbind python3-samba mmdebstrap systemd-container rpm gpg gpg-agent"

if ! command -v dpkg-query >/dev/null 2>&1; then
  echo "This is not a Debian machine, so nothing was installed. If the build fails, it lacks one of: $packages"
  exit 0
fi
missing=
for p in $packages; do
  dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null | grep -q '^installed$' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0

# Another package manager at work, such as unattended upgrades, is waited for.
line="apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends$missing"
run() { sh -c "apt-get update -q && DEBIAN_FRONTEND=noninteractive $line"; }
if [ "$(id -u)" = 0 ]; then
  echo "Installing$missing"
  run
  exit 0
fi
echo "This machine lacks:$missing"
echo "The one line that installs it:  sudo sh -c 'apt-get update && $line'"
if [ "${YES:-}" != 1 ]; then
  [ -t 0 ] || { echo "Run that line, or run make again with YES=1." >&2; exit 1; }
  printf 'Run it now? [y/N] '
  read -r answer
  [ "$answer" = y ] || [ "$answer" = Y ] || { echo "Nothing was changed." >&2; exit 1; }
fi
sudo sh -c "apt-get update -q && DEBIAN_FRONTEND=noninteractive $line"

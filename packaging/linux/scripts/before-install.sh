#!/bin/sh
# $1 is 1 at an install and 2 at an upgrade of an RPM; "install" or "upgrade" of a
# DEB, whose $2 and $3 are then the version that is there and the one that comes.
# What is refused here is refused before the first file is written.
set -e

# A processor without these would end the program before it can do anything. A
# package is also unpacked where no processor is to be seen, into an image: the
# program itself says the same when it starts.
if grep -qm1 '^flags' /proc/cpuinfo 2>/dev/null; then
  for feature in avx avx2 bmi1 bmi2 fma f16c movbe abm; do
    if ! grep -qwm1 "$feature" /proc/cpuinfo; then
      echo "cloister: this machine's processor lacks $feature, which the model engine is built for (x86-64-v3: Intel since 2013, AMD since 2015), so nothing was installed: take a newer machine, or have the hypervisor pass the host's processor through" >&2
      exit 1
    fi
  done
fi

# rpm refuses an older package by itself; dpkg would only warn.
if [ "$1" = upgrade ] && [ -n "${3:-}" ] && [ "${CLOISTER_GO_BACK:-}" != yes ] && dpkg --compare-versions "$2" gt "$3"; then
  echo "cloister: version $2 is installed, which is newer than $3, so nothing was changed: an older program opens the data only of a cluster that it began and that has not been finalised since; where that is so, go back with: CLOISTER_GO_BACK=yes dpkg -i FILE" >&2
  exit 1
fi

# The user must be there before the first file is: files are given to it.
if ! getent passwd cloister >/dev/null; then
  if command -v systemd-sysusers >/dev/null; then
    echo 'u cloister - "Cloister node" /var/lib/cloister' | systemd-sysusers --replace=/usr/lib/sysusers.d/cloister.conf - || true
  fi
  getent passwd cloister >/dev/null ||
    useradd --system --user-group --home-dir /var/lib/cloister --no-create-home --shell /usr/sbin/nologin cloister
fi

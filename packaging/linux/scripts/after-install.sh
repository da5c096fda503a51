#!/bin/sh
# $1 is 1 at an install and 2 at an upgrade of an RPM, "configure" of a DEB.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # A node that was running goes on with the new program; one that was stopped stays so.
  systemctl try-restart cloister.service || true
fi
if ! grep -qm1 ' avx2 ' /proc/cpuinfo; then
  echo "cloister: this machine's processor has no AVX2, so Cloister cannot start here; use one made after 2013 or let the virtual machine see it" >&2
fi
if [ "$1" = 1 ] || { [ "$1" = configure ] && [ -z "${2:-}" ]; }; then
  echo "Cloister is installed. Look at /etc/cloister/cloister.toml, then: systemctl enable --now cloister"
fi

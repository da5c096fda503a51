#!/bin/sh
# $1 is 1 at an install and 2 at an upgrade of an RPM; "configure" of a DEB, whose
# $2 is the version that was configured before, if any, or "abort-upgrade" and the
# like when nothing was changed after all.
set -e
# rpm puts an edited configuration aside when the package goes; it counts again when
# the package comes back.
if [ "$1" = 1 ] && [ -f /etc/cloister/cloister.toml.rpmsave ]; then
  mv -f /etc/cloister/cloister.toml.rpmsave /etc/cloister/cloister.toml
  echo "Cloister's configuration is the one of its earlier installation."
fi
if [ -d /run/systemd/system ] && [ "${1#abort-}" = "$1" ]; then
  systemctl daemon-reload || true
  # A node that was running goes on with the new program; one that was stopped stays so.
  systemctl try-restart cloister.service || true
fi
if [ "$1" = 1 ] || { [ "$1" = configure ] && [ -z "${2:-}" ]; }; then
  echo "Cloister is installed. Look at /etc/cloister/cloister.toml, then: systemctl enable --now cloister"
fi

#!/bin/sh
# The user must be there before the first file is: files are given to it.
set -e
if ! getent passwd cloister >/dev/null; then
  if command -v systemd-sysusers >/dev/null; then
    echo 'u cloister - "Cloister node" /var/lib/cloister' | systemd-sysusers -
  fi
  getent passwd cloister >/dev/null ||
    useradd --system --user-group --home-dir /var/lib/cloister --no-create-home --shell /usr/sbin/nologin cloister
fi

#!/bin/sh
# $1 is 0 when an RPM goes for good, "remove" for a DEB; an upgrade stops nothing here.
set -e
case "$1" in
0 | remove)
  if [ -d /run/systemd/system ]; then
    systemctl disable --now cloister.service || true
  fi
  ;;
esac

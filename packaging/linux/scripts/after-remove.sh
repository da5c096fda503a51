#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
fi
case "$1" in
0 | remove | purge) echo "Cloister is removed. Its data stays in /var/lib/cloister and its configuration in /etc/cloister." ;;
esac

#!/bin/sh
# deb: remove | upgrade | …; rpm: 0 at a removal, 1 at an upgrade. At an upgrade
# the old service goes on until the new one is there: no reader sees a gap.
set -e
case "${1:-}" in
upgrade | failed-upgrade | deconfigure | 1) exit 0 ;;
esac
command -v systemctl >/dev/null || exit 0
if [ -d /run/systemd/system ]; then
	systemctl stop renewd.service || true
fi
if ! command -v deb-systemd-helper >/dev/null; then
	systemctl disable renewd.service >/dev/null 2>&1 || true
fi
exit 0

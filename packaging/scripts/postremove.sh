#!/bin/sh
# deb: remove, then purge; rpm: 0 at a removal, 1 at an upgrade.
set -e
unit=renewd.service
case "${1:-}" in
upgrade | failed-upgrade | abort-* | disappear | 1) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	systemctl reset-failed "$unit" 2>/dev/null || true
fi
if [ "${1:-}" = remove ] && command -v deb-systemd-helper >/dev/null; then
	deb-systemd-helper mask "$unit" >/dev/null || true
fi
if [ "${1:-}" = purge ]; then
	if command -v deb-systemd-helper >/dev/null; then
		deb-systemd-helper purge "$unit" >/dev/null || true
		deb-systemd-helper unmask "$unit" >/dev/null || true
	fi
	# State and tokens; config that dpkg does not know is the admin's and stays.
	rm -rf /var/lib/renewd /run/renewd
	rmdir /etc/renewd/conf.d /etc/renewd 2>/dev/null || true
	# The account goes where nothing of the admin's is left that could belong to
	# it: its number would pass to the next one.
	if [ ! -e /etc/renewd ] && [ ! -e /etc/systemd/system/renewd.service.d ] && getent passwd renewd >/dev/null; then
		userdel renewd >/dev/null 2>&1 || true
		groupdel renewd >/dev/null 2>&1 || true
	fi
fi
exit 0

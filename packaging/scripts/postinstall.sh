#!/bin/sh
# deb: configure [old version]; rpm: 1 at an installation, 2 at an upgrade;
# apk and archlinux: the version and, at an upgrade, the old one.
set -e

unit=renewd.service
case "${1:-}" in
abort-upgrade | abort-remove | abort-deconfigure) upgrade=yes ;;
configure) upgrade=${2:+yes} ;;
1) upgrade= ;;
2) upgrade=yes ;;
*) upgrade=${2:+yes} ;;
esac

# The account that runs it.
if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers renewd.conf
elif ! id renewd >/dev/null 2>&1; then
	# apk, on a system without systemd
	getent group renewd >/dev/null 2>&1 || addgroup -S renewd 2>/dev/null || groupadd -r renewd
	adduser -S -D -H -h /var/lib/renewd -s /sbin/nologin -G renewd renewd 2>/dev/null ||
		useradd -r -g renewd -d /var/lib/renewd -s /usr/sbin/nologin renewd
fi

command -v systemctl >/dev/null || exit 0
running=
[ -d /run/systemd/system ] && running=yes
[ -z "$running" ] || systemctl daemon-reload || true
# Its runtime directories, which each boot makes: in an image that is built they would
# be in the way of an agent that runs there as root. Where a package manager's trigger
# makes them too, it comes after the start.
[ -z "$running" ] || systemd-tmpfiles --create renewd.conf || true

if command -v deb-systemd-helper >/dev/null; then
	# Debian keeps what an admin chose, over removal too.
	deb-systemd-helper unmask "$unit" >/dev/null || true
	if deb-systemd-helper --quiet was-enabled "$unit"; then
		deb-systemd-helper enable "$unit" >/dev/null || true
	else
		deb-systemd-helper update-state "$unit" >/dev/null || true
	fi
	if [ -n "$running" ]; then
		# Started at the installation; where there is a start that an admin
		# forbade, policy-rc.d says so.
		if [ -n "$upgrade" ]; then act=try-restart; else act=start; fi
		if command -v deb-systemd-invoke >/dev/null; then
			deb-systemd-invoke $act "$unit" >/dev/null || true
		else
			systemctl $act "$unit" || true
		fi
	fi
	exit 0
fi

# Elsewhere the system's presets say whether a service starts by itself.
if [ -z "$upgrade" ]; then
	systemctl preset "$unit" >/dev/null 2>&1 || true
elif [ -n "$running" ]; then
	systemctl try-restart "$unit" || true
fi
exit 0

package e2e

import (
	"strings"
	"testing"
	"time"

	"renewd/agent/source/standin"
)

// runByHand runs the agent as root does in a shell, until stop.
func (b *box) runByHand() (stop func()) {
	b.t.Helper()
	b.run("sh", "-c", "renewd run >/root/by-hand.log 2>&1 & echo $! >/root/by-hand.pid")
	b.eventually("an answer of the agent that root runs", 20*time.Second, func() bool { return b.generation() > 0 })
	return func() {
		b.t.Helper()
		b.run("sh", "-c", "kill $(cat /root/by-hand.pid)")
		b.eventually("its end", 40*time.Second, func() bool { _, err := b.try("sh", "-c", "kill -0 $(cat /root/by-hand.pid)"); return err != nil })
	}
}

// runtime is what the service's directories are: modes, owners, and which they are.
func (b *box) runtime() string {
	return b.run("sh", "-c", "set -- /run/renewd /run/renewd/tokens; echo $(stat -c '%a %U %G' $*) $(stat -c %i $*)")
}

// foreign are the files of the agent that are not its user's own.
func (b *box) foreign() string {
	return b.run("find", "/var/lib/renewd", "/run/renewd", "!", "-user", "renewd")
}

// Root that runs the agent by hand leaves nothing that the service could not go on
// with: neither before the service was ever started, nor after.
func TestE2ERootRunsByHand(t *testing.T) {
	wanted(t)
	deb, _ := packages(t)
	b := newBox(t)
	vendor := b.vendor()
	b.write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755) // the service is not started
	b.boot()
	b.install(deb)
	made := b.runtime()
	if !strings.HasPrefix(made, "711 renewd renewd 711 renewd renewd ") {
		t.Errorf("before the service was ever started, its directories are %q", made)
	}
	b.run("systemctl", "disable", "renewd.service")
	b.reboot()
	if now := b.runtime(); !strings.HasPrefix(now, "711 renewd renewd 711 renewd renewd ") {
		t.Errorf("after a boot, its directories are %q", now)
	}
	made = b.runtime()
	b.write("etc/renewd/commander.password", password, 0o640)
	b.run("chgrp", "renewd", "/etc/renewd/commander.password")
	text := strings.ReplaceAll(strings.ReplaceAll(config, "{credential: commander}", "{file: commander.password}"), `group: ops`, "group: renewd")
	b.write("etc/renewd/renewd.yaml", strings.ReplaceAll(text, "groups: [ops]", "groups: [adm]"), 0o644)

	stop := b.runByHand()
	uid := b.run("id", "-u", "renewd")
	if said := b.run("sh", "-c", "grep ^Uid: /proc/$(cat /root/by-hand.pid)/status"); strings.Join(strings.Fields(said), " ") != "Uid:"+strings.Repeat(" "+uid, 4) {
		b.t.Errorf("it runs as %s", said)
	}
	if said := b.run("renewd", "status"); !strings.Contains(said, "runs as renewd, started as root") {
		b.t.Errorf("status does not say it:\n%s", said)
	}
	before := b.generation()
	stop()
	if left := b.foreign(); left != "" {
		b.t.Errorf("root left: %s", left)
	}
	b.serviceGoesOn(vendor, before)
	if now := b.runtime(); now != made {
		t.Errorf("the directories that were mounted elsewhere or watched are others now: %q, before %q", now, made)
	}

	b.run("systemctl", "stop", "renewd.service")
	stop = b.runByHand()
	b.run("renewd", "reload")
	stop()
	if left := b.foreign(); left != "" {
		b.t.Errorf("root left: %s", left)
	}
	b.serviceGoesOn(vendor, before)

	b.run("systemctl", "stop", "renewd.service")
	b.run("sed", "-i", "s/{type: file}/{type: file, owner: root}/", "/etc/renewd/renewd.yaml")
	if said := b.refused("renewd", "run"); !strings.Contains(said, "this config needs root, and /run/renewd belongs to renewd: tokens.commander.sinks[0].owner") {
		b.t.Errorf("of a config that needs root it says:\n%s", said)
	}
	if left := b.foreign(); left != "" {
		b.t.Errorf("the refused start left: %s", left)
	}

	b.run("sed", "-i", "s/, owner: root//", "/etc/renewd/renewd.yaml")
	for _, words := range []string{"check --login", "state reset --keep-broken", "run --once"} {
		b.run(append([]string{"renewd"}, strings.Fields(words)...)...)
		if left := b.foreign(); left != "" {
			b.t.Errorf("%s left: %s", words, left)
		}
	}
}

// serviceGoesOn starts the service, which needs no login.
func (b *box) serviceGoesOn(vendor *standin.Commander, before int) {
	b.t.Helper()
	b.run("systemctl", "start", "renewd.service")
	b.eventually("an answer of the service", 10*time.Second, func() bool { return b.generation() > 0 })
	if now := b.generation(); now < before {
		b.t.Errorf("generation %d after %d", now, before)
	}
	b.oneLogin(vendor)
}

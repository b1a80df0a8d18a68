package e2e

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"renewd/agent/source/standin"
	"renewd/packaging/systemd"
)

const (
	tokenFile  = "/run/renewd/tokens/commander"
	headerFile = "/run/renewd/tokens/commander.header"
	password   = "correct-horse-battery"
	api        = "http://127.0.0.1:8089"
)

// config reads its secret from a systemd credential, and gives its token to a
// group on the socket and in a file.
const config = `tokens:
  commander:
    source:
      type: commander
      url: ` + api + `/rest/v3
      username: svc
      password: {credential: commander}
    sinks:
      - {type: file}
      - {type: file, format: header, mode: "0640", group: ops}
    allow: {groups: [ops]}
`

// vendor is Commander's API. It lives outside the box, so that it outlives a
// reboot; the box reaches it by a forwarder of systemd's.
func (b *box) vendor() *standin.Commander {
	b.t.Helper()
	c := standin.NewCommander(standin.CommanderOptions{Username: "svc", Password: password})
	path := filepath.Join(b.root, "srv/api.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.t.Fatal(err)
	}
	srv := &http.Server{Handler: c, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(l) }()
	b.t.Cleanup(func() { _ = srv.Close() })
	b.write("etc/systemd/system/api.socket", "[Socket]\nListenStream=127.0.0.1:8089\n[Install]\nWantedBy=sockets.target\n", 0o644)
	b.write("etc/systemd/system/api.service", "[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd /srv/api.sock\n", 0o644)
	b.mkLink("/etc/systemd/system/api.socket", "etc/systemd/system/sockets.target.wants/api.socket")
	return c
}

func (b *box) mkLink(to, at string) {
	b.t.Helper()
	at = filepath.Join(b.root, at)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.Symlink(to, at)); err != nil {
		b.t.Fatal(err)
	}
}

// install copies a package in and has dpkg install it.
func (b *box) install(deb string) {
	b.t.Helper()
	text, err := os.ReadFile(deb)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write("var/cache/renewd-under-test.deb", string(text), 0o644)
	b.run("dpkg", "--force-confold", "-i", "/var/cache/renewd-under-test.deb")
	_ = os.Remove(filepath.Join(b.root, "var/cache/renewd-under-test.deb"))
}

// generation is what the socket says, 0 while it does not answer.
func (b *box) generation() int {
	text, err := b.try("curl", "-sf", "--max-time", "1", "--unix-socket", "/run/renewd/renewd.sock", "http://renewd/v1/tokens/commander")
	var m struct{ Generation int }
	if err != nil || json.Unmarshal([]byte(text), &m) != nil {
		return 0
	}
	return m.Generation
}

// watchReader reads the token's file all the time, as a script would, and counts
// how often it was not there or not whole.
func (b *box) watchReader() (stop func() (reads, gaps int64)) {
	var reads, gaps atomic.Int64
	end, ended := make(chan struct{}), make(chan struct{})
	path := b.inside(tokenFile)
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
			}
			text, err := os.ReadFile(path)
			reads.Add(1)
			if err != nil || strings.Count(string(text), ".") != 2 {
				gaps.Add(1)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return func() (int64, int64) { close(end); <-ended; return reads.Load(), gaps.Load() }
}

// named are the paths in the box, outside of memory, that speak of renewd.
func (b *box) named() (out []string) {
	b.t.Helper()
	err := filepath.WalkDir(b.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), "renewd") {
			out = append(out, strings.TrimPrefix(path, b.root))
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// The life of the package for Debian: installed, configured with a credential,
// killed, reloaded, rebooted, upgraded, hung, purged. Nobody who reads the token
// notices more than he must, and the vendor sees one login.
func TestE2EPackageLives(t *testing.T) {
	wanted(t)
	older, newer := packages(t)
	b := newBox(t)
	vendor := b.vendor()
	b.boot()

	b.install(older)
	if got := b.run("systemctl", "is-active", "renewd.service"); got != "active" {
		t.Fatalf("after the installation it is %s", got)
	}
	if got := b.show("StatusText"); got != "no tokens in the config" {
		t.Errorf("it says %q of itself", got)
	}
	if got, _ := os.ReadFile(filepath.Join(b.root, "usr/lib/systemd/system/renewd.service")); string(got) != string(systemd.Unit) {
		t.Error("the installed unit is not the embedded one")
	}

	b.configure()
	b.eventually("the first token", 20*time.Second, func() bool { return b.generation() > 0 })
	if n := vendor.Counts().Logins; n != 1 {
		t.Fatalf("%d logins for the first token", n)
	}
	b.eventually("a status line", 10*time.Second, func() bool { return strings.HasPrefix(b.show("StatusText"), "1 token, next renewal in ") })

	if said := b.run("renewd", "status"); !strings.Contains(said, "\nprocess: confined by Landlock") {
		t.Errorf("the service does not confine itself:\n%s", said)
	}

	b.readersAreTold()
	b.reloads()
	b.part("credentials", b.loadsCredentials)
	b.part("signed in", b.signsIn)

	b.part("killed", func(t *testing.T) {
		before := b.generation()
		stop := b.watchReader()
		b.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGKILL", "renewd.service")
		took := b.eventually("an answer after the kill", 2*time.Second, func() bool { return b.generation() > 0 })
		reads, gaps := stop()
		t.Logf("answered %v after SIGKILL; %d reads of the file, %d gaps", took.Round(time.Millisecond), reads, gaps)
		if now := b.generation(); now < before || gaps > 0 || reads == 0 {
			t.Errorf("generation %d after %d; %d gaps in %d reads", now, before, gaps, reads)
		}
		b.oneLogin(vendor)
	})

	b.part("restarted", func(t *testing.T) {
		stop := b.watchReader()
		b.run("systemctl", "restart", "renewd.service")
		b.run("systemctl", "stop", "renewd.service")
		b.run("systemctl", "start", "renewd.service")
		if reads, gaps := stop(); gaps > 0 || reads == 0 {
			t.Errorf("%d gaps in %d reads over restart, stop and start", gaps, reads)
		}
		b.oneLogin(vendor)
	})

	b.part("rebooted", func(t *testing.T) {
		before := b.generation()
		b.reboot()
		b.eventually("an answer after the reboot", 10*time.Second, func() bool { return b.generation() > 0 })
		if now := b.generation(); now < before {
			t.Errorf("generation %d after %d", now, before)
		}
		b.readersAreTold()
		b.oneLogin(vendor)
	})

	b.part("upgraded", func(t *testing.T) {
		pid, before := b.show("MainPID"), b.generation()
		stop := b.watchReader()
		b.install(newer)
		reads, gaps := stop()
		if gaps > 0 || reads == 0 {
			t.Errorf("%d gaps in %d reads over the upgrade", gaps, reads)
		}
		if v := b.run("renewd", "version"); !strings.HasPrefix(v, "renewd 1.1.0 ") {
			t.Errorf("after the upgrade it is %q", v)
		}
		if now := b.show("MainPID"); now == pid || now == "0" {
			t.Errorf("the upgrade left process %s running, or none: %s", pid, now)
		}
		if got, _ := os.ReadFile(filepath.Join(b.root, "etc/renewd/renewd.yaml")); string(got) != config {
			t.Error("the upgrade changed the admin's config")
		}
		if now := b.generation(); now < before {
			t.Errorf("generation %d after %d", now, before)
		}
		b.oneLogin(vendor)
		_ = os.Remove(filepath.Join(b.root, "etc/renewd/renewd.yaml.dpkg-dist"))
	})

	b.part("hung", func(t *testing.T) {
		b.write("etc/systemd/system/renewd.service.d/watchdog.conf", "[Service]\nWatchdogSec=3s\n", 0o644)
		b.run("systemctl", "daemon-reload")
		b.run("systemctl", "restart", "renewd.service")
		pid := b.show("MainPID")
		time.Sleep(7 * time.Second) // a loop that turns is left alone
		if now := b.show("MainPID"); now != pid {
			t.Fatalf("a healthy agent was killed: process %s became %s", pid, now)
		}
		b.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGSTOP", "renewd.service")
		took := b.eventually("another process", 15*time.Second, func() bool {
			now := b.show("MainPID")
			return now != pid && now != "0" && b.generation() > 0
		})
		t.Logf("back %v after it hung", took.Round(time.Millisecond))
		if log := b.run("journalctl", "-b", "-u", "renewd.service", "--no-pager"); !strings.Contains(log, "Watchdog timeout") {
			t.Error("systemd does not say that it was the watchdog")
		}
		b.oneLogin(vendor)
	})

	b.troubles()
	b.keepsItsSecrets()
	b.purges(newer)
}

// configure does what an admin would: the secret into a credential, the config,
// the drop-in that check prints.
func (b *box) configure() {
	b.t.Helper()
	b.run("sh", "-c", "groupadd ops && useradd -m -G ops reader && useradd -m stranger")
	b.run("sh", "-c", "printf %s "+password+" | systemd-creds encrypt --name=commander - /etc/renewd/commander.cred")
	b.write("etc/systemd/system/renewd.service.d/credential.conf", "[Service]\nLoadCredentialEncrypted=commander:/etc/renewd/commander.cred\n", 0o644)
	b.write("etc/renewd/renewd.yaml", config, 0o644)
	said, _ := b.try("renewd", "check")
	_, dropIn, ok := strings.Cut(said, "[Service]\n")
	dropIn, _, _ = strings.Cut(dropIn, "\n\n")
	if !ok || !strings.Contains(dropIn, "SupplementaryGroups=ops") {
		b.t.Fatalf("check does not print the drop-in:\n%s", said)
	}
	b.write("etc/systemd/system/renewd.service.d/sinks.conf", "[Service]\n"+dropIn+"\n", 0o644)
	b.run("systemctl", "daemon-reload")
	b.run("systemctl", "restart", "renewd.service")
}

// readersAreTold: whoever is in the group reads the socket and the file, and
// nobody else.
func (b *box) readersAreTold() {
	b.t.Helper()
	const url = "http://renewd/v1/tokens/commander?format=raw"
	curl := func(user string) []string {
		return as(user, "curl", "-sf", "--unix-socket", "/run/renewd/renewd.sock", url)
	}
	b.eventually("the file for the group", 5*time.Second, func() bool {
		_, err := os.Stat(b.inside(headerFile))
		return err == nil
	})
	token := b.run(curl("reader")...)
	if len(token) < 50 {
		b.t.Errorf("the socket gave %d bytes", len(token))
	}
	if text, _ := b.try(curl("stranger")...); strings.Contains(text, ".") {
		b.t.Error("the socket gave a stranger the token")
	}
	b.refused(curl("stranger")...)
	if head := b.run(as("reader", "cat", headerFile)...); head != "Authorization: Bearer "+token {
		b.t.Errorf("the file holds %d bytes that are not the token's header", len(head))
	}
	b.refused(as("stranger", "cat", headerFile)...)
	b.refused(as("reader", "cat", tokenFile)...)
	b.run(as("reader", "curl", "-sf", "-H", "@"+headerFile, api+"/rest/v3/organizations")...)
}

// reloads: a good config is taken, a bad one fails the reload and changes nothing.
func (b *box) reloads() {
	b.t.Helper()
	pid := b.show("MainPID")
	b.write("etc/renewd/renewd.yaml", config+"    no_such_key: 1\n", 0o644)
	b.refused("systemctl", "reload", "renewd.service")
	if b.generation() == 0 || b.show("ActiveState") != "active" {
		b.t.Error("a bad config took the service down")
	}
	b.eventually("the status line's word on it", 10*time.Second, func() bool { return strings.Contains(b.show("StatusText"), "config on disk is refused") })
	b.write("etc/renewd/renewd.yaml", config, 0o644)
	b.run("systemctl", "reload", "renewd.service")
	b.eventually("the status line after a good reload", 10*time.Second, func() bool { return strings.HasPrefix(b.show("StatusText"), "1 token, next renewal") })
	if now := b.show("MainPID"); now != pid {
		b.t.Errorf("the reload changed process %s for %s", pid, now)
	}
}

// troubles show in the status line and in the journal, at a priority.
func (b *box) troubles() {
	b.t.Helper()
	b.run("sh", "-c", "printf 'tokens: [' >/etc/renewd/conf.d/broken.yaml")
	_, _ = b.try("systemctl", "restart", "renewd.service")
	b.eventually("an error at priority err", 10*time.Second, func() bool {
		log, _ := b.try("journalctl", "-b", "-u", "renewd.service", "-p", "err", "-o", "cat", "--no-pager", "-n", "20")
		return strings.Contains(log, "broken.yaml")
	})
	b.run("rm", "/etc/renewd/conf.d/broken.yaml")
	b.eventually("the service after its config was mended, by itself", 20*time.Second, func() bool { return b.generation() > 0 })
}

// oneLogin: nothing that happened was worth another login.
func (b *box) oneLogin(v *standin.Commander) {
	b.t.Helper()
	if n := v.Counts().Logins; n != 1 {
		b.t.Errorf("the vendor has seen %d logins, want 1", n)
	}
}

// keepsItsSecrets: neither the password nor a token is in the journal.
func (b *box) keepsItsSecrets() {
	b.t.Helper()
	log := b.run("journalctl", "--no-pager", "-o", "export", "-u", "renewd.service")
	token := b.run("cat", tokenFile)
	for what, secret := range map[string]string{"the password": password, "the token": token, "a token's signature": token[strings.LastIndex(token, ".")+1:]} {
		if secret == "" || strings.Contains(log, secret) {
			b.t.Errorf("%s is in the journal", what)
		}
	}
	if !strings.Contains(log, "PRIORITY=6") {
		b.t.Error("the journal has no priorities")
	}
}

// purges: what the admin wrote is left, and where he wrote nothing, nothing.
func (b *box) purges(deb string) {
	b.t.Helper()
	b.run("dpkg", "--purge", "renewd")
	var left []string
	for _, path := range b.named() {
		if !strings.HasPrefix(path, "/etc/systemd/system/renewd.service.d") && path != "/etc/renewd" {
			left = append(left, path)
		}
	}
	if len(left) > 0 {
		b.t.Errorf("the purge left %v", left)
	}
	for path, want := range map[string]bool{"/etc/renewd/commander.cred": true, "/etc/renewd/renewd.yaml": false, "/etc/systemd/system/renewd.service.d/credential.conf": true} {
		if _, err := os.Stat(filepath.Join(b.root, path)); (err == nil) != want {
			b.t.Errorf("%s is there: %v, want %v", path, err == nil, want)
		}
	}
	if _, err := os.Stat(b.inside("/run/renewd")); err == nil {
		b.t.Error("the purge left /run/renewd")
	}
	if _, err := b.try("getent", "passwd", "renewd"); err != nil {
		b.t.Error("the account is gone, though files of the admin's may be its own")
	}

	b.run("rm", "-r", "/etc/renewd", "/etc/systemd/system/renewd.service.d")
	b.run("systemctl", "daemon-reload")
	b.install(deb)
	b.run("dpkg", "--purge", "renewd")
	if left := b.named(); len(left) > 0 {
		b.t.Errorf("the purge of an unused package left %v", left)
	}
	if text, err := b.try("getent", "passwd", "renewd"); err == nil {
		b.t.Errorf("the account is left: %s", text)
	}
}

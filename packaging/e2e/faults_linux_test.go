package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"renewd/agent/source/standin"
)

// elsewhere is a target of the admin's own: a file system that is mounted there.
const elsewhere = "/srv/app"

// witness sees what the world sees of a fault, and looks for secrets in it.
type witness struct {
	b       *box
	secrets []string
	said    strings.Builder
}

// Faults of the machine and of the vendor: each is told in `systemctl status` and
// in the journal, at the priority of an error and without a secret; readers keep
// what they have; and it ends by itself when the fault does.
func TestE2EFaultsAreTold(t *testing.T) {
	wanted(t)
	older, _ := packages(t)
	b := newBox(t)
	vendor := b.vendor()
	b.boot()
	b.install(older)
	b.run("sh", "-c", "mkdir -p "+elsewhere+" && mount -t tmpfs -o size=1m,mode=755 app "+elsewhere+" && chown renewd: "+elsewhere)
	b.write("etc/renewd/renewd.yaml", strings.Replace(strings.Split(config, "      - {type: file, format")[0],
		"{credential: commander}", "{file: secret}", 1)+"      - {type: file, path: "+elsewhere+"/token}\n", 0o644)
	b.write("etc/renewd/secret", password, 0o600)
	b.run("chown", "renewd:", "/etc/renewd/secret")
	b.write("etc/systemd/system/renewd.service.d/sinks.conf", "[Service]\nReadWritePaths="+elsewhere+"\n", 0o644)
	b.run("systemctl", "daemon-reload")
	b.run("systemctl", "restart", "renewd.service")
	b.eventually("the token at both places", 20*time.Second, func() bool {
		one, err := os.ReadFile(b.inside(tokenFile))
		two, err2 := os.ReadFile(b.inside(elsewhere + "/token"))
		return err == nil && err2 == nil && string(one) == string(two)
	})
	w := &witness{b: b, secrets: []string{password}}

	b.part("a full /run", func(*testing.T) {
		b.run("sh", "-c", "mount -o remount,size=$(($(df -k --output=used /run | tail -1) + 512))k /run; dd if=/dev/zero of=/run/filler bs=4k 2>/dev/null; true")
		w.sinkFails(tokenFile, "no space left on device")
		b.run("rm", "/run/filler")
		w.recovers(tokenFile)
	})
	b.part("a read-only target", func(*testing.T) {
		b.run("mount", "-o", "remount,ro", elsewhere)
		w.sinkFails(elsewhere+"/token", "read-only file system")
		b.run("mount", "-o", "remount,rw", elsewhere)
		w.recovers(elsewhere + "/token")
	})
	b.part("a revoked credential", func(*testing.T) { w.revoked(vendor) })
	w.sawNoSecret()
}

// sinkFails has a new token made while one target cannot take it.
func (w *witness) sinkFails(path, cause string) {
	w.b.t.Helper()
	since := w.b.run("date", "+%s.%N")
	old := w.read(path)
	before := w.b.generation()
	_, _ = w.b.try("renewd", "refresh", "commander")
	w.b.eventually("a new token", 10*time.Second, func() bool { return w.b.generation() > before })
	w.told("1 token, 1 cannot be written (commander: " + cause + "), next renewal in ")
	w.journal(since, "err", "sink", path, cause)
	if now := w.read(path); now != old {
		w.b.t.Errorf("%s holds %d bytes that are not the old token's", path, len(now))
	}
	if other := map[bool]string{true: elsewhere + "/token", false: tokenFile}[path == tokenFile]; w.read(other) == old {
		w.b.t.Errorf("%s waits for the one that cannot be written", other)
	}
	if said, err := w.b.try("renewd", "status"); err == nil || !strings.Contains(said, cause) {
		w.b.t.Errorf("renewd status: %v\n%s", err, said)
	}
}

// recovers waits until the target holds what the socket gives, without help.
func (w *witness) recovers(path string) {
	w.b.t.Helper()
	took := w.b.eventually("the token in its place", 20*time.Second, func() bool {
		token, err := w.b.try("renewd", "get", "commander")
		return err == nil && w.read(path) == token
	})
	w.b.t.Logf("recovered %v after the fault's end", took.Round(time.Millisecond))
	w.told("1 token, next renewal in ")
}

// revoked: the vendor ends the session and refuses the password, until the admin
// writes the new one.
func (w *witness) revoked(vendor *standin.Commander) {
	w.b.t.Helper()
	since := w.b.run("date", "+%s.%N")
	old := w.read(tokenFile)
	const next = "another-password"
	w.secrets = append(w.secrets, next)
	vendor.SetPassword(next)
	vendor.Revoke()
	if said := w.b.refused("renewd", "refresh", "commander"); !strings.Contains(said, "server answered 401") {
		w.b.t.Errorf("refresh says:\n%s", said)
	}
	w.told("1 token, 1 in trouble (commander: rejected), next renewal in ")
	w.journal(since, "err", "rejected", "login")
	if now := w.read(tokenFile); now != old {
		w.b.t.Error("the file does not hold the old token any more")
	}
	if n := vendor.Counts().Refused; n < 1 || n > 2 {
		w.b.t.Errorf("the vendor refused %d logins", n)
	}
	w.b.run("sh", "-c", "printf %s "+next+" >/etc/renewd/secret")
	w.b.eventually("a token of the new password", 20*time.Second, func() bool { return vendor.Valid(w.read(tokenFile)) })
	w.recovers(tokenFile)
}

// told waits for a status line, as everyone sees it.
func (w *witness) told(line string) {
	w.b.t.Helper()
	last := ""
	w.b.eventually("a status line that begins with "+line, 15*time.Second, func() bool {
		last = w.b.show("StatusText")
		w.said.WriteString(last + "\n")
		return strings.HasPrefix(last, line)
	})
	status, _ := w.b.try("systemctl", "status", "--no-pager", "renewd.service")
	w.said.WriteString(status)
	if !strings.Contains(status, `Status: "`+line) {
		w.b.t.Errorf("systemctl status does not show %q:\n%s", line, status)
	}
	w.b.t.Logf("%s", last)
}

// journal wants a record of that priority, or worse, with all the words in it.
func (w *witness) journal(since, priority string, words ...string) {
	w.b.t.Helper()
	w.b.eventually("a journal record with "+strings.Join(words, ", "), 10*time.Second, func() bool {
		log := w.b.run("journalctl", "-b", "-u", "renewd.service", "-p", priority, "-o", "cat", "--no-pager", "--since", "@"+since)
		for line := range strings.Lines(log) {
			all := true
			for _, word := range words {
				all = all && strings.Contains(line, word)
			}
			if all {
				w.b.t.Logf("%s: %s", priority, strings.TrimSpace(line))
				return true
			}
		}
		return false
	})
}

// read gives what a file of tokens holds and remembers it as a secret.
func (w *witness) read(path string) string {
	w.b.t.Helper()
	text, err := os.ReadFile(w.b.inside(path))
	if err != nil {
		w.b.t.Fatal(err)
	}
	w.secrets = append(w.secrets, string(text))
	return string(text)
}

func (w *witness) sawNoSecret() {
	w.b.t.Helper()
	w.said.WriteString(w.b.run("journalctl", "-b", "--no-pager", "-o", "export"))
	for _, s := range w.secrets {
		if s == "" || strings.Contains(w.said.String(), s) || strings.Contains(w.said.String(), s[strings.LastIndex(s, ".")+1:]) {
			w.b.t.Errorf("a secret of %d bytes was told", len(s))
		}
	}
}

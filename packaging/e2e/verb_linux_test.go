package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"renewd/packaging/systemd"
)

// The same unit without a package: `renewd service` by root, and by a user for
// himself. Each verb may be repeated.
func TestE2EServiceVerbs(t *testing.T) {
	wanted(t)
	older, _ := packages(t)
	b := newBox(t)
	b.vendor()
	b.boot()
	b.write("var/cache/x.deb", read(t, older), 0o644)
	b.run("sh", "-c", "dpkg-deb --fsys-tarfile /var/cache/x.deb | tar -xO ./usr/bin/renewd >/usr/local/bin/renewd && chmod 755 /usr/local/bin/renewd && rm /var/cache/x.deb")
	b.run("useradd", "-m", "bob")

	b.part("machine", func(t *testing.T) {
		if said := b.refused(as("bob", "renewd", "service", "install")...); !strings.Contains(said, "needs root") || !strings.Contains(said, "sudo renewd service install") {
			t.Errorf("without root it says:\n%s", said)
		}
		if said := b.refused("renewd", "service", "start"); !strings.Contains(said, "not installed") {
			t.Errorf("a start before the installation says:\n%s", said)
		}
		first := b.run("renewd", "service", "install")
		again := b.run("renewd", "service", "install")
		if !strings.Contains(first, "wrote /etc/systemd/system/renewd.service") || strings.Contains(again, "wrote") || !strings.Contains(again, "installed and enabled") {
			t.Errorf("first:\n%s\nagain:\n%s", first, again)
		}
		if got := read(t, filepath.Join(b.root, "etc/systemd/system/renewd.service")); got != string(systemd.Unit) {
			t.Error("the installed unit is not the embedded one, byte for byte")
		}
		for range 2 {
			b.run("renewd", "service", "start")
		}
		if said := b.run("renewd", "service", "status"); !strings.Contains(said, "active (running)") || !strings.Contains(said, "no tokens in the config") {
			t.Errorf("status says:\n%s", said)
		}
		if exe := b.run("readlink", "/proc/"+b.show("MainPID")+"/exe"); exe != "/usr/local/bin/renewd" {
			t.Errorf("it runs %s", exe)
		}
		if n := b.run("sh", "-c", "systemd-analyze security --no-pager renewd.service | tail -1"); !strings.Contains(n, "OK") {
			t.Errorf("live: %s", n)
		}
		b.run("renewd", "service", "restart")
		for range 2 {
			b.run("renewd", "service", "stop")
		}
		b.refused("renewd", "service", "status")
		kept := b.run("renewd", "service", "uninstall")
		if !strings.Contains(kept, "kept /var/lib/renewd") {
			t.Errorf("uninstall says:\n%s", kept)
		}
		if _, err := os.Stat(filepath.Join(b.root, "var/lib/renewd/state.db")); err != nil {
			t.Error("uninstall took the state")
		}
		b.run("renewd", "service", "install")
		b.run("renewd", "service", "uninstall", "--purge")
		b.run("renewd", "service", "uninstall", "--purge") // and there is nothing to do
		for _, path := range b.named() {
			if path != "/usr/local/bin/renewd" {
				t.Errorf("uninstall --purge left %s", path)
			}
		}
	})

	b.part("user", func(t *testing.T) {
		uid := b.run("id", "-u", "bob")
		b.run("loginctl", "enable-linger", "bob")
		mine := func(args ...string) []string {
			return as("bob", append([]string{"env", "HOME=/home/bob", "XDG_RUNTIME_DIR=/run/user/" + uid}, args...)...)
		}
		b.eventually("bob's manager", 20*time.Second, func() bool {
			_, err := b.try(mine("systemctl", "--user", "is-active", "default.target")...)
			return err == nil
		})
		b.write("home/bob/.config/renewd/renewd.yaml", strings.Split(strings.Replace(config, "{credential: commander}", "{file: secret}", 1), "      - {type: file, format")[0], 0o600)
		b.write("home/bob/.config/renewd/secret", password, 0o600)
		b.run("chown", "-R", "bob:", "/home/bob/.config")
		b.run(mine("renewd", "service", "install", "--user")...)
		b.run(mine("renewd", "service", "start", "--user")...)
		file := "/run/user/" + uid + "/renewd/tokens/commander"
		b.eventually("bob's token", 20*time.Second, func() bool { _, err := os.Stat(b.inside(file)); return err == nil })
		if said := b.run(mine("renewd", "service", "status", "--user")...); !strings.Contains(said, "1 token, ") {
			t.Errorf("status says:\n%s", said)
		}
		if mode := b.run("stat", "-c", "%a %U", "/run/user/"+uid+"/renewd/renewd.sock"); mode != "600 bob" {
			t.Errorf("the socket is %s", mode)
		}
		b.run(mine("systemctl", "--user", "reload", "renewd.service")...)
		mineToo := filepath.Join(b.root, "home/bob/.config/renewd/renewd.yaml")
		b.run("install", "-d", "-o", "bob", "/home/bob/out")
		b.write("home/bob/.config/renewd/renewd.yaml", read(t, mineToo)+"      - {type: file, path: /home/bob/out/token}\n", 0o600)
		b.run(mine("systemctl", "--user", "reload", "renewd.service")...)
		b.eventually("bob's token elsewhere", 20*time.Second, func() bool { _, err := os.Stat(b.inside("/home/bob/out/token")); return err == nil })
		b.run(mine("renewd", "service", "uninstall", "--user", "--purge")...)
		if _, err := os.Stat(b.inside(file)); err == nil {
			t.Error("the token is left")
		}
	})
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

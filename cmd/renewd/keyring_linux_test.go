package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// desktop starts a session bus with an unlocked keyring, both for this test
// alone, and gives the environment of a program in that session.
func desktop(t *testing.T) []string {
	t.Helper()
	bus, daemon := required(t, "dbus-daemon"), required(t, "gnome-keyring-daemon")
	home := t.TempDir()
	env := append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR="+home, "XDG_DATA_HOME="+filepath.Join(home, "data"))
	socket := "unix:path=" + filepath.Join(home, "bus")
	start := func(stdin string, argv ...string) {
		c := exec.Command(argv[0], argv[1:]...)
		c.Env, c.Stdin = env, strings.NewReader(stdin)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	}
	start("", bus, "--session", "--nofork", "--address="+socket)
	eventually(t, "the session bus is there", 10*time.Second, func() bool {
		_, err := os.Stat(filepath.Join(home, "bus"))
		return err == nil
	})
	env = append(env, "DBUS_SESSION_BUS_ADDRESS="+socket)
	start("password\n", daemon, "--foreground", "--unlock", "--components=secrets")
	return env
}

// store puts an entry into the keyring, as HowToStore tells people to.
func store(t *testing.T, env []string, service, account, secret string) {
	t.Helper()
	tool := required(t, "secret-tool")
	var out []byte
	eventually(t, "the keyring takes "+service+"/"+account, 10*time.Second, func() bool {
		c := exec.Command(tool, "store", "--label="+service, "service", service, "username", account)
		c.Env, c.Stdin = env, strings.NewReader(secret)
		var err error
		out, err = c.CombinedOutput()
		return err == nil
	})
	if t.Failed() {
		t.Logf("%s", out)
	}
}

// A secret and the state's key come out of a real Secret Service; an entry that is
// missing is an error that says how to make it, and making it is enough.
func TestE2EKeyring(t *testing.T) {
	env := desktop(t)
	store(t, env, "renewd", "state", "0123456789abcdef0123456789abcdef")
	v := startVendor(t, 1, time.Hour)
	r := newRig(t, `
state: {key: {keyring: renewd/state}}
tokens:
  t:
    source: {type: fleet, username: u000000, password: {keyring: renewd/fleet}}
    sinks: [{type: file}]
`)
	if err := os.Mkdir(r.path("presets"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.write("presets/fleet.yaml", v.preset())
	r.env = append(r.env, env...)
	r.start()
	eventually(t, "status says how to make the entry", 10*time.Second, func() bool {
		out, _, _ := r.cli("status", "t")
		return strings.Contains(out, "secret-tool store --label=renewd service renewd username fleet")
	})
	store(t, env, "renewd", "fleet", "secret")
	if _, stderr, code := r.cli("refresh", "t"); code != 0 {
		t.Fatalf("refresh: %d %s", code, stderr)
	}
	if got := r.waitFile("t"); !strings.HasPrefix(got, "u000000.") {
		t.Errorf("the file holds %q", got)
	}
	r.stop()
	r.start()
	r.waitFile("t")
	if n := v.count[0].Load(); n != 1 {
		t.Errorf("%d logins, want one: the state opens again with the keyring's key", n)
	}
	r.leaks("0123456789abcdef0123456789abcdef")
}

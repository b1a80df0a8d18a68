package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// loadsCredentials: a unit of no privilege gets the token by the drop-in of
// packaging/examples, and nobody gets it by saying that he is such a unit.
func (b *box) loadsCredentials(t *testing.T) {
	dropin, err := os.ReadFile("../examples/credential.conf")
	if err != nil {
		t.Fatal(err)
	}
	b.write("etc/systemd/system/web.service", "[Service]\nType=oneshot\nDynamicUser=yes\nExecStart=/bin/sh -c 'cat $CREDENTIALS_DIRECTORY/commander; echo; id -u'\n", 0o644)
	b.write("etc/systemd/system/web.service.d/renewd.conf", string(dropin), 0o644)
	b.run("systemctl", "daemon-reload")
	since := b.run("date", "+%s")
	before := b.run("cat", tokenFile)
	b.run("systemctl", "start", "web.service")
	after := b.run("cat", tokenFile) // it may have been renewed meanwhile
	said := b.run("journalctl", "-o", "cat", "-u", "web.service", "--since", "@"+since)
	if !strings.Contains(said, before) && !strings.Contains(said, after) {
		t.Errorf("the unit read:\n%s\nand the file holds another token", said)
	}
	for l := range strings.Lines(said) {
		if strings.TrimSpace(l) == "0" {
			t.Error("the unit ran as root")
		}
	}
	if log := b.run("journalctl", "-o", "cat", "-u", "renewd.service", "--since", "@"+since); !strings.Contains(log, "credential given") || !strings.Contains(log, "web.service") || strings.Contains(log, before) {
		t.Errorf("the agent's log says:\n%s", log)
	}
	pretend := `import socket
s = socket.socket(socket.AF_UNIX)
s.bind("\0deadbeef/unit/web.service/commander")
s.connect("/run/renewd/credentials.sock")
s.shutdown(socket.SHUT_WR)
print(s.recv(65536))`
	if _, err := os.Stat(filepath.Join(b.root, "usr/bin/python3")); err == nil {
		if got, err := b.try(as("nobody", "python3", "-c", pretend)...); err == nil && got != "b''" {
			t.Errorf("nobody got %q", got)
		}
	}
	if mode := b.run("stat", "-c", "%a %U", "/run/renewd/credentials.sock"); mode != "600 renewd" {
		t.Errorf("the socket is %s", mode)
	}
	_ = os.RemoveAll(filepath.Join(b.root, "etc/systemd/system/web.service.d"))
	_ = os.Remove(filepath.Join(b.root, "etc/systemd/system/web.service"))
	b.run("systemctl", "daemon-reload")
}

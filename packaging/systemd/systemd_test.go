package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tool fails or skips where a program is not there.
func tool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if strings.Contains(os.Getenv("RENEWD_REQUIRE"), "systemd") {
			t.Fatalf("%s is required and not there", name)
		}
		t.Skipf("%s is not there", name)
	}
}

// The service can do little more than its work: systemd's own scale says at most
// 1.2 of 10.
func TestUnitIsHardened(t *testing.T) {
	tool(t, "systemd-analyze")
	path := filepath.Join(t.TempDir(), "renewd.service")
	if err := os.WriteFile(path, Unit, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=12", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("Overall exposure level")) {
		t.Fatalf("no verdict:\n%s", out)
	}
}

// No key is misspelt: systemd passes over those it does not know.
func TestUnitsAreUnderstood(t *testing.T) {
	tool(t, "systemd-analyze")
	for name, unit := range map[string][]byte{"renewd.service": Unit, "renewd-user.service": UserUnit} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, unit, 0o644); err != nil {
			t.Fatal(err)
		}
		args := []string{"verify", "--recursive-errors=no", "--man=no", path}
		if name == "renewd-user.service" {
			t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
			args = append([]string{"--user"}, args...)
		}
		out, _ := exec.Command("systemd-analyze", args...).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, name) && !strings.Contains(line, "is not executable") {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
}

// What the contract asks of the unit, and what must not be in it.
func TestUnitKeepsItsPromises(t *testing.T) {
	has := func(unit []byte, line string) bool { return bytes.Contains(unit, []byte("\n"+line+"\n")) }
	for _, line := range []string{"Type=notify", "NotifyAccess=main", "User=renewd", "Group=renewd", "RestartSec=200ms", "StartLimitIntervalSec=0",
		"RuntimeDirectory=renewd renewd/tokens", "RuntimeDirectoryPreserve=yes", "StateDirectory=renewd", "ConfigurationDirectory=renewd"} {
		if !has(Unit, line) {
			t.Errorf("the unit lacks %q", line)
		}
	}
	for _, line := range []string{"Restart=always", "Environment=RENEWD_RESTART=always", "FileDescriptorStoreMax=4", "Environment=FDSTORE=4"} {
		if !has(Unit, line) || !has(UserUnit, line) {
			t.Errorf("a unit lacks %q", line)
		}
	}
	for _, key := range []string{"PrivateUsers=", "DynamicUser=", "ProcSubset=", "PrivateNetwork="} {
		if bytes.Contains(Unit, []byte("\n"+key)) {
			t.Errorf("the unit has %s: who asks on the socket, the boot's id or the network would be hidden", key)
		}
	}
	check, hup := bytes.Index(Unit, []byte("ExecReload=/usr/bin/renewd check\n")), bytes.Index(Unit, []byte("kill -HUP"))
	if check < 0 || hup < check {
		t.Error("a reload does not check first")
	}
	// The mode and managers of a user's socket are told by this variable.
	if bytes.Contains(UserUnit, []byte("\nRuntimeDirectory=")) {
		t.Error("a user's unit has RuntimeDirectory=: its agent would take itself for the machine's")
	}
}

// What a boot makes is what the service would make: the same directories, owner
// and modes, and none of them grows old.
func TestTmpfilesAgreeWithTheUnit(t *testing.T) {
	key := func(name string) string {
		_, rest, _ := strings.Cut(string(Unit), "\n"+name+"=")
		value, _, _ := strings.Cut(rest, "\n")
		return value
	}
	var want, got []string
	for _, dir := range strings.Fields(key("RuntimeDirectory")) {
		want = append(want, strings.Join([]string{"d", "/run/" + dir, key("RuntimeDirectoryMode"), key("User"), key("Group"), "-"}, " "))
	}
	text, err := os.ReadFile("tmpfiles.conf")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("tmpfiles.conf has %q, the unit makes %q", got, want)
	}
}

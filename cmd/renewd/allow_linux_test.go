package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"renewd/agent/source/standin"
)

// The kernel says who calls: allow lets one user in by number, one by group, and
// everybody else gets 403, whether the token exists or not.
func TestE2EAllowIsByPeerCredentials(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming other users needs root")
	}
	r, _, _ := commanderRig(t, standin.CommanderOptions{})
	config := readFile(t, r.path("renewd.yaml"))
	r.write("renewd.yaml", strings.Replace(config, "allow: {users: [nobody]}", `allow: {users: ["4001"], groups: ["4100"]}`, 1)+
		strings.Replace(config[strings.Index(config, "  c:"):], "  c:", "  d:", 1))
	for _, dir := range []string{r.dir, filepath.Dir(r.dir), filepath.Dir(theBinary(t))} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	r.waitFile("c")
	as := func(uid, gid uint32, groups []uint32, args ...string) (string, int) {
		c := exec.Command(theBinary(t), args...)
		c.Env, c.Dir = r.env, "/"
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
		out, err := c.CombinedOutput()
		if x, ok := errors.AsType[*exec.ExitError](err); ok {
			return string(out), x.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		return string(out), 0
	}
	for _, c := range []struct {
		what     string
		uid, gid uint32
		groups   []uint32
		args     []string
		code     int
	}{
		{"the named user", 4001, 4001, nil, []string{"get", "c"}, exitOK},
		{"a member of the named group", 4002, 4002, []uint32{4100}, []string{"get", "c"}, exitOK},
		{"the named group as primary", 4003, 4100, nil, []string{"get", "c"}, exitOK},
		{"another user", 4004, 4004, []uint32{4005}, []string{"get", "c"}, exitDenied},
		{"the overflow user", 65534, 65534, nil, []string{"get", "c"}, exitDenied},
		{"the named user, a token that names others", 4001, 4001, nil, []string{"get", "d"}, exitDenied},
		{"the named user, a token that does not exist", 4001, 4001, nil, []string{"get", "nope"}, exitDenied},
		{"the named user, a manager's call", 4001, 4001, nil, []string{"refresh", "c"}, exitDenied},
		{"the named user may reject", 4001, 4001, nil, []string{"reject", "c", "1"}, exitOK},
		{"root", 0, 0, nil, []string{"get", "d"}, exitOK},
		{"root, a token that does not exist", 0, 0, nil, []string{"get", "nope"}, exitNoToken},
	} {
		out, code := as(c.uid, c.gid, c.groups, c.args...)
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d: %s", c.what, code, c.code, out)
		}
		if code != exitOK && strings.Contains(out, "eyJ") {
			t.Errorf("%s: was shown a token", c.what)
		}
	}
	out, _ := as(4001, 4001, nil, "status")
	if !strings.Contains(out, "c ") || strings.Contains(out, "\nd ") {
		t.Errorf("a reader sees:\n%s", out)
	}
}

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The made-up account that these tests' machine has.
const (
	serviceUID, serviceGID, extraGID = 64123, 64124, 64125

	asFileSource = "tokens:\n  f:\n    source: {type: file, path: f.token, format: raw, lifetime: {default: 1h}}\n    sinks: [{type: file%s}]\n"
)

// newRootRig is a rig whose agent root starts, on a machine that has the service's
// user. Its directories are still to be made.
func newRootRig(t *testing.T, config string) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	required(t, "mount")
	dir, err := os.MkdirTemp("", "renewd-root-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, log: &logBuffer{}}
	r.env = append(os.Environ(), "RUNTIME_DIRECTORY="+r.path("run"), "STATE_DIRECTORY="+r.path("var/state"), "RENEWD_SOCKET="+r.socket(), "NO_COLOR=1", "JOURNAL_STREAM=", "INVOCATION_ID=")
	r.put("renewd.yaml", config, 0o644)
	r.put("f.token", "abc", 0o644)
	r.put("passwd", readFile(t, "/etc/passwd")+fmt.Sprintf("renewd:x:%d:%d::/nonexistent:/usr/sbin/nologin\n", serviceUID, serviceGID), 0o644)
	r.put("group", readFile(t, "/etc/group")+fmt.Sprintf("renewd:x:%d:\nextra:x:%d:renewd\nothers:x:64126:\n", serviceGID, extraGID), 0o644)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := r.inside("true").CombinedOutput(); err != nil {
		t.Skipf("files cannot be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if r.proc != nil {
			r.kill()
		}
		if t.Failed() {
			t.Logf("log of the agent:\n%s", tail(r.log.String(), 60))
		}
	})
	return r
}

func (r *rig) put(name, text string, mode os.FileMode) {
	r.t.Helper()
	r.write(name, text)
	if err := os.Chmod(r.path(name), mode); err != nil {
		r.t.Fatal(err)
	}
}

// inside is a command on the machine that has the service's user.
func (r *rig) inside(args ...string) *exec.Cmd {
	c := exec.Command("sh", append([]string{"-c", `mount --bind passwd /etc/passwd && mount --bind group /etc/group && exec "$@"`, "sh"}, args...)...)
	c.Dir, c.Env = r.dir, r.env
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return c
}

// startByRoot starts the agent as root, by a program that takes it as arguments where
// one is given.
func (r *rig) startByRoot(by ...string) {
	r.t.Helper()
	r.begin(r.inside(append(by, theBinary(r.t), "run", "--config", r.path("renewd.yaml"))...))
	eventually(r.t, "the start", 20*time.Second, func() bool { return strings.Contains(r.log.String(), msgStarted) })
}

// give has a directory belong to the service's user.
func (r *rig) give(name string, mode os.FileMode) {
	r.t.Helper()
	if err := errors.Join(os.MkdirAll(r.path(name), mode), os.Chmod(filepath.Dir(r.path(name)), 0o755), os.Chown(r.path(name), serviceUID, serviceGID)); err != nil {
		r.t.Fatal(err)
	}
}

// rights are the running agent's ids and capabilities, of all its threads.
func (r *rig) rights() []string {
	r.t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", r.proc.Process.Pid))
	var out []string
	for _, path := range threads {
		for line := range strings.Lines(readFile(r.t, path)) {
			if f := strings.Fields(line); len(f) > 1 && slices.Contains([]string{"Uid:", "Gid:", "Groups:", "CapPrm:", "CapEff:"}, f[0]) {
				out = append(out, strings.Join(f, " "))
			}
		}
	}
	if err != nil || len(out) == 0 {
		r.t.Fatalf("no thread of the agent: %v", err)
	}
	return uniq(out)
}

// ownedBy fails unless all that is there belongs to the user.
func (r *rig) ownedBy(uid uint32, names ...string) {
	r.t.Helper()
	for _, name := range names {
		err := filepath.Walk(r.path(name), func(path string, fi os.FileInfo, err error) error {
			if err == nil && fi.Sys().(*syscall.Stat_t).Uid != uid {
				err = fmt.Errorf("%s belongs to uid %d, not to %d", path, fi.Sys().(*syscall.Stat_t).Uid, uid)
			}
			return err
		})
		if err != nil {
			r.t.Error(err)
		}
	}
}

// Root starts the agent and need not: it goes on as the service's user, with all
// that it makes, and the service's user can go on with that.
func TestE2ERootIsGivenUp(t *testing.T) {
	r := newRootRig(t, fmt.Sprintf(asFileSource, `, group: extra, mode: "0640"`))
	r.startByRoot()
	r.waitFile("f")
	id := func(n int) string { return fmt.Sprintf("%d %[1]d %[1]d %[1]d", n) }
	want := []string{"CapEff: 0000000000000000", "CapPrm: 0000000000000000", "Gid: " + id(serviceGID), fmt.Sprintf("Groups: %d %d", serviceGID, extraGID), "Uid: " + id(serviceUID)}
	if got := r.rights(); !slices.Equal(got, want) {
		t.Errorf("it has %q, want %q", got, want)
	}
	r.ownedBy(serviceUID, "run", "var")
	if n := strings.Count(r.log.String(), msgRootGiven); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
	process := func() string { _, l := r.http("/v1/tokens"); return fmt.Sprint(l["process"], l["warnings"]) }
	if got := process(); !strings.Contains(got, "runs as renewd, started as root") {
		t.Errorf("status says %q", got)
	}
	if fi, err := os.Stat(r.socket()); err != nil || fi.Mode().Perm() != 0o666 || fi.Sys().(*syscall.Stat_t).Gid != serviceGID {
		t.Errorf("the machine's socket: %v, %v", fi, err)
	}

	config := fmt.Sprintf(asFileSource, "") + strings.TrimPrefix(strings.ReplaceAll(fmt.Sprintf(asFileSource, ""), "  f:", "  g:"), "tokens:\n")
	r.put("renewd.yaml", config, 0o644)
	r.waitFile("g")
	r.put("renewd.yaml", strings.Replace(config, "[{type: file}]", "[{type: file, owner: nobody}]", 1), 0o644)
	eventually(t, "a warning of what needs root", 20*time.Second, func() bool {
		return strings.Contains(process(), "this needs root, which the running agent has given up: tokens.f.sinks[0].owner")
	})
	r.put("renewd.yaml", config, 0o644)
	eventually(t, "the end of the warning", 20*time.Second, func() bool { return !strings.Contains(process(), "this needs root") })
	r.stop()

	c := r.inside("setpriv", "--reuid=renewd", "--regid=renewd", "--init-groups", theBinary(t), "run", "--once", "--config", r.path("renewd.yaml"))
	if err := os.Chmod(filepath.Dir(theBinary(t)), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("the service's user cannot go on: %v: %s", err, out)
	}
	if out, err := r.inside(theBinary(t), "run", "--once", "--config", r.path("renewd.yaml")).CombinedOutput(); err != nil || !strings.Contains(string(out), msgRootGiven) {
		t.Errorf("once: %v: %s", err, out)
	}
	r.ownedBy(serviceUID, "run", "var")
}

// Root stays root where the config needs that, and says why and what to do.
func TestE2ERootIsKept(t *testing.T) {
	mkdir := func(r *rig, names ...string) {
		for _, name := range names {
			if err := errors.Join(os.MkdirAll(r.path(name), 0o755), os.Chmod(r.path(name), 0o755)); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	plain := fmt.Sprintf(asFileSource, "")
	for name, c := range map[string]struct {
		config, want string
		before       func(*rig)
	}{
		"an owner":    {fmt.Sprintf(asFileSource, ", owner: nobody"), "tokens.f.sinks[0].owner: only root may give a file away; leave owner out", nil},
		"a group":     {fmt.Sprintf(asFileSource, ", group: others"), "tokens.f.sinks[0].group: renewd is no member; run: usermod", nil},
		"its group":   {"socket: {group: others}\n" + plain, "socket.group: renewd is no member of others; run: usermod -aG others renewd", nil},
		"a program":   {"tokens:\n  x: {source: {type: exec, command: [/bin/echo, t], format: raw, lifetime: {default: 1h}}, sinks: [{type: file, path: f}]}\n", "tokens.x.source.command runs a program, which may need root", nil},
		"a keyring":   {plain + "  j: {source: {type: jwt, algorithm: HS256, key: {keyring: a/b}, lifetime: 5m}}\n", "tokens.j.source.key is kept in the keyring of who started the agent", nil},
		"a token":     {plain, "renewd cannot read {dir}/f.token; let it", func(r *rig) { r.put("f.token", "abc", 0o600) }},
		"the config":  {plain, "renewd cannot read the config: ", func(r *rig) { r.put("renewd.yaml", plain, 0o600) }},
		"a key":       {"state: {key: {file: {dir}/key}}\n" + plain, "renewd cannot read {dir}/key", func(r *rig) { r.put("key", strings.Repeat("k", 40), 0o600) }},
		"the state":   {plain, "{dir}/var/state does not belong to renewd; stop the agent and run: chown -R renewd: {dir}/var/state", func(r *rig) { mkdir(r, "var/state") }},
		"the runtime": {plain, "{dir}/run does not belong to renewd", func(r *rig) { mkdir(r, "run") }},
		"a socket":    {"socket: {path: {dir}/s/s.sock}\n" + plain, "renewd cannot make the socket in {dir}/s", func(r *rig) { mkdir(r, "s") }},
		"a place":     {fmt.Sprintf(asFileSource, "}, {type: file, path: {dir}/srv/t"), "f: file {dir}/srv/t: create a file beside", func(r *rig) { mkdir(r, "srv") }},
		"a port":      {"metrics: {listen: 127.0.0.1:81}\n" + plain, "metrics.listen: only root may listen on 127.0.0.1:81", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "a port" && strings.TrimSpace(readFile(t, "/proc/sys/net/ipv4/ip_unprivileged_port_start")) != "1024" {
				t.Skip("every user may listen there")
			}
			r := newRootRig(t, c.config)
			if c.before != nil {
				c.before(r)
			}
			r.startByRoot()
			r.waitFile("f")
			if got := r.rights(); !slices.Contains(got, "Uid: 0 0 0 0") || !slices.Contains(got, "Gid: 0 0 0 0") || slices.Contains(got, "CapEff: 0000000000000000") {
				t.Errorf("it has %q", got)
			}
			want := strings.ReplaceAll(c.want, "{dir}", r.dir)
			path := r.socket()
			if name == "a socket" {
				path = r.path("s/s.sock")
			}
			out, err := r.inside(theBinary(t), "status", "-o", "json", "--socket", path).CombinedOutput()
			if !strings.Contains(string(out), "runs as root: "+want) {
				t.Errorf("status says, %v:\n%s", err, out)
			}
			if said := r.log.String(); strings.Count(said, msgRootKept) != 1 || strings.Contains(said, msgRoot) || !strings.Contains(said, strings.Split(want, "; ")[0]) {
				t.Errorf("the log does not say it once:\n%s", said)
			}
		})
	}
}

// Root does not begin to write to the service's state where it could not go on.
func TestE2ERootLeavesTheServiceAlone(t *testing.T) {
	r := newRootRig(t, fmt.Sprintf(asFileSource, ", owner: nobody"))
	if err := errors.Join(os.Mkdir(r.path("run"), 0o711), os.Chown(r.path("run"), serviceUID, serviceGID)); err != nil {
		t.Fatal(err)
	}
	out, err := r.inside(theBinary(t), "run", "--config", r.path("renewd.yaml")).CombinedOutput()
	x, ok := errors.AsType[*exec.ExitError](err)
	if want := "this config needs root, and " + r.path("run") + " belongs to renewd: tokens.f.sinks[0].owner"; !ok || x.ExitCode() != exitFailed || !strings.Contains(string(out), want) {
		t.Errorf("it says, with %v, not %q:\n%s", err, want, out)
	}
	if r.here(r.path("var")) {
		t.Error("it made a state as root")
	}
	r.put("renewd.yaml", "tokenz: {}\n", 0o644)
	if out, _ := r.inside(theBinary(t), "run", "--config", r.path("renewd.yaml")).CombinedOutput(); !strings.Contains(string(out), "tokenz") || strings.Contains(string(out), "needs root") {
		t.Errorf("of a config with an error it says:\n%s", out)
	}
}

// Root that may not change its user is told so, and goes on as it is.
func TestE2ERootThatMayNotChange(t *testing.T) {
	required(t, "setpriv")
	for name, lacks := range map[string]string{"neither": "-setuid,-setgid", "its user": "-setuid", "its groups": "-setgid"} {
		t.Run(name, func(t *testing.T) {
			r := newRootRig(t, fmt.Sprintf(asFileSource, ""))
			r.startByRoot("setpriv", "--bounding-set", lacks)
			r.waitFile("f")
			if got := r.rights(); !slices.Contains(got, "Uid: 0 0 0 0") || !slices.Contains(got, "Gid: 0 0 0 0") || slices.Contains(got, fmt.Sprintf("Groups: %d %d", serviceGID, extraGID)) {
				t.Errorf("it has %q", got)
			}
			if said := r.log.String(); !strings.Contains(said, "the process may not become renewd: ") {
				t.Errorf("the log does not say it:\n%s", said)
			}
		})
	}
}

// What root does to the service's state by other verbs, the service's user can go on
// with; what only root could do is refused, and follows no link there.
func TestE2ERootTendsTheServicesState(t *testing.T) {
	plain := fmt.Sprintf(asFileSource, "")
	r := newRootRig(t, plain)
	r.give("var/state", 0o700)
	r.put("theirs", "untouched", 0o600)
	if err := errors.Join(os.Symlink(r.path("theirs"), r.path("var/state/state.pid")), os.Chmod(filepath.Dir(theBinary(t)), 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"check", "--login"}, "login worked"},
		{[]string{"state", "reset", "--keep-broken"}, "state put aside"},
		{[]string{"run", "--once"}, msgRootGiven},
	} {
		out, err := r.inside(append(append([]string{theBinary(t)}, c.args...), "--config", r.path("renewd.yaml"))...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%q says, with %v, not %q:\n%s", c.args, err, c.want, out)
		}
		r.ownedBy(serviceUID, "var/state")
	}
	r.put("renewd.yaml", fmt.Sprintf(asFileSource, ", owner: nobody"), 0o644)
	out, err := r.inside(theBinary(t), "run", "--once", "--config", r.path("renewd.yaml")).CombinedOutput()
	if want := "this config needs root, and " + r.path("var/state") + " belongs to renewd"; err == nil || !strings.Contains(string(out), want) {
		t.Errorf("once says, with %v, not %q:\n%s", err, want, out)
	}
	r.put("renewd.yaml", plain, 0o644)
	r.put("var/state/x", "", 0o600)
	out, err = r.inside(theBinary(t), "run", "--once", "--config", r.path("renewd.yaml")).CombinedOutput()
	if want := r.path("var/state/x") + " does not belong to renewd\nrenewd: hint: stop the agent and run: chown -R renewd: " + r.path("var/state"); err == nil || !strings.Contains(string(out), want) {
		t.Errorf("of root's file in the state it says, with %v, not %q:\n%s", err, want, out)
	}
	// A service that starts on it waits for a person, as with a broken one (slowly).
	if err := os.Chown(r.path("var/state/state.db"), 0, 0); err != nil {
		t.Fatal(err)
	}
	out, err = r.inside("setpriv", "--reuid=renewd", "--regid=renewd", "--init-groups", theBinary(t), "run", "--config", r.path("renewd.yaml")).CombinedOutput()
	if x, ok := errors.AsType[*exec.ExitError](err); !ok || x.ExitCode() != exitUsage || !strings.Contains(string(out), "hint: give "+r.path("var/state")+", and all that is in it, to the user") {
		t.Errorf("the service's user says of it, with %v:\n%s", err, out)
	}
	if got := readFile(t, r.path("theirs")); got != "untouched" {
		t.Errorf("root followed a link of the service's user: %q", got)
	}
}

// Root makes no directory where another user says, nor where another could put
// something in its way.
func TestE2ERootMakesNoDirectoryForAnother(t *testing.T) {
	for name, c := range map[string]struct {
		uid   int // of the config
		above int // of the directory above
		made  bool
	}{
		"root's own":        {0, 0, true},
		"the user's config": {serviceUID, 0, false},
		"another's place":   {0, 64127, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRootRig(t, "state: {dir: {dir}/place/new/state}\n"+fmt.Sprintf(asFileSource, ""))
			if err := errors.Join(os.Mkdir(r.path("place"), 0o755), os.Chown(r.path("place"), c.above, 0), os.Chown(r.path("renewd.yaml"), c.uid, 0)); err != nil {
				t.Fatal(err)
			}
			out, err := r.inside(theBinary(t), "run", "--once", "--config", r.path("renewd.yaml")).CombinedOutput()
			if (err == nil) != c.made || r.here(r.path("place/new")) != c.made {
				t.Errorf("with %v: %s", err, out)
			}
			if c.made {
				r.ownedBy(serviceUID, "place/new", "run")
			}
		})
	}
}

// What root runs as the service's user tells that user's other processes nothing of
// root's.
func TestAnotherUsersCommandHasNothingOfOurs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	t.Setenv("OURS", "secret")
	cred := &syscall.Credential{Uid: serviceUID, Gid: serviceGID}
	out, err := asUser(&user.User{HomeDir: "/nonexistent"}, cred, "sh", "-c", "env; id -u; cut -d' ' -f6 /proc/$$/stat; echo $$").CombinedOutput()
	lines := strings.Fields(string(out))
	if err != nil || strings.Contains(string(out), "secret") || !slices.Contains(lines, fmt.Sprint(serviceUID)) {
		t.Errorf("with %v it has:\n%s", err, out)
	}
	if n := len(lines); n < 2 || lines[n-1] != lines[n-2] {
		t.Errorf("it leads no session of its own:\n%s", out)
	}
}

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// image is what a Containerfile makes, as far as ours goes: an instruction that is
// not known here fails the test.
type image struct {
	t        *testing.T
	context  string // directory of the source
	root     string // of the stage under way
	stages   map[string]string
	workdir  string
	env      []string // of the stage under way
	uid, gid uint32
	command  []string
}

// buildImage follows the instructions. A stage that is from a toolchain's image is
// from this machine instead, whose files it sees and does not change; what it runs
// is run as it stands.
func buildImage(t *testing.T, source, file string) *image {
	t.Helper()
	m := &image{t: t, context: source, stages: map[string]string{}}
	for line := range strings.Lines(strings.ReplaceAll(read(t, file), "\\\n", " ")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		f := strings.Fields(rest)
		switch word {
		case "FROM":
			m.from(f)
		case "ARG", "ENV":
			m.env = append(m.env, f...)
		case "WORKDIR":
			m.workdir = rest
			m.must(os.MkdirAll(filepath.Join(m.root, rest), 0o755))
		case "COPY":
			m.copy(f)
		case "RUN":
			m.run(rest)
		case "USER":
			_, err := fmt.Sscanf(rest, "%d:%d", &m.uid, &m.gid)
			m.must(err)
		case "ENTRYPOINT", "CMD":
			var args []string
			m.must(json.Unmarshal([]byte(rest), &args))
			m.command = append(m.command, args...)
		default:
			t.Fatalf("instruction %s is not known here", word)
		}
	}
	return m
}

func (m *image) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *image) from(f []string) {
	m.t.Helper()
	m.root, m.workdir, m.env = m.t.TempDir(), "/", nil
	m.must(os.Chmod(m.root, 0o755))
	if f[0] == "scratch" {
		return
	}
	if len(f) != 3 || !strings.Contains(f[0], "/golang:") {
		m.t.Fatalf("FROM %v is not known here", f)
	}
	up, work := m.t.TempDir(), m.t.TempDir()
	m.must(unix.Mount("overlay", m.root, "overlay", 0, "lowerdir=/,upperdir="+up+",workdir="+work))
	for _, mount := range []struct {
		from, to, kind string
		flags          uintptr
	}{{"proc", "proc", "proc", 0}, {"/dev", "dev", "", unix.MS_BIND}} {
		m.must(unix.Mount(mount.from, filepath.Join(m.root, mount.to), mount.kind, mount.flags, ""))
	}
	for _, path := range []string{"", "proc", "dev"} { // ends in the other order
		at := filepath.Join(m.root, path)
		m.t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	}
	m.stages[f[2]] = m.root
}

func (m *image) copy(f []string) {
	m.t.Helper()
	from, owner := m.context, ""
	for ; strings.HasPrefix(f[0], "--"); f = f[1:] {
		key, value, _ := strings.Cut(f[0], "=")
		switch key {
		case "--from":
			from = m.stages[value]
		case "--chown":
			owner = value
		default:
			m.t.Fatalf("COPY %s is not known here", key)
		}
	}
	to := filepath.Join(m.root, m.workdir, f[len(f)-1])
	for _, what := range f[:len(f)-1] {
		args := []string{"cp", "-R", "--preserve=mode"} // all belongs to root but for --chown
		at := filepath.Join(from, what)
		if fi, err := os.Stat(at); err == nil && fi.IsDir() {
			m.must(os.MkdirAll(to, 0o755))
			at += "/." // what is in it
		}
		m.tool(append(args, at, to)...)
		if owner != "" { // of what was copied
			m.tool("sh", "-c", `cd "$1" && find . -mindepth 1 -exec chown "$2" "$3"/{} \;`, "-", at, owner, to)
		}
	}
}

// run runs a command in the stage, with this machine's settings of Go.
func (m *image) run(command string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "chroot", m.root, "/bin/sh", "-c", "cd "+m.workdir+" && "+command)
	c.Env = append(os.Environ(), m.env...)
	if out, err := c.CombinedOutput(); err != nil {
		m.t.Fatalf("RUN %s: %v\n%s", command, err, out)
	}
}

func (m *image) tool(args ...string) {
	m.t.Helper()
	if out, err := exec.CommandContext(m.t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// process is the image's command, or another one, on its files and as its account,
// with its environment alone.
func (m *image) process(args ...string) *exec.Cmd {
	if len(args) == 0 {
		args = m.command
	}
	c := exec.Command(args[0], args[1:]...)
	c.Path = args[0]
	c.Dir = "/"
	c.Env = append([]string{"PATH=/usr/bin"}, m.env...)
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root, Credential: &syscall.Credential{Uid: m.uid, Gid: m.gid}}
	return c
}

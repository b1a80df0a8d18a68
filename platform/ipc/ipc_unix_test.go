//go:build unix

package ipc

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shortDir keeps below sun_path's limit, which t.TempDir with a test's name may
// not.
func shortDir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("", "ipc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(d) })
	return d
}

func listen(t *testing.T, o Options) *Listener {
	t.Helper()
	l, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode()
}

func TestTheSocketHasItsModeWhateverTheUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := shortDir(t)
	path := filepath.Join(dir, "s.sock")
	l := listen(t, Options{Path: path, Mode: 0o666})
	if m := mode(t, path); m != fs.ModeSocket|0o666 {
		t.Fatalf("mode %v", m)
	}
	if l.GID != os.Getegid() {
		t.Fatalf("group %d", l.GID)
	}
	list, _ := os.ReadDir(dir)
	if len(list) != 2 { // socket and lock
		t.Fatalf("left in the directory: %v", list)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("the socket outlives its listener")
	}
}

func TestALiveAgentIsNotPushedAside(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	listen(t, Options{Path: path})
	if _, err := Listen(Options{Path: path}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "pid") {
		t.Fatalf("beside a live agent: %v", err)
	}
	if c, err := Dial(t.Context(), path); err != nil {
		t.Fatalf("the first agent: %v", err)
	} else {
		_ = c.Close()
	}

	// One that knows nothing of the lock.
	path = filepath.Join(shortDir(t), "s.sock")
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := Listen(Options{Path: path}); !errors.Is(err, ErrInUse) {
		t.Fatalf("beside a foreign listener: %v", err)
	}
}

func TestADeadSocketIsReplacedAndNothingElse(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "s.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	_ = os.MkdirAll(filepath.Join(dir, privatePrefix+"dead", privateName), 0o700)
	listen(t, Options{Path: path})
	if left, _ := filepath.Glob(filepath.Join(dir, privatePrefix+"*")); len(left) != 0 {
		t.Fatalf("a crashed agent's directory was left: %v", left)
	}

	for what, make := range map[string]func(string) error{
		"file":    func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) },
		"symlink": func(p string) error { return os.Symlink("/nowhere", p) },
	} {
		p := filepath.Join(dir, what)
		if err := make(p); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(p)
		if _, err := Listen(Options{Path: p}); err == nil || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("%s: %v", what, err)
		}
		if after, err := os.Lstat(p); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s was replaced", what)
		}
	}
}

func TestCloseLeavesAnothersSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	l := listen(t, Options{Path: path})
	_ = os.Remove(path)
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_ = l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal("Close took away a socket that was not its own")
	}
}

func TestALongPathSaysHowLong(t *testing.T) {
	_, err := Listen(Options{Path: filepath.Join(shortDir(t), strings.Repeat("x", 120))})
	if err == nil || !strings.Contains(err.Error(), "bytes and the system allows") {
		t.Fatalf("got %v", err)
	}
}

func TestADirectoryThatOthersCanChangeIsRefused(t *testing.T) {
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Options{Path: filepath.Join(dir, "s")}); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "chmod go-w") {
		t.Fatalf("got %v", err)
	}
}

func TestPeerIsTheKernelsWord(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	l := listen(t, Options{Path: path})
	go func() {
		if c, err := Dial(context.Background(), path); err == nil {
			_, _ = c.Read(make([]byte, 1))
		}
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := PeerOf(c)
	if err != nil || !p.IsUser(uint32(os.Geteuid())) || !p.InGroup(uint32(os.Getegid())) {
		t.Fatalf("%+v, %v", p, err)
	}
}

func TestSupplementaryGroupsOfAPeer(t *testing.T) {
	if path := os.Getenv("RENEWD_TEST_DIAL"); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Read(make([]byte, 1))
		os.Exit(0)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can take on groups")
	}
	dir := shortDir(t)
	_ = os.Chmod(dir, 0o755)
	exe := filepath.Join(dir, "test")
	if b, err := os.ReadFile(os.Args[0]); err != nil || os.WriteFile(exe, b, 0o755) != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s.sock")
	l := listen(t, Options{Path: path, Mode: 0o666})
	many := make([]uint32, 100) // more than one call's room
	for i := range many {
		many[i] = uint32(5000 + i)
	}
	for _, uid := range []uint32{12345, nobody} {
		cmd := exec.Command(exe, "-test.run=^TestSupplementaryGroupsOfAPeer$")
		cmd.Env = append(os.Environ(), "RENEWD_TEST_DIAL="+path)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: 4999, Groups: many}}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		p, err := PeerOf(c)
		_ = c.Close()
		_ = cmd.Wait()
		if err != nil || p.PID != cmd.Process.Pid {
			t.Fatalf("%+v, %v", p, err)
		}
		if uid == nobody {
			if p.IsUser(nobody) || p.InGroup(5099) {
				t.Fatal("uid 65534 matches something")
			}
			continue
		}
		if !p.IsUser(uid) || p.IsUser(0) || !p.InGroup(4999) || !p.InGroup(5099) || p.InGroup(5100) {
			t.Fatalf("%+v", p)
		}
	}
}

func TestDialTellsNoAgentFromAnUntrustedOne(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "s.sock")
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrNoAgent) {
		t.Fatalf("nothing there: %v", err)
	}
	if _, err := Dial(t.Context(), filepath.Join(dir, "no", "dir")); !errors.Is(err, ErrNoAgent) {
		t.Fatalf("no directory: %v", err)
	}
	l := listen(t, Options{Path: path})
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 12345, -1); err != nil {
			t.Fatal(err)
		}
		if _, err := Dial(t.Context(), path); !errors.Is(err, ErrUntrusted) {
			t.Fatalf("someone else's directory: %v", err)
		}
		_ = os.Chown(dir, 0, -1)
	}
	_ = l.Close()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrNoAgent) {
		t.Fatalf("a FIFO: %v", err)
	}
}

func TestDialWaitsOutAFullBacklog(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for { // fill it
		c, err := net.Dial("unix", path)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	got := make(chan error)
	go func() {
		c, err := Dial(context.Background(), path)
		if err == nil {
			_ = c.Close()
		}
		got <- err
	}()
	for {
		select {
		case err := <-got:
			if err != nil {
				t.Fatal(err)
			}
			return
		case <-time.After(50 * time.Millisecond):
			if c, _, err := unix.Accept(fd); err == nil {
				_ = unix.Close(c)
			}
		}
	}
}

func TestActivationTakesTheSocketAndChangesNothing(t *testing.T) {
	if path := os.Getenv("RENEWD_TEST_ACTIVATED"); path != "" {
		// As systemd does it: the pid is only known after fork.
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		l, err := Listen(Options{Path: path + ".configured", Mode: 0o666, Group: "54321"})
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString(strings.Join(l.Warnings, "\n") + "\nactivated=" + map[bool]string{true: "yes", false: "no"}[l.Activated] + "\n")
		_ = l.Close()
		os.Exit(0)
	}
	path := filepath.Join(shortDir(t), "s.sock")
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_ = os.Chmod(path, 0o640)
	f, err := u.File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestActivationTakesTheSocketAndChangesNothing$")
	cmd.Env = append(os.Environ(), "RENEWD_TEST_ACTIVATED="+path, "LISTEN_FDS=1")
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"activated=yes", path, "mode 0640", "0666", "group"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if m := mode(t, path); m != fs.ModeSocket|0o640 {
		t.Errorf("the socket was changed or removed: %v", m)
	}
}

// kept is a socket whose process has gone and left it to the manager.
func kept(t *testing.T, o Options) Options {
	t.Helper()
	l, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.Listener.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	l.Stay()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o.Kept, o.KeptID = f, l.ID
	return o
}

// Who connects between two processes is answered by the second.
func TestAKeptSocketGoesOn(t *testing.T) {
	o := kept(t, Options{Path: filepath.Join(shortDir(t), "s.sock"), Mode: 0o640})
	c, err := Dial(context.Background(), o.Path)
	if err != nil {
		t.Fatalf("refused between the processes: %v", err)
	}
	defer c.Close()
	l := listen(t, o)
	if !l.Resumed || l.ID != o.KeptID || l.GID != os.Getegid() {
		t.Errorf("%+v", l)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	if _, err := Listen(o); !errors.Is(err, ErrInUse) {
		t.Errorf("a second agent: %v", err)
	}
}

// A socket that is not what is asked for now, or not the one at the path, is
// replaced.
func TestAKeptSocketIsTakenOnlyAsItShouldBe(t *testing.T) {
	for name, change := range map[string]func(o *Options){
		"another mode":          func(o *Options) { o.Mode = 0o666 },
		"another group":         func(o *Options) { o.Group = "54321" },
		"another path":          func(o *Options) { o.Path += "2" },
		"another ID":            func(o *Options) { o.KeptID += "0" },
		"mode changed since":    func(o *Options) { _ = os.Chmod(o.Path, 0o666) },
		"removed since":         func(o *Options) { _ = os.Remove(o.Path) },
		"not a socket any more": func(o *Options) { o.Kept, _ = os.Open(os.DevNull) },
	} {
		t.Run(name, func(t *testing.T) {
			if os.Geteuid() != 0 && name == "another group" {
				t.Skip("needs root")
			}
			o := kept(t, Options{Path: filepath.Join(shortDir(t), "s.sock"), Mode: 0o640})
			change(&o)
			if name == "another ID" { // what stands there is alive
				if _, err := Listen(o); !errors.Is(err, ErrInUse) {
					t.Errorf("a live socket of someone's was taken: %v", err)
				}
				return
			}
			l := listen(t, o)
			if l.Resumed {
				t.Error("it was taken")
			}
			done := make(chan error, 1)
			go func() {
				c, err := l.Accept()
				if err == nil {
					_ = c.Close()
				}
				done <- err
			}()
			c, err := Dial(context.Background(), o.Path)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

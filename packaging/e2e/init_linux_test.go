package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// initRoot names the root directory of a box: in its first process, which is
// this very program again.
const initRoot = "RENEWD_E2E_INIT"

func TestMain(m *testing.M) {
	if root := os.Getenv(initRoot); root != "" {
		if err := becomeInit(root); err != nil {
			fmt.Fprintln(os.Stderr, "box:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// becomeInit turns this process, the first of its namespaces, into systemd on
// root.
func becomeInit(root string) error {
	runtime.LockOSThread() // a cgroup namespace is a thread's
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("take a cgroup namespace: %w", err)
	}
	b := &builder{root: root}
	b.mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	b.mount(root, root, "", unix.MS_BIND, "")
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	b.mount("proc", b.at("proc"), "proc", quiet, "")
	b.mount("sysfs", b.at("sys"), "sysfs", quiet|unix.MS_RDONLY, "")
	b.mount("cgroup2", b.at("sys/fs/cgroup"), "cgroup2", quiet, "")
	b.mount("tmpfs", b.at("dev"), "tmpfs", unix.MS_NOSUID, "mode=755")
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		b.bind("/dev/"+name, b.at("dev/"+name))
	}
	b.mkdir("dev/pts", "dev/shm")
	b.mount("devpts", b.at("dev/pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
	b.mount("tmpfs", b.at("dev/shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
	b.mount("tmpfs", b.at("run"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755")
	for name, to := range map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		b.do(os.Symlink(to, b.at("dev/"+name)))
	}
	// The kernel's settings are the whole machine's, but for the network's own.
	for _, name := range []string{"proc/sys", "proc/sysrq-trigger"} {
		if _, err := os.Stat(b.at(name)); err != nil {
			continue
		}
		b.bind(b.at(name), b.at(name))
		b.mount("", b.at(name), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	// Each boot has an id of its own, as on a machine: renewd asks for it.
	id, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	b.do(err)
	b.mkdir("run/host")
	b.do(os.WriteFile(b.at("run/host/boot-id"), id, 0o444))
	b.bind(b.at("run/host/boot-id"), b.at("proc/sys/kernel/random/boot_id"))
	b.do(unix.Sethostname([]byte("box")))
	b.mkdir("run/host/old")
	if b.err == nil {
		b.do(unix.PivotRoot(root, b.at("run/host/old")))
		b.do(os.Chdir("/"))
		b.do(unix.Unmount("/run/host/old", unix.MNT_DETACH))
		b.do(os.Remove("/run/host/old"))
	}
	// PID 1 does so itself on a machine; without it credentials stay empty.
	b.mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
	if b.err != nil {
		return b.err
	}
	// What reaches beyond the box is given up.
	args := []string{"setpriv", "--bounding-set=-sys_module,-sys_rawio,-sys_time,-wake_alarm,-block_suspend,-syslog,-mac_admin,-mac_override", "/sbin/init"}
	env := []string{"container=renewd-e2e", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return syscall.Exec("/usr/bin/setpriv", args, env)
}

// builder makes a root file system; after an error it does nothing more.
type builder struct {
	root string
	err  error
}

func (b *builder) at(name string) string { return filepath.Join(b.root, name) }

func (b *builder) do(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *builder) mkdir(names ...string) {
	for _, name := range names {
		if b.err == nil {
			b.do(os.MkdirAll(b.at(name), 0o755))
		}
	}
}

func (b *builder) mount(what, where, kind string, flags uintptr, data string) {
	if b.err != nil {
		return
	}
	if err := unix.Mount(what, where, kind, flags, data); err != nil {
		b.err = fmt.Errorf("mount %s on %s: %w", kind, where, err)
	}
}

func (b *builder) bind(from, to string) {
	if b.err != nil {
		return
	}
	if _, err := os.Lstat(to); err != nil {
		f, err := os.Create(to)
		if err != nil {
			b.err = err
			return
		}
		_ = f.Close()
	}
	b.mount(from, to, "", unix.MS_BIND, "")
}

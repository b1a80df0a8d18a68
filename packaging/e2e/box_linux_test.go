package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// box is a machine of its own: a Debian with systemd as its first process.
type box struct {
	t      *testing.T
	root   string
	cgroup string
	init   *exec.Cmd
	ended  chan error
}

// wanted skips unless the gate asked for these tests; then whatever is missing
// fails them.
func wanted(t *testing.T) {
	t.Helper()
	require(t, "systemd", "boots a systemd, as root")
	if os.Geteuid() != 0 {
		t.Fatal("a box needs root")
	}
}

// require skips unless RENEWD_REQUIRE names what a test needs.
func require(t *testing.T, what, does string) {
	t.Helper()
	if !slices.Contains(strings.Split(os.Getenv("RENEWD_REQUIRE"), ","), what) {
		t.Skipf("%s: RENEWD_REQUIRE=%s asks for it", does, what)
	}
}

// newBox copies the prepared root file system and boots it.
func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{t: t, root: filepath.Join(t.TempDir(), "root")}
	if out, err := exec.Command("cp", "-a", "--reflink=auto", baseRoot(t), b.root).CombinedOutput(); err != nil {
		t.Fatalf("copy the root file system: %v: %s", err, out)
	}
	b.cgroup = filepath.Join(cgroup2(t), "renewd-e2e-"+strconv.Itoa(os.Getpid()))
	t.Cleanup(b.down)
	return b
}

// baseRoot makes the root file system, once for this checkout.
func baseRoot(t *testing.T) string {
	t.Helper()
	cache := cacheDir(t)
	root := filepath.Join(cache, "root-2") // another number where what is in it changes
	if _, err := os.Stat(root); err == nil {
		return root
	}
	began := time.Now()
	tmp, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	// The machine's own sources and settings of apt, which are not kept.
	const script = `set -eu
apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u | sed 's/^/deb /' >sources
apt-config dump | grep -E '^Acquire::(http|https|Check-Valid-Until|Check-Date|Retries|ForceIPv[46])(::| )' | grep -v ' "";$' >apt.conf || true
. /etc/os-release
mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
	--include=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,libnss-systemd,curl,sudo \
	--aptopt="$PWD/apt.conf" --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
	--dpkgopt='path-exclude=/usr/share/locale/*' "$VERSION_CODENAME" root sources
cd root
rm -f etc/apt/sources.list etc/apt/sources.list.d/* etc/apt/apt.conf.d/99mmdebstrap etc/dpkg/dpkg.cfg.d/99mmdebstrap usr/sbin/policy-rc.d etc/resolv.conf
: >etc/machine-id; echo box >etc/hostname; echo '127.0.0.1 localhost box' >etc/hosts; : >etc/fstab
touch etc/.updated var/.updated
mkdir -p var/log/journal etc/systemd/journald.conf.d
printf '[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n' >etc/systemd/journald.conf.d/box.conf
for u in console-getty.service getty@.service getty-static.service serial-getty@.service systemd-udevd.service systemd-networkd.service systemd-resolved.service systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do ln -sf /dev/null etc/systemd/system/$u; done
chmod 755 .
`
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "bash", "-c", script)
	c.Dir = tmp
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("make the root file system: %v: %s", err, out)
	}
	if err := os.Rename(filepath.Join(tmp, "root"), root); err != nil {
		t.Fatal(err)
	}
	t.Logf("the root file system was made in %v", time.Since(began).Round(time.Second))
	return root
}

// cgroup2 is where the machine has mounted the one hierarchy.
func cgroup2(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	dir := t.TempDir()
	if err := unix.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
		t.Fatalf("mount cgroup2: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// part is a subtest on the box.
func (b *box) part(name string, f func(*testing.T)) {
	whole := b.t
	whole.Run(name, func(t *testing.T) {
		b.t = t
		defer func() { b.t = whole }()
		f(t)
	})
}

// inCgroup makes a group below the box's and opens it for a new process.
func (b *box) inCgroup(name string) *os.File {
	b.t.Helper()
	dir := filepath.Join(b.cgroup, name)
	err := os.MkdirAll(dir, 0o755)
	var f *os.File
	if err == nil {
		f, err = os.Open(dir)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

// boot starts the box and waits until its boot is over.
func (b *box) boot() {
	b.t.Helper()
	console, err := os.OpenFile(b.root+".console", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer console.Close()
	group := b.inCgroup("")
	defer group.Close()
	b.init = exec.Command("/proc/self/exe")
	b.init.Env = []string{initRoot + "=" + b.root}
	b.init.Stdout, b.init.Stderr = console, console
	b.init.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd()), Setsid: true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET}
	if err := b.init.Start(); err != nil {
		b.t.Fatalf("start the box: %v", err)
	}
	b.ended = make(chan error, 1)
	go func(c *exec.Cmd, ended chan error) { ended <- c.Wait() }(b.init, b.ended)
	last := ""
	b.eventually("the boot", time.Minute, func() bool {
		select {
		case err := <-b.ended:
			text, _ := os.ReadFile(b.root + ".console")
			b.t.Fatalf("the box ended while it booted: %v\n%s", err, text)
		default:
		}
		last, _ = b.try("systemctl", "is-system-running")
		return last == "running" || last == "degraded"
	})
	if last == "degraded" {
		failed, _ := b.try("systemctl", "--failed", "--plain", "--no-legend")
		b.t.Logf("booted, but failed: %s", failed)
	}
}

// reboot is systemctl reboot: what is in memory is lost, the disk stays.
func (b *box) reboot() {
	b.t.Helper()
	_, _ = b.try("systemctl", "--no-block", "reboot")
	select {
	case err := <-b.ended:
		x, ok := errors.AsType[*exec.ExitError](err)
		if !ok || x.Sys().(syscall.WaitStatus).Signal() != syscall.SIGHUP { // pid_namespaces(7)
			b.t.Fatalf("the box did not reboot, it ended: %v", err)
		}
	case <-time.After(90 * time.Second):
		b.t.Fatal("the box did not go down")
	}
	b.boot()
}

func (b *box) down() {
	if b.t.Failed() && b.init != nil {
		log, _ := b.try("journalctl", "--no-pager", "-n", "60", "-o", "short-precise")
		b.t.Logf("the box's journal:\n%s", log)
	}
	if b.init != nil {
		_ = b.init.Process.Kill()
		select {
		case <-b.ended:
		case <-time.After(10 * time.Second):
		}
	}
	// The kernel empties the groups a moment after the processes are gone.
	for range 100 {
		for _, dir := range groups(b.cgroup) {
			_ = os.Remove(dir)
		}
		if _, err := os.Stat(b.cgroup); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// groups are all directories below a cgroup and it, the innermost first.
func groups(dir string) (out []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, groups(filepath.Join(dir, e.Name()))...)
		}
	}
	return append(out, dir)
}

// try runs a command in the box as root and gives what it printed.
func (b *box) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	group := b.inCgroup("e2e.run")
	defer group.Close()
	c := exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(b.init.Process.Pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
		"--root", "--wd", "--", "env", "-i", "HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=dumb", "DEBIAN_FRONTEND=noninteractive",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return strings.TrimSpace(out.String()), err
}

// run is try for what must work.
func (b *box) run(args ...string) string {
	b.t.Helper()
	out, err := b.try(args...)
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// refused is try for what must not.
func (b *box) refused(args ...string) string {
	b.t.Helper()
	out, err := b.try(args...)
	if err == nil {
		b.t.Fatalf("%s: it worked, and must not\n%s", strings.Join(args, " "), out)
	}
	return out
}

// as runs a command as another user of the box, with that user's groups.
func as(user string, args ...string) []string {
	return append([]string{"runuser", "-u", user, "--"}, args...)
}

// write puts a file into the box's disk.
func (b *box) write(path, text string, mode os.FileMode) {
	b.t.Helper()
	at := filepath.Join(b.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), mode), os.Chmod(at, mode)); err != nil {
		b.t.Fatal(err)
	}
}

// inside is a path in the box, of its memory too, as this machine sees it.
func (b *box) inside(path string) string {
	return fmt.Sprintf("/proc/%d/root%s", b.init.Process.Pid, path)
}

// show asks systemd for one property of the service.
func (b *box) show(property string) string {
	b.t.Helper()
	return b.run("systemctl", "show", "renewd.service", "--value", "--property="+property)
}

// eventually waits for a condition, never for a time.
func (b *box) eventually(what string, within time.Duration, ok func() bool) time.Duration {
	b.t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > within {
			b.t.Fatalf("did not happen within %v: %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

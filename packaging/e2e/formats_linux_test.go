package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"renewd/packaging/systemd"
)

// tree is a root file system that nothing runs in: a package manager of this
// machine installs into it, and runs the package's scripts there.
type tree struct {
	t    *testing.T
	root string
}

func debianTree(t *testing.T) *tree {
	t.Helper()
	x := &tree{t, filepath.Join(t.TempDir(), "root")}
	x.run("cp", "-a", "--reflink=auto", baseRoot(t), x.root)
	return x
}

func (x *tree) run(args ...string) string {
	x.t.Helper()
	out, err := exec.CommandContext(x.t.Context(), args[0], args[1:]...).CombinedOutput()
	if err != nil {
		x.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// in runs a command in the tree.
func (x *tree) in(args ...string) string {
	x.t.Helper()
	return x.run(append([]string{"chroot", x.root}, args...)...)
}

func (x *tree) has(path string) bool {
	_, err := os.Lstat(filepath.Join(x.root, path))
	return err == nil
}

func (x *tree) write(path, text string) {
	x.t.Helper()
	if err := os.WriteFile(filepath.Join(x.root, path), []byte(text), 0o644); err != nil {
		x.t.Fatal(err)
	}
}

func (x *tree) program(path, script string) {
	x.t.Helper()
	x.write(path, "#!/bin/sh\n"+script+"\n")
	if err := os.Chmod(filepath.Join(x.root, path), 0o755); err != nil {
		x.t.Fatal(err)
	}
}

// installed is what every package brings.
func (x *tree) installed(version string) {
	x.t.Helper()
	if v := x.in("/usr/bin/renewd", "version"); !strings.HasPrefix(v, "renewd "+version+" ") {
		x.t.Errorf("it is %q, want version %s", v, version)
	}
	if got := read(x.t, filepath.Join(x.root, "usr/lib/systemd/system/renewd.service")); got != string(systemd.Unit) {
		x.t.Error("the installed unit is not the embedded one")
	}
	if who := read(x.t, filepath.Join(x.root, "etc/passwd")); strings.Count(who, "\nrenewd:") != 1 {
		x.t.Errorf("the account is not there once:\n%s", who)
	}
	if fi, err := os.Stat(filepath.Join(x.root, "usr/lib/tmpfiles.d/renewd.conf")); err != nil || fi.Mode().Perm() != 0o644 {
		x.t.Errorf("what makes the runtime directories at a boot: %v, %v", fi, err)
	}
	if x.has("run/renewd") {
		x.t.Error("runtime directories are made where nothing runs")
	}
	for path, mode := range map[string]os.FileMode{"usr/bin/renewd": 0o755, "etc/renewd/renewd.yaml": 0o644, "etc/renewd": 0o755, "etc/renewd/conf.d": 0o755,
		"usr/share/man/man1/renewd.1.gz": 0o644, "usr/share/doc/renewd/examples/commander.yaml": 0o644, "usr/share/bash-completion/completions/renewd": 0o644} {
		if fi, err := os.Stat(filepath.Join(x.root, path)); err != nil || fi.Mode().Perm() != mode {
			x.t.Errorf("%s: %v, %v, want %v", path, fi, err, mode)
		}
	}
}

const ownConfig = "tokens: {} # mine\n"

// lives is a package's life: installed, configured, upgraded, removed. fresh and
// saved are what its manager calls a new default, and a removed config that was
// changed.
func (x *tree) lives(install, upgrade, remove func(), fresh, saved string) {
	x.t.Helper()
	install()
	x.installed("1.0.0")
	x.write("etc/renewd/renewd.yaml", ownConfig)
	upgrade()
	x.installed("1.1.0")
	if got := read(x.t, filepath.Join(x.root, "etc/renewd/renewd.yaml")); got != ownConfig {
		x.t.Error("the upgrade changed the admin's config")
	}
	if !x.has("etc/renewd/renewd.yaml" + fresh) {
		x.t.Error("the new default is not beside it")
	}
	enabled := "etc/systemd/system/multi-user.target.wants/renewd.service"
	x.t.Logf("enabled by the system's presets: %v", x.has(enabled))
	remove()
	for _, path := range []string{"usr/bin/renewd", "usr/lib/systemd/system/renewd.service", "usr/lib/sysusers.d/renewd.conf", "usr/lib/tmpfiles.d/renewd.conf", enabled} {
		if x.has(path) {
			x.t.Errorf("the removal left %s", path)
		}
	}
	if !x.has("etc/renewd/renewd.yaml" + saved) {
		x.t.Error("the removal took the admin's config")
	}
}

func TestE2EPackageForRPM(t *testing.T) {
	wanted(t)
	older, newer := packagesOf(t, "rpm", ".rpm")
	x := debianTree(t)
	rpm := func(args ...string) func() {
		// Debian's tree has nothing that rpm knows of.
		return func() {
			x.run(append([]string{"rpm", "--root", x.root, "--dbpath", "/var/lib/rpm", "--nodeps", "--nosignature"}, args...)...)
		}
	}
	x.lives(rpm("-i", older), rpm("-U", newer), rpm("-e", "renewd"), ".rpmnew", ".rpmsave")
}

func TestE2EPackageForArch(t *testing.T) {
	wanted(t)
	older, newer := packagesOf(t, "archlinux", ".pkg.tar.zst")
	x := debianTree(t)
	config := filepath.Join(t.TempDir(), "pacman.conf")
	if err := os.WriteFile(config, []byte("[options]\nArchitecture = auto\nSigLevel = Never\nLocalFileSigLevel = Never\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(x.root, "var/lib/pacman"), 0o755); err != nil {
		t.Fatal(err)
	}
	x.in("ln", "-sf", "bash", "/bin/sh") // as Arch has it, and its packages expect
	pacman := func(args ...string) func() {
		return func() {
			x.run(append([]string{"pacman", "--root", x.root, "--config", config, "--noconfirm"}, args...)...)
		}
	}
	x.lives(pacman("-U", older), pacman("-U", newer), pacman("-R", "renewd"), ".pacnew", ".pacsave")
}

// There is no apk here to ask: its package is unpacked, and its scripts are run as
// it runs them, where there is nothing but BusyBox, as on Alpine.
func TestE2EPackageForAlpine(t *testing.T) {
	wanted(t)
	older, newer := packagesOf(t, "apk", ".apk")
	x := &tree{t, t.TempDir()}
	for _, dir := range []string{"bin", "etc", "dev"} {
		if err := os.Mkdir(filepath.Join(x.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	x.run("cp", x.run("sh", "-c", "command -v busybox"), filepath.Join(x.root, "bin/busybox"))
	x.in("/bin/busybox", "--install", "-s", "/bin")
	// Debian's BusyBox lacks these two; they take what Alpine's take.
	x.program("bin/addgroup", `[ "$*" = "-S renewd" ] && echo renewd:x:101: >>/etc/group`)
	x.program("bin/adduser", `[ "$*" = "-S -D -H -h /var/lib/renewd -s /sbin/nologin -G renewd renewd" ] && echo renewd:x:101:101::/var/lib/renewd:/sbin/nologin >>/etc/passwd`)
	x.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
	x.write("etc/group", "root:x:0:\n")
	x.write("etc/shadow", "root:*::0:::::\n")
	x.write("dev/null", "")
	apk := func(pkg string, script string, args ...string) {
		t.Helper()
		if pkg != "" {
			x.run("tar", "--warning=no-unknown-keyword", "--ignore-zeros", "-xzf", pkg, "-C", x.root)
		}
		x.in(append([]string{"/bin/sh", "/" + script}, args...)...)
	}
	apk(older, ".post-install", "1.0.0-r1")
	x.installed("1.0.0")
	info := read(t, filepath.Join(x.root, ".PKGINFO"))
	for _, line := range []string{"pkgname = renewd", "pkgver = 1.0.0-r1", "license = Apache-2.0"} {
		if !strings.Contains(info, "\n"+line+"\n") && !strings.HasPrefix(info, line+"\n") {
			t.Errorf(".PKGINFO lacks %q:\n%s", line, info)
		}
	}
	apk(newer, ".post-upgrade", "1.1.0-r1", "1.0.0-r1")
	x.installed("1.1.0")
	apk("", ".pre-deinstall", "1.1.0-r1")
	apk("", ".post-deinstall", "1.1.0-r1")
}

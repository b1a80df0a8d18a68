package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// program fails or skips where it is not there.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		for _, r := range strings.Split(os.Getenv("RENEWD_REQUIRE"), ",") {
			if r == name {
				t.Fatalf("%s is required and not there", name)
			}
		}
		t.Skipf("%s is not there", name)
	}
	return path
}

// copySource is a checkout of another place.
func copySource(t *testing.T) string {
	t.Helper()
	root, err := output(t.Context(), "", "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "elsewhere")
	for _, dir := range []string{"agent", "cmd/renewd", "packaging", "platform", "sink"} {
		if err := os.CopyFS(filepath.Join(to, dir), os.DirFS(filepath.Join(root, dir))); err != nil {
			t.Fatal(err)
		}
	}
	err = filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = os.Chmod(path, 0o600) // as a checkout with umask 077 has it
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum", "LICENSE"} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// The same source gives the same bytes: another day, another place, another time
// zone and umask.
func TestPackagesAreReproducible(t *testing.T) {
	o := options{nfpm: program(t, "nfpm"), version: "1.2.3", out: t.TempDir(), archs: []string{"amd64"},
		formats: []string{"deb", "rpm", "apk", "archlinux"}, when: time.Unix(1_790_000_000, 0).UTC()}
	first, err := build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	again := o
	again.out, again.root = t.TempDir(), copySource(t)
	t.Setenv("TZ", "Pacific/Auckland")
	t.Setenv("LANG", "tr_TR.UTF-8")
	second, err := build(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 8 || len(second) != 8 { // each with its bill of materials
		t.Fatalf("made %v and %v", first, second)
	}
	for _, path := range first {
		if bill, _ := os.ReadFile(path + ".cdx.json"); filepath.Ext(path) != ".json" && !bytes.Contains(bill, []byte("pkg:golang/go.etcd.io/bbolt@")) {
			t.Errorf("%s has no bill of materials beside it", filepath.Base(path))
		}
	}
	for i := range first {
		a, err := os.ReadFile(first[i])
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(second[i])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) || len(a) < 500 {
			t.Errorf("%s: %d and %d bytes, not the same", filepath.Base(first[i]), len(a), len(b))
		}
	}
	debHolds(t, first)
}

// debHolds looks into the package for Debian.
func debHolds(t *testing.T, made []string) {
	t.Helper()
	dpkg := program(t, "dpkg-deb")
	for _, path := range made {
		if filepath.Ext(path) != ".deb" {
			continue
		}
		dir := t.TempDir()
		for _, args := range [][]string{{"-x", path, dir}, {"-e", path, filepath.Join(dir, "DEBIAN")}} {
			if out, err := exec.Command(dpkg, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		for in, ours := range map[string]string{"usr/lib/systemd/system/renewd.service": "../systemd/renewd.service",
			"usr/lib/systemd/user/renewd.service": "../systemd/renewd-user.service", "usr/lib/sysusers.d/renewd.conf": "../systemd/sysusers.conf",
			"usr/lib/tmpfiles.d/renewd.conf": "../systemd/tmpfiles.conf"} {
			got, _ := os.ReadFile(filepath.Join(dir, in))
			want, err := os.ReadFile(ours)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is not %s, byte for byte (%v)", in, ours, err)
			}
		}
		if b, _ := os.ReadFile(filepath.Join(dir, "DEBIAN/conffiles")); strings.TrimSpace(string(b)) != "/etc/renewd/renewd.yaml" {
			t.Errorf("conffiles: %q", b)
		}
		if fi, err := os.Stat(filepath.Join(dir, "usr/bin/renewd")); err != nil || fi.Mode().Perm() != 0o755 {
			t.Errorf("the program: %v %v", fi, err)
		}
		for _, want := range []string{"usr/share/man/man1/renewd.1.gz", "usr/share/man/man5/renewd.yaml.5.gz", "usr/share/doc/renewd/copyright",
			"usr/share/doc/renewd/changelog.Debian.gz", "usr/share/doc/renewd/examples/commander.yaml", "usr/share/bash-completion/completions/renewd"} {
			if fi, err := os.Stat(filepath.Join(dir, want)); err != nil || fi.Size() == 0 {
				t.Errorf("the package lacks %s", want)
			}
		}
	}
}

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// packages are two versions for Debian.
func packages(t *testing.T) (older, newer string) { return packagesOf(t, "deb", ".deb") }

// packagesOf are two versions for this machine; the later one has another default
// config.
func packagesOf(t *testing.T, format, ending string) (older, newer string) {
	t.Helper()
	source, out := filepath.Join(t.TempDir(), "source"), t.TempDir()
	checkout(t, source)
	made := func(version string) string {
		args := []string{"run", "./packaging/build", "-formats", format, "-archs", runtime.GOARCH, "-version", version, "-out", out}
		if nfpm, err := exec.LookPath("nfpm"); err == nil {
			args = append(args, "-nfpm", nfpm)
		}
		c := exec.Command("go", args...)
		c.Dir = source
		c.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1790000000")
		if text, err := c.CombinedOutput(); err != nil {
			t.Fatalf("build the package: %v: %s", err, text)
		}
		found, _ := filepath.Glob(filepath.Join(out, "renewd?"+version+"*"+ending))
		if len(found) != 1 {
			t.Fatalf("packages of %s: %v", version, found)
		}
		return found[0]
	}
	older = made("1.0.0")
	f, err := os.OpenFile(filepath.Join(source, "packaging/default.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("# A new default.\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return older, made("1.1.0")
}

// checkout copies the source.
func checkout(t *testing.T, to string) {
	t.Helper()
	top, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"agent", "cmd/renewd", "packaging", "platform", "sink"} {
		if err := os.CopyFS(filepath.Join(to, dir), os.DirFS(filepath.Join(strings.TrimSpace(string(top)), dir))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum", "LICENSE"} {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(top)), name))
		if err := errors.Join(err, os.WriteFile(filepath.Join(to, name), text, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

//go:build !darwin && !windows

package paths

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUserPathsFollowXDG(t *testing.T) {
	t.Setenv("HOME", "/home/bob")
	t.Setenv("XDG_CONFIG_HOME", "/cfg")
	t.Setenv("XDG_STATE_HOME", "relative/is/ignored")
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	s, err := User()
	if err != nil {
		t.Fatal(err)
	}
	want := Set{
		Config:      "/cfg/renewd/renewd.yaml",
		State:       "/home/bob/.local/state/renewd",
		Runtime:     "/run/user/7/renewd",
		Socket:      "/run/user/7/renewd/renewd.sock",
		RuntimeMode: 0o700,
	}
	if s != want {
		t.Fatalf("got  %+v\nwant %+v", s, want)
	}
	if s.Tokens() != "/run/user/7/renewd/tokens" || s.ConfD() != "/cfg/renewd/conf.d" {
		t.Fatalf("tokens %q, conf.d %q", s.Tokens(), s.ConfD())
	}
}

func TestNoHomeIsAnErrorAndNotARelativePath(t *testing.T) {
	for _, n := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(n, "")
	}
	if s, err := User(); err == nil {
		t.Fatalf("got %+v, want an error", s)
	}
}

func TestMakeRuntimeMakesItsModeAndLeavesAnExistingOne(t *testing.T) {
	s := Set{Runtime: filepath.Join(t.TempDir(), "run", "renewd"), RuntimeMode: 0o755}
	if err := s.MakeRuntime(); err != nil {
		t.Fatal(err)
	}
	mode := func() os.FileMode {
		fi, err := os.Stat(s.Runtime)
		if err != nil {
			t.Fatal(err)
		}
		return fi.Mode().Perm()
	}
	if mode() != 0o755 {
		t.Fatalf("made with mode %v", mode())
	}
	if err := os.Chmod(s.Runtime, 0o710); err != nil {
		t.Fatal(err)
	}
	if err := s.MakeRuntime(); err != nil || mode() != 0o710 {
		t.Fatalf("an existing directory: %v, mode %v", err, mode())
	}
}

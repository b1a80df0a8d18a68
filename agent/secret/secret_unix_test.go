//go:build unix

package secret_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"renewd/agent/secret"
	"renewd/agent/secret/child"
)

func TestCommand(t *testing.T) {
	t.Setenv("RENEWD_LEAK", "leak")
	sh := func(script string) secret.Ref { return secret.Ref{Command: []string{"/bin/sh", "-c", script}} }
	for _, c := range []struct {
		name      string
		ref       secret.Ref
		want, err string
	}{
		{"printed", sh("echo s3cret"), "s3cret", ""},
		{"no shell of ours", secret.Ref{Command: []string{"echo", "$HOME;x"}}, "$HOME;x", ""},
		{"clean environment", sh(`echo "[$RENEWD_LEAK]"`), "[]", ""},
		{"no stdin", sh("cat; echo end"), "end", ""},
		{"stderr is not output", sh("echo no >&2; echo yes"), "yes", ""},
		{"failure", sh("echo hunter2; echo hunter2 >&2; exit 3"), "", "status 3"},
		{"nothing", sh("true"), "", "is empty"},
		{"missing", secret.Ref{Command: []string{"/nonexistent/program"}}, "", "no such file"},
		{"too much", sh("head -c 1100000 /dev/zero | tr '\\0' x"), "", "more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := secret.NewResolver().Resolve(t.Context(), c.ref)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "hunter2") {
					t.Fatalf("got %v; want %q", err, c.err)
				}
			} else if err != nil || got.Reveal() != c.want {
				t.Fatalf("got %q, %v", got.Reveal(), err)
			}
		})
	}
}

// The whole group ends at the limit, not the program alone.
func TestGroupIsKilled(t *testing.T) {
	fifo := t.TempDir() + "/alive"
	if err := os.WriteFile(fifo, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	script := "(while :; do echo x >> " + fifo + "; sleep 0.01; done) & wait"
	_, err := child.Run(t.Context(), child.Command{Argv: []string{"/bin/sh", "-c", script}, Timeout: 200 * time.Millisecond})
	if !errors.Is(err, child.ErrTimeout) {
		t.Fatalf("got %v", err)
	}
	size := func() int64 {
		i, err := os.Stat(fifo)
		if err != nil {
			t.Fatal(err)
		}
		return i.Size()
	}
	if size() == 0 {
		t.Fatal("the child never ran")
	}
	// A killed writer stops; a live one would write on within each of these.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for last := size(); ; {
		time.Sleep(100 * time.Millisecond)
		if now := size(); now == last {
			return
		} else {
			last = now
		}
		if ctx.Err() != nil {
			t.Fatal("the child is still writing")
		}
	}
}

// public opens the test's directory: that which testing makes is 0700.
func public(t *testing.T) {
	t.Helper()
	if err := os.Chmod(filepath.Dir(t.TempDir()), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestOthersRead(t *testing.T) {
	path := string(write(t, "x").File)
	public(t)
	judge := func(mode os.FileMode, of string, want bool) {
		t.Helper()
		if err := os.Chmod(of, mode); err != nil {
			t.Fatal(err)
		}
		if secret.OthersRead(path) != want {
			t.Errorf("%s at mode %v: %v, want %v", of, mode, !want, want)
		}
	}
	judge(0o600, path, false)
	judge(0o640, path, false)
	judge(0o644, path, true)
	judge(0o700, filepath.Dir(path), false) // nobody gets to it
	judge(0o711, filepath.Dir(path), true)
	link := filepath.Join(filepath.Dir(path), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if !secret.OthersRead(link) {
		t.Error("what a symlink leads to was not judged")
	}
}

func TestFIFOIsRefused(t *testing.T) {
	_, err := secret.NewResolver().Resolve(t.Context(), secret.Ref{File: "/dev/zero"})
	if err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("got %v", err)
	}
}

//go:build unix

package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"renewd/agent"
	"renewd/platform/atomicfile"
	"renewd/sink"
	"renewd/sink/sinktest"
)

func rawFormat(t *testing.T) *sink.Format {
	t.Helper()
	f, err := sink.New(sink.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// fresh makes a Sink in a directory that atomicfile trusts.
func fresh(t *testing.T, change func(*Options)) (*Sink, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	o := Options{Path: filepath.Join(dir, "token"), Format: rawFormat(t), Writer: atomicfile.NewWriter()}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, o.Path
}

func stamp(path string) string {
	fi, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(fi.Sys().(*syscall.Stat_t).Ino, fi.ModTime())
}

func TestFileIsASink(t *testing.T) {
	for name, p := range map[string]Policy{"keep": Keep, "remove": Remove} {
		t.Run(name, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) sinktest.Harness {
				s, path := fresh(t, func(o *Options) { o.OnExpiry, o.OnStop = p, p })
				return sinktest.Harness{
					Sink:    s,
					Read:    func() ([]byte, error) { return os.ReadFile(path) },
					Render:  func(p *agent.Publication) []byte { return []byte(p.Token.Reveal()) },
					Stamp:   func() string { return stamp(path) },
					Disturb: func() { _ = os.WriteFile(path, []byte("someone else's"), 0o600) },
					Break: func() func() {
						_ = os.Chmod(filepath.Dir(path), 0o777)
						return func() { _ = os.Chmod(filepath.Dir(path), 0o755) }
					},
					Removes: map[agent.WithdrawReason]bool{
						agent.WithdrawRemoved: true, agent.WithdrawExpired: p == Remove, agent.WithdrawStopped: p == Remove,
					},
				}
			})
		})
	}
}

func deliver(t *testing.T, s *Sink, p *agent.Publication) {
	t.Helper()
	if err := s.Deliver(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

func TestModeDriftIsPutRightInPlace(t *testing.T) {
	s, path := fresh(t, func(o *Options) { o.Access.Mode = 0o640 })
	p := sinktest.Publication(1)
	deliver(t, s, p)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, p)
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o640 {
		t.Fatalf("%v, %v", fi.Mode(), err)
	}
}

func TestASymlinkInPlaceOfTheFileIsNotFollowed(t *testing.T) {
	s, path := fresh(t, nil)
	deliver(t, s, sinktest.Publication(1))
	victim := path + ".victim"
	if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), os.Remove(path), os.Symlink(victim, path)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*agent.Publication{sinktest.Publication(1), sinktest.Publication(2)} {
		err := s.Deliver(t.Context(), p)
		if !errors.Is(err, atomicfile.ErrUnsafeTarget) || !strings.Contains(err.Error(), "rm "+path) {
			t.Fatalf("got %v, want a refusal with a hint", err)
		}
	}
	if err := s.Withdraw(t.Context(), agent.WithdrawRemoved); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Fatalf("the victim holds %q, %v", b, err)
	}
}

// A repair a minute, then ever fewer, with a warning at each doubling.
func TestAFightIsSpacedOut(t *testing.T) {
	var log bytes.Buffer
	s, path := fresh(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	p := sinktest.Publication(1)
	deliver(t, s, p)
	synctest.Test(t, func(t *testing.T) {
		var repairs []time.Duration
		begin := time.Now()
		for time.Since(begin) < 10*time.Hour {
			_ = os.Remove(path)
			switch err := s.Deliver(context.Background(), p); {
			case err == nil:
				repairs = append(repairs, time.Since(begin))
			default:
				f, ok := errors.AsType[*Fought](err)
				if !ok || !f.Until.After(time.Now()) {
					t.Fatalf("got %v", err)
				}
				if _, err := os.Lstat(path); err == nil {
					t.Fatal("the file was written all the same")
				}
			}
			time.Sleep(10 * time.Second)
		}
		for i, want := range []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183} { // minutes
			if i >= len(repairs) || repairs[i] != want*time.Minute {
				t.Fatalf("repairs at %v, want the %d. after %d min", repairs, i+1, want)
			}
		}
		if n := strings.Count(log.String(), "changed by someone else again"); n != 6 {
			t.Errorf("%d warnings for six doublings:\n%s", n, &log)
		}
		// A new token is written whatever the fight, and after peace it begins anew.
		_ = os.Remove(path)
		if err := s.Deliver(context.Background(), sinktest.Publication(2)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		_ = os.Remove(path)
		if err := s.Deliver(context.Background(), sinktest.Publication(2)); err != nil {
			t.Fatal(err)
		}
		if s.fight.wait != firstWait {
			t.Fatalf("after peace the wait is %v", s.fight.wait)
		}
	})
}

func TestOnlyTheTokensDirectoryIsMade(t *testing.T) {
	var tokens string
	s, _ := fresh(t, func(o *Options) {
		tokens = filepath.Join(filepath.Dir(o.Path), "tokens")
		o.TokensDir, o.Path = tokens, filepath.Join(tokens, "x")
	})
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	deliver(t, s, sinktest.Publication(1))
	if fi, err := os.Stat(tokens); err != nil || fi.Mode().Perm() != 0o711 {
		t.Fatalf("%v, %v", fi.Mode(), err)
	}
	s, path := fresh(t, func(o *Options) { o.TokensDir, o.Path = tokens, filepath.Join(tokens, "deeper", "x") })
	err := s.Deliver(t.Context(), sinktest.Publication(1))
	if err == nil || !strings.Contains(err.Error(), filepath.Dir(path)) || !strings.Contains(err.Error(), "install -d") {
		t.Fatalf("got %v, want the missing directory and how to make it", err)
	}
}

// Withdraw knows what it was writing when a directory fsync or a crash cut in.
func TestAFailedDeliveryIsStillOurs(t *testing.T) {
	s, path := fresh(t, nil)
	deliver(t, s, sinktest.Publication(1))
	_ = os.Chmod(filepath.Dir(path), 0o777)
	if err := s.Deliver(t.Context(), sinktest.Publication(2)); err == nil {
		t.Fatal("nothing failed")
	}
	_ = os.Chmod(filepath.Dir(path), 0o755)
	if err := s.Withdraw(t.Context(), agent.WithdrawRemoved); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Fatal("the old file of ours was left")
	}
}

func TestCheckJudgesAsTheServiceUser(t *testing.T) {
	if dir := os.Getenv("RENEWD_TEST_CHECK"); dir != "" {
		s, err := New(Options{Path: dir, Format: rawFormat(t), Writer: atomicfile.NewWriter(), Access: atomicfile.Access{Group: os.Getenv("RENEWD_TEST_GROUP")}})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("check:", s.Check())
		os.Exit(0)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	s, path := fresh(t, nil)
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	for d := filepath.Dir(path); d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755)
	}
	exe := filepath.Join(filepath.Dir(path), "test")
	if b, err := os.ReadFile(os.Args[0]); err != nil || os.WriteFile(exe, b, 0o755) != nil {
		t.Fatal(err)
	}
	as := func(group string) string {
		cmd := exec.Command(exe, "-test.run=^TestCheckJudgesAsTheServiceUser$")
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), "RENEWD_TEST_CHECK="+path, "RENEWD_TEST_GROUP="+group)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if out := as(""); !strings.Contains(out, "permission denied") || !strings.Contains(out, "ReadWritePaths="+filepath.Dir(path)) {
		t.Fatalf("a directory of root's: %s", out)
	}
	if err := os.Chown(filepath.Dir(path), 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if out := as(""); !strings.Contains(out, "check: <nil>") {
		t.Fatalf("a directory of its own: %s", out)
	}
	if out := as("0"); !strings.Contains(out, "SupplementaryGroups=0") {
		t.Fatalf("a group it is not in: %s", out)
	}
}

func TestPathPlacesRelativeFilesBelowTheTokens(t *testing.T) {
	raw := rawFormat(t)
	json, _ := sink.New(sink.Options{Format: "json"})
	for _, tt := range []struct {
		path string
		f    *sink.Format
		want string
	}{
		{"", raw, "/run/renewd/tokens/x"},
		{"", json, "/run/renewd/tokens/x.json"},
		{"y", json, "/run/renewd/tokens/y"},
		{"/srv/a/../b", raw, "/srv/b"},
		{"../y", raw, ""},
	} {
		got, err := Path("/run/renewd/tokens", tt.path, "x", tt.f)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q: %q, %v", tt.path, got, err)
		}
	}
}

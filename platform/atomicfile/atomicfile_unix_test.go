//go:build unix

package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// safeDir is a directory that passes verify: t.TempDir is 0777 less the umask.
func safeDir(t testing.TB) string {
	t.Helper()
	d := t.TempDir()
	if err := os.Chmod(d, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

func put(t *testing.T, w *Writer, path, data string, a Access, want Outcome) {
	t.Helper()
	got, err := w.Put(path, []byte(data), a)
	if err != nil || got != want {
		t.Fatalf("Put: %v, %v; want %v", got, err, want)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != data {
		t.Fatalf("file holds %q, %v; want %q", b, err, data)
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Sys().(*syscall.Stat_t).Ino
}

func temps(t *testing.T, dir string) (n int) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if isTemp(e.Name()) {
			n++
		}
	}
	return n
}

func TestPutSaysWhatItDid(t *testing.T) {
	dir := safeDir(t)
	path, w := filepath.Join(dir, "x"), NewWriter()
	put(t, w, path, "one", Access{}, Created)
	before := inode(t, path)
	put(t, w, path, "one", Access{}, Unchanged)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	put(t, w, path, "one", Access{}, Repaired)
	if fi, _ := os.Stat(path); fi.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v after the repair", fi.Mode())
	}
	if inode(t, path) != before {
		t.Fatal("the same bytes were written again")
	}
	put(t, w, path, "two", Access{Mode: 0o640}, Replaced)
	if fi, _ := os.Stat(path); fi.Mode().Perm() != 0o640 {
		t.Fatalf("mode %v, want 0640 whatever the umask", fi.Mode())
	}
	if inode(t, path) == before {
		t.Fatal("the file was written in place")
	}
	if n := temps(t, dir); n != 0 {
		t.Fatalf("%d temporary files left", n)
	}
}

func TestEveryFaultKeepsTheOldContentAndLeavesNothing(t *testing.T) {
	for _, step := range []string{"create", "chown", "chmod", "write", "fsync", "rename"} {
		t.Run(step, func(t *testing.T) {
			dir := safeDir(t)
			path, w := filepath.Join(dir, "x"), NewWriter()
			put(t, w, path, "old", Access{}, Created)
			w.fault = func(s string) error {
				if s == step {
					return unix.ENOSPC
				}
				return nil
			}
			_, err := w.Put(path, []byte("new"), Access{})
			if e, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, unix.ENOSPC) || e.Path != path || e.Hint == "" {
				t.Fatalf("got %#v, want an *Error with the path, ENOSPC and a hint", err)
			}
			if b, _ := os.ReadFile(path); string(b) != "old" {
				t.Fatalf("file holds %q after a failed %s", b, step)
			}
			if n := temps(t, dir); n != 0 {
				t.Fatalf("%d temporary files left", n)
			}
			w.fault = nil
			put(t, w, path, "new", Access{}, Replaced)
		})
	}
}

func TestAFailedDirectoryFsyncIsMadeUpFor(t *testing.T) {
	path, w := filepath.Join(safeDir(t), "x"), NewWriter()
	put(t, w, path, "old", Access{}, Created)
	syncs, broken := 0, true
	w.fault = func(s string) error {
		if s != "fsync directory" {
			return nil
		}
		if syncs++; broken {
			return unix.EIO
		}
		return nil
	}
	if _, err := w.Put(path, []byte("new"), Access{}); !errors.Is(err, unix.EIO) {
		t.Fatalf("got %v, want EIO", err)
	}
	broken = false
	put(t, w, path, "new", Access{}, Unchanged)
	if syncs != 2 {
		t.Fatalf("%d directory fsyncs, want the second to make up for the first", syncs)
	}
	put(t, w, path, "new", Access{}, Unchanged)
	if syncs != 2 {
		t.Fatal("a durable, unchanged file was fsynced again")
	}
}

func TestTheModeIsSetBeforeTheFirstByte(t *testing.T) {
	dir := safeDir(t)
	w := NewWriter()
	seen := false
	w.fault = func(s string) error {
		if s != "write" {
			return nil
		}
		list, _ := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
		if len(list) != 1 {
			t.Fatalf("temporary files: %v", list)
		}
		fi, err := os.Stat(list[0])
		if err != nil || fi.Size() != 0 || fi.Mode().Perm() != 0o640 {
			t.Fatalf("before the first byte: %v, size %d, %v", fi.Mode(), fi.Size(), err)
		}
		seen = true
		return nil
	}
	put(t, w, filepath.Join(dir, "x"), "v", Access{Mode: 0o640}, Created)
	if !seen {
		t.Fatal("the write step was not seen")
	}
}

func TestOwnerAndGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	path, w := filepath.Join(safeDir(t), "x"), NewWriter()
	a := Access{Owner: "12345", Group: "23456"}
	put(t, w, path, "v", a, Created)
	owned := func() {
		t.Helper()
		fi, _ := os.Stat(path)
		st := fi.Sys().(*syscall.Stat_t)
		if st.Uid != 12345 || st.Gid != 23456 {
			t.Fatalf("owned by %d:%d", st.Uid, st.Gid)
		}
	}
	owned()
	if err := os.Chown(path, 0, 0); err != nil {
		t.Fatal(err)
	}
	put(t, w, path, "v", a, Repaired)
	owned()
	if _, err := w.Put(path, []byte("v"), Access{Group: "no-such-group"}); err == nil {
		t.Fatal("an unknown group was accepted")
	}
}

func TestUnsafeTargetsAreRefusedAndLeftAlone(t *testing.T) {
	cases := map[string]func(t *testing.T, path string){
		"symlink": func(t *testing.T, p string) {
			other := p + ".other"
			if err := errors.Join(os.WriteFile(other, []byte("theirs"), 0o600), os.Symlink(other, p)); err != nil {
				t.Fatal(err)
			}
		},
		"FIFO": func(t *testing.T, p string) {
			if err := unix.Mkfifo(p, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"hard link": func(t *testing.T, p string) {
			if err := errors.Join(os.WriteFile(p, []byte("theirs"), 0o600), os.Link(p, p+".2")); err != nil {
				t.Fatal(err)
			}
		},
		"directory": func(t *testing.T, p string) {
			if err := os.Mkdir(p, 0o700); err != nil {
				t.Fatal(err)
			}
		},
	}
	for what, make := range cases {
		t.Run(what, func(t *testing.T) {
			path, w := filepath.Join(safeDir(t), "x"), NewWriter()
			make(t, path)
			before, _ := os.Lstat(path)
			_, err := w.Put(path, []byte("ours"), Access{})
			if !errors.Is(err, ErrUnsafeTarget) || !strings.Contains(err.Error(), what) {
				t.Fatalf("got %v", err)
			}
			if _, err := w.Remove(path, func([]byte) bool { return true }); !errors.Is(err, ErrUnsafeTarget) {
				t.Fatalf("Remove: %v", err)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) || after.Mode() != before.Mode() {
				t.Fatalf("the target was touched: %v, %v", after, err)
			}
		})
	}
}

func TestDirectoriesThatOthersCanChangeAreRefused(t *testing.T) {
	top := safeDir(t)
	dir := filepath.Join(top, "a", "b")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w := NewWriter()
	for _, open := range []string{filepath.Join(top, "a"), dir} {
		if err := os.Chmod(open, 0o775); err != nil {
			t.Fatal(err)
		}
		_, err := w.Put(filepath.Join(dir, "x"), []byte("v"), Access{})
		e, ok := errors.AsType[*Error](err)
		if !ok || !errors.Is(err, ErrUnsafeDir) || e.Path != open || e.Hint != "chmod go-w "+open {
			t.Fatalf("got %v (%+v)", err, e)
		}
		if err := os.Chmod(open, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		put(t, w, filepath.Join(dir, "x"), open, Access{}, map[bool]Outcome{true: Created, false: Replaced}[open != dir])
		if err := os.Chmod(open, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(top, "a"), 12345, -1); err != nil {
			t.Fatal(err)
		}
		if err := VerifyDir(dir); !errors.Is(err, ErrUnsafeDir) {
			t.Fatalf("a directory of someone else above: %v", err)
		}
	}
}

func TestSymlinksAboveAreFollowedOnlyWhenTheyAreOurs(t *testing.T) {
	top := safeDir(t)
	for _, d := range []string{"real/sub", "other"} {
		if err := os.MkdirAll(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"absolute": filepath.Join(top, "real"), "relative": "real", "dots": "other/../real", "loop": "loop", "last": "real/sub",
	} {
		if err := os.Symlink(to, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	w := NewWriter()
	for i, via := range []string{"absolute/sub", "relative/sub", "dots/sub", "last"} {
		if _, err := w.Put(filepath.Join(top, via, "x"), fmt.Append(nil, i), Access{}); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(filepath.Join(top, "real/sub/x")); string(b) != fmt.Sprint(i) {
			t.Fatalf("via %s: file holds %q", via, b)
		}
	}
	if err := VerifyDir(filepath.Join(top, "loop", "x")); !errors.Is(err, unix.ELOOP) {
		t.Fatalf("a loop: %v", err)
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(filepath.Join(top, "relative"), 12345, -1); err != nil {
			t.Fatal(err)
		}
		if err := VerifyDir(filepath.Join(top, "relative")); !errors.Is(err, ErrUnsafeDir) {
			t.Fatalf("someone else's symlink: %v", err)
		}
	}
	err := VerifyDir(filepath.Join(top, "real", "gone", "deeper"))
	if e, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, fs.ErrNotExist) || e.Path != filepath.Join(top, "real", "gone") {
		t.Fatalf("a missing directory: %v", err)
	}
}

func TestSweepTakesOnlyWhatNoWriterHolds(t *testing.T) {
	dir := safeDir(t)
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	dead := filepath.Join(dir, tempPrefix+alphabet+tempSuffix)
	held := filepath.Join(dir, tempPrefix+strings.Repeat("7", tempRandom)+tempSuffix)
	theirs := filepath.Join(dir, tempPrefix+"config"+tempSuffix)
	for _, p := range []string{dead, held, theirs} {
		if err := os.WriteFile(p, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(held)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := NewWriter().Compare(filepath.Join(dir, "x"), nil, Access{}); err != nil {
		t.Fatal(err)
	}
	for p, stays := range map[string]bool{dead: false, held: true, theirs: true} {
		if _, err := os.Lstat(p); (err == nil) != stays {
			t.Errorf("%s: %v, want it to stay: %v", filepath.Base(p), err, stays)
		}
	}
}

func TestRemoveAsksWhoseContentItIs(t *testing.T) {
	path, w := filepath.Join(safeDir(t), "x"), NewWriter()
	mine := func(b []byte) bool { return string(b) == "mine" }
	if done, err := w.Remove(path, mine); done || err != nil {
		t.Fatalf("no file: %v, %v", done, err)
	}
	if done, err := w.Remove(filepath.Join(path, "no", "dir"), mine); done || err != nil {
		t.Fatalf("no directory: %v, %v", done, err)
	}
	put(t, w, path, "theirs", Access{}, Created)
	if done, err := w.Remove(path, mine); done || err != nil {
		t.Fatalf("theirs: %v, %v", done, err)
	}
	put(t, w, path, "mine", Access{}, Replaced)
	if done, err := w.Remove(path, mine); !done || err != nil {
		t.Fatalf("mine: %v, %v", done, err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("the file is still there")
	}
}

func TestProbeFindsWhatPutWouldMeetAndLeavesNothing(t *testing.T) {
	dir := safeDir(t)
	path, w := filepath.Join(dir, "x"), NewWriter()
	if err := w.Probe(path, Access{}); err != nil {
		t.Fatal(err)
	}
	w.fault = func(s string) error {
		if s == "chown" {
			return unix.EPERM
		}
		return nil
	}
	if err := w.Probe(path, Access{}); !errors.Is(err, unix.EPERM) {
		t.Fatalf("got %v", err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 0 {
		t.Fatalf("left behind: %v", list)
	}
}

// A reader never sees a mixture, whoever writes how often.
func TestReadersSeeWholeContents(t *testing.T) {
	path, w := filepath.Join(safeDir(t), "x"), NewWriter()
	content := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, 1000+37*i) }
	put(t, w, path, string(content(0)), Access{}, Created)
	var done atomic.Bool
	var writers, readers sync.WaitGroup
	for n := range 4 {
		writers.Go(func() {
			for i := range 50 {
				if _, err := w.Put(path, content(i*4+n), Access{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var reads atomic.Int64
	for range 2 {
		readers.Go(func() {
			for !done.Load() {
				b, err := os.ReadFile(path)
				if err != nil || len(b) < 1000 || len(bytes.Trim(b, string(b[:1]))) != 0 || (len(b)-1000)%37 != 0 {
					t.Errorf("read %d bytes, %v", len(b), err)
					return
				}
				reads.Add(1)
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
	if reads.Load() == 0 {
		t.Fatal("nothing was read")
	}
}

// A process that is killed at any moment leaves the old or the new content and
// nothing that the next one does not sweep.
func TestKilledWriterLeavesWholeContent(t *testing.T) {
	if path := os.Getenv("RENEWD_TEST_WRITE_FOR_EVER"); path != "" {
		w := NewWriter()
		for i := 0; ; i++ {
			if _, err := w.Put(path, bytes.Repeat([]byte{byte('a' + i%26)}, 64<<10), Access{}); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			if i == 2 {
				fmt.Println("ready")
			}
		}
	}
	dir := safeDir(t)
	path := filepath.Join(dir, "x")
	for range 10 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriterLeavesWholeContent$")
		cmd.Env = append(os.Environ(), "RENEWD_TEST_WRITE_FOR_EVER="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 6)
		if _, err := out.Read(line); err != nil || string(line) != "ready\n" {
			t.Fatalf("%q, %v", line, err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if b, err := os.ReadFile(path); err != nil || len(b) != 64<<10 || len(bytes.Trim(b, string(b[:1]))) != 0 {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
	}
	if _, err := NewWriter().Compare(path, nil, Access{}); err != nil {
		t.Fatal(err)
	}
	if n := temps(t, dir); n != 0 {
		t.Fatalf("%d temporary files were not swept", n)
	}
}

func TestManyWritersShareDirectoryFsyncs(t *testing.T) {
	dir, w := safeDir(t), NewWriter()
	var syncs atomic.Int64
	w.fault = func(s string) error {
		if s == "fsync directory" {
			syncs.Add(1)
		}
		return nil
	}
	const n = 200
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if _, err := w.Put(filepath.Join(dir, fmt.Sprint(i)), []byte("v"), Access{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := syncs.Load(); got == 0 || got > n/2 {
		t.Fatalf("%d directory fsyncs for %d files", got, n)
	}
}

// The rule that makes sharing safe: who joins is covered by an fsync that began
// after it joined.
func TestARoundBeginsAfterItsMembersJoined(t *testing.T) {
	var g syncGroup
	var clock, began atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 2000 {
				joined := clock.Add(1)
				var mine int64
				if err := g.wait(func() error { began.Store(clock.Add(1)); return nil }); err != nil {
					t.Error(err)
				}
				if mine = began.Load(); mine < joined {
					t.Errorf("joined at %d, the last fsync began at %d", joined, mine)
					return
				}
			}
		})
	}
	all.Wait()
}

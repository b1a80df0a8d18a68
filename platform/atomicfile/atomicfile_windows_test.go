package atomicfile

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"renewd/platform/account"
)

func put(t *testing.T, w *Writer, path, content string, want Outcome) {
	t.Helper()
	got, err := w.Put(path, []byte(content), Access{})
	if err != nil || got != want {
		t.Fatalf("Put: %v, %v, want %v", got, err, want)
	}
	if b, err := os.ReadFile(path); string(b) != content {
		t.Fatalf("the file holds %q, %v", b, err)
	}
}

func alone(t *testing.T, dir string, names ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != len(names) {
		t.Fatalf("%v, %v; want %v", list, err, names)
	}
}

func TestPutSaysWhatItDid(t *testing.T) {
	dir := t.TempDir()
	path, w := filepath.Join(dir, "x"), NewWriter()
	put(t, w, path, "one", Created)
	put(t, w, path, "one", Unchanged)
	put(t, w, path, "two", Replaced)
	alone(t, dir, "x")
}

func TestEveryFaultKeepsTheOldContentAndLeavesNothing(t *testing.T) {
	for _, step := range []string{"create", "write", "fsync", "rename"} {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			path, w := filepath.Join(dir, "x"), NewWriter()
			put(t, w, path, "old", Created)
			w.fault = func(s string) error {
				if s == step {
					return windows.ERROR_DISK_FULL
				}
				return nil
			}
			if _, err := w.Put(path, []byte("new"), Access{}); !errors.Is(err, windows.ERROR_DISK_FULL) {
				t.Fatalf("Put: %v", err)
			}
			w.fault = nil
			put(t, w, path, "old", Unchanged)
			alone(t, dir, "x")
		})
	}
}

// hold opens a file as a reader that shares no more than it must.
func hold(t *testing.T, path string) (release func()) {
	t.Helper()
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ, windows.FILE_SHARE_READ, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() { _ = windows.CloseHandle(h) })
}

// A reader that holds the file open is waited for and reads the old content
// whole.
func TestAReaderIsWaitedFor(t *testing.T) {
	path, w := filepath.Join(t.TempDir(), "x"), NewWriter()
	put(t, w, path, "old", Created)
	release := hold(t, path)
	defer release()
	meets := make(chan struct{}, 1)
	w.fault = func(step string) error {
		if step == "rename" {
			meets <- struct{}{}
		}
		return nil
	}
	done := make(chan error, 1)
	go func() { _, err := w.Put(path, []byte("new"), Access{}); done <- err }()
	<-meets
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if b, err := read(path); string(b) != "old" {
		t.Errorf("meanwhile: %q, %v", b, err)
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); string(b) != "new" {
		t.Errorf("then: %q, %v", b, err)
	}
}

// One that never lets go costs a try, and the old content stays.
func TestAReaderThatStaysIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, w := filepath.Join(dir, "x"), NewWriter()
	put(t, w, path, "old", Created)
	release := hold(t, path)
	defer release()
	_, err := w.Put(path, []byte("new"), Access{})
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Hint == "" {
		t.Fatalf("Put: %v", err)
	}
	release()
	if b, err := os.ReadFile(path); string(b) != "old" {
		t.Errorf("%q, %v", b, err)
	}
	alone(t, dir, "x")
	put(t, w, path, "new", Replaced)
}

func TestReadersSeeWholeContents(t *testing.T) {
	path, w := filepath.Join(t.TempDir(), "x"), NewWriter()
	content := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, 1000+37*i) }
	put(t, w, path, string(content(0)), Created)
	var done atomic.Bool
	var reads atomic.Int64
	var writers, readers sync.WaitGroup
	for n := range 2 {
		writers.Go(func() {
			for i := range 25 {
				if _, err := w.Put(path, content(i*2+n), Access{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	readers.Go(func() {
		for !done.Load() {
			b, err := os.ReadFile(path)
			if errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
				continue // it is being replaced: every reader on Windows has to try again
			}
			if err != nil || len(b) < 1000 || len(bytes.Trim(b, string(b[:1]))) != 0 || (len(b)-1000)%37 != 0 {
				t.Errorf("read %d bytes, %v", len(b), err)
				return
			}
			reads.Add(1)
			time.Sleep(time.Millisecond)
		}
	})
	writers.Wait()
	done.Store(true)
	readers.Wait()
	if reads.Load() == 0 {
		t.Fatal("nothing was read")
	}
}

func TestUnsafeTargetsAreRefusedAndLeftAlone(t *testing.T) {
	dir, w := t.TempDir(), NewWriter()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "dir"), 0o700), os.WriteFile(filepath.Join(dir, "a"), []byte("a"), 0o600),
		os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dir", "a"} {
		if _, err := w.Put(filepath.Join(dir, name), []byte("x"), Access{}); !errors.Is(err, ErrUnsafeTarget) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDirectoriesThatOthersCanChangeAreRefused(t *testing.T) {
	dir, w := t.TempDir(), NewWriter()
	everybody, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := everybody.DACL()
	if err != nil {
		t.Fatal(err)
	}
	put(t, w, filepath.Join(dir, "x"), "old", Created)
	if err := windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, list, nil); err != nil {
		t.Fatal(err)
	}
	_, err = w.Put(filepath.Join(dir, "x"), []byte("new"), Access{})
	if e, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, ErrUnsafeDir) || e.Hint == "" {
		t.Errorf("%v", err)
	}
}

func TestSweepTakesOnlyWhatNoWriterHolds(t *testing.T) {
	dir := t.TempDir()
	left, other := filepath.Join(dir, tempPrefix+rand.Text()+tempSuffix), filepath.Join(dir, "other.tmp")
	if err := errors.Join(os.WriteFile(left, nil, 0o600), os.WriteFile(other, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	put(t, NewWriter(), filepath.Join(dir, "x"), "x", Created)
	alone(t, dir, "other.tmp", "x")
}

func TestRemoveAsksWhoseContentItIs(t *testing.T) {
	path, w := filepath.Join(t.TempDir(), "x"), NewWriter()
	mine := func(b []byte) bool { return string(b) == "mine" }
	put(t, w, path, "theirs", Created)
	if done, err := w.Remove(path, mine); done || err != nil {
		t.Fatalf("theirs: %v, %v", done, err)
	}
	put(t, w, path, "mine", Replaced)
	for _, want := range []bool{true, false} {
		if done, err := w.Remove(path, mine); done != want || err != nil {
			t.Fatalf("mine: %v, %v", done, err)
		}
	}
}

// The list that a file is made with: no heirs, no everybody, readers by name.
func TestTheDescriptorNamesWhoMay(t *testing.T) {
	me, err := account.Own()
	if err != nil {
		t.Fatal(err)
	}
	sd, err := descriptor(Access{Owner: "S-1-5-20", Group: `NT SERVICE\other`})
	if err != nil {
		t.Fatal(err)
	}
	text := sd.String()
	for _, want := range []string{"D:P(", "(A;;FA;;;SY)", "(A;;FA;;;BA)", "(A;;FA;;;" + me + ")", "(A;;FR;;;NS)", "(A;;FR;;;" + account.Service("other") + ")"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	if _, err := descriptor(Access{Group: "no such account"}); err == nil {
		t.Error("an account that is not there has a place in the list")
	}
}

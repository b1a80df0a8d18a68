package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

// two files of which one is to replace the other.
func two(t *testing.T) (from, to string) {
	t.Helper()
	dir := t.TempDir()
	from, to = filepath.Join(dir, "new"), filepath.Join(dir, "old")
	if err := errors.Join(os.WriteFile(from, []byte("new"), 0o600), os.WriteFile(to, []byte("old"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return from, to
}

// A reader that shares the file's deletion, as careful ones do, delays nothing and
// reads the old content whole.
func TestAReaderThatSharesDelaysNothing(t *testing.T) {
	if from, to := two(t); lacksPOSIX(renamePOSIX(from, to)) {
		t.Skipf("this system has no POSIX renames: %v", renamePOSIX(from, to))
	}
	path, w := filepath.Join(t.TempDir(), "x"), NewWriter()
	put(t, w, path, "old", Created)
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		t.Fatal(err)
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	h, err := windows.CreateFile(name, windows.GENERIC_READ, share, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	reader := os.NewFile(uintptr(h), path)
	defer reader.Close()
	began := time.Now()
	put(t, w, path, "new content", Replaced)
	if took := time.Since(began); took >= patience {
		t.Errorf("it took %v, with the reader there", took)
	}
	b := make([]byte, 100)
	if n, _ := reader.Read(b); string(b[:n]) != "old" {
		t.Errorf("the reader has %q of the old content", b[:n])
	}
	alone(t, filepath.Dir(path), "x")
}

// Every rename there is replaces the file; where POSIX ones are lacking, the other
// is taken, and nothing else is taken for lacking them.
func TestRenamesReplace(t *testing.T) {
	for name, do := range map[string]func(from, to string) error{
		"whichever": rename,
		"move":      move,
		// The older kind, which has the same layout: also where there are no POSIX renames.
		"by handle": func(from, to string) error {
			return renameInfo(from, to, windows.FileRenameInfo, windows.FILE_RENAME_REPLACE_IF_EXISTS)
		},
		"POSIX": func(from, to string) error {
			err := renamePOSIX(from, to)
			if !lacksPOSIX(err) {
				return err
			}
			t.Logf("no POSIX renames here: %v", err)
			if b, err := os.ReadFile(to); string(b) != "old" {
				return fmt.Errorf("the refused one left %q, %w", b, err)
			}
			return move(from, to)
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := two(t)
			if err := do(from, to); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(to); string(b) != "new" {
				t.Errorf("it holds %q, %v", b, err)
			}
			alone(t, filepath.Dir(to), "old")
		})
	}
	if err := rename(filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "x")); !errors.Is(err, os.ErrNotExist) || lacksPOSIX(err) {
		t.Errorf("of nothing: %v", err)
	}
	for _, err := range []error{nil, windows.ERROR_SHARING_VIOLATION, windows.ERROR_ACCESS_DENIED, windows.ERROR_DISK_FULL} {
		if lacksPOSIX(err) {
			t.Errorf("%v is taken for a system without POSIX renames", err)
		}
	}
}

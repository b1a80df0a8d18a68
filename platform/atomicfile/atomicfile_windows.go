package atomicfile

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"renewd/platform/account"
)

type dirID string

// patience is how long a reader that holds the target open without sharing it is
// waited for: virus scanners and indexers let go within seconds.
const patience = 10 * time.Second

// longestWait is the time between two tries: short, since readers that come one
// after another leave only moments in which nobody has the file open.
const longestWait = 16 * time.Millisecond

// opened is of use where directories are verified on the way.
type opened struct{}

// PutStamped is Put; a Stamp cannot be told here.
func (w *Writer) PutStamped(path string, data []byte, a Access, _ Stamp) (Outcome, Stamp, error) {
	out, err := w.Put(path, data, a)
	return out, Stamp{}, err
}

// StampOf cannot tell a Stamp here.
func StampOf(string) Stamp { return Stamp{} }

// Put makes path hold data with the given access and returns when that is
// durable. What is already so is not written again. On error the old content is
// whole. Access is set when the file is created; a later change of it by someone
// else is not noticed.
func (w *Writer) Put(path string, data []byte, a Access) (Outcome, error) {
	s, err := w.openDir(filepath.Dir(path))
	if err != nil {
		return Unchanged, err
	}
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	out, err := w.Compare(path, data, a)
	if err != nil || out == Unchanged {
		return out, err
	}
	return out, w.replace(path, data, a)
}

// Compare says what Put would do, without doing it.
func (w *Writer) Compare(path string, data []byte, _ Access) (Outcome, error) {
	content, err := read(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Created, nil
	case err != nil:
		return Unchanged, &Error{Op: "look at", Path: path, Err: err, Hint: hint(err)}
	case !bytes.Equal(content, data):
		return Replaced, nil
	}
	return Unchanged, nil
}

// Probe reports whether Put could write path now: it goes as far as a temporary
// file with the asked access, and takes that away again.
func (w *Writer) Probe(path string, a Access) error {
	if _, err := w.openDir(filepath.Dir(path)); err != nil {
		return err
	}
	if _, err := w.Compare(path, nil, a); err != nil {
		return err
	}
	temp := filepath.Join(filepath.Dir(path), tempPrefix+rand.Text()+tempSuffix)
	err := w.fill(temp, nil, a)
	_ = os.Remove(temp)
	if err != nil {
		return &Error{Op: "create a file beside", Path: path, Err: err, Hint: hint(err)}
	}
	return nil
}

// Remove deletes path if ours says so of its content, and reports whether it
// did. A file that is not there is no error.
func (w *Writer) Remove(path string, ours func(content []byte) bool) (bool, error) {
	content, err := read(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err == nil && !ours(content) {
		return false, nil
	}
	if err == nil {
		err = retry(func() error { return os.Remove(path) })
	}
	if err != nil {
		return false, &Error{Op: "remove", Path: path, Err: err, Hint: hint(err)}
	}
	return true, nil
}

// VerifyDir reports whether path is a directory in which, and above which, nobody
// but SYSTEM, administrators and the process's account could swap one thing for
// another. What a link leads to is judged as well as the link.
func VerifyDir(path string) error {
	fi, err := os.Stat(path)
	if err == nil && !fi.IsDir() {
		err = windows.ERROR_DIRECTORY
	}
	if err == nil {
		err = account.VerifyDir(path)
	}
	if real, lerr := filepath.EvalSymlinks(path); err == nil && lerr == nil && !strings.EqualFold(real, path) {
		err = account.VerifyDir(real)
	}
	if _, bad := errors.AsType[*account.UntrustedError](err); bad {
		err = fmt.Errorf("%w: %w", ErrUnsafeDir, err)
	}
	if err != nil {
		return &Error{Op: "open directory", Path: path, Err: err, Hint: hint(err)}
	}
	return nil
}

func (w *Writer) openDir(path string) (*shared, error) {
	if err := VerifyDir(path); err != nil {
		return nil, err
	}
	s := w.shared(dirID(strings.ToLower(filepath.Clean(path))), func() bool { return false })
	s.sweep.Do(func() { sweepTemps(path) })
	return s, nil
}

// replace renames a new file over path.
func (w *Writer) replace(path string, data []byte, a Access) error {
	temp := filepath.Join(filepath.Dir(path), tempPrefix+rand.Text()+tempSuffix)
	err := w.fill(temp, data, a)
	if err == nil {
		if err = w.at("rename"); err == nil {
			err = retry(func() error { return rename(temp, path) })
		}
	}
	if err != nil {
		_ = os.Remove(temp)
		return &Error{Op: "write", Path: path, Err: err, Hint: hint(err)}
	}
	return nil
}

// fill creates temp with its access list on it before the first byte. The handle
// shares nothing, which is what keeps sweepers away from a file in use.
func (w *Writer) fill(temp string, data []byte, a Access) error {
	if err := w.at("create"); err != nil {
		return err
	}
	sd, err := descriptor(a)
	if err != nil {
		return err
	}
	name, err := windows.UTF16PtrFromString(temp)
	if err != nil {
		return err
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	h, err := windows.CreateFile(name, windows.GENERIC_WRITE, 0, sa, windows.CREATE_NEW, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(h), temp)
	if err = w.at("write"); err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		if err = w.at("fsync"); err == nil {
			err = f.Sync()
		}
	}
	return errors.Join(err, f.Close())
}

// descriptor lets in SYSTEM, administrators and the process's account with all
// rights and the named accounts for reading, and inherits nothing.
func descriptor(a Access) (*windows.SECURITY_DESCRIPTOR, error) {
	me, err := account.Own()
	if err != nil {
		return nil, err
	}
	sddl := "D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;" + me + ")"
	for _, name := range []string{a.Owner, a.Group} {
		if name == "" {
			continue
		}
		sid, err := account.SID(name)
		if err != nil {
			return nil, err
		}
		sddl += "(A;;FR;;;" + sid + ")"
	}
	return windows.SecurityDescriptorFromString(sddl)
}

// retry waits out readers that hold the file open: Windows answers a rename over
// it with a sharing violation or with access denied until the handle is closed;
// where the handle shares deletion, it does so only if it has no POSIX renames.
func retry(try func() error) error {
	end := time.Now().Add(patience)
	for wait := time.Millisecond; ; wait = min(2*wait, longestWait) {
		err := try()
		busy := errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
		if !busy || time.Now().After(end) {
			return err
		}
		time.Sleep(wait/2 + mathrand.N(wait))
	}
}

// read returns a plain file's content, nil where it is too large to be ours. It
// shares everything, so that reading never stands in a writer's way.
func read(path string) ([]byte, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	const flags = windows.FILE_FLAG_OPEN_REPARSE_POINT | windows.FILE_FLAG_BACKUP_SEMANTICS
	var h windows.Handle
	err = retry(func() error {
		h, err = windows.CreateFile(name, windows.GENERIC_READ, share, nil, windows.OPEN_EXISTING, flags, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(h), path)
	defer f.Close()
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err != nil {
		return nil, err
	}
	if err := plain(&info); err != nil {
		return nil, err
	}
	if info.FileSizeHigh > 0 || info.FileSizeLow > min(maxSize, math.MaxUint32) {
		return nil, nil
	}
	return io.ReadAll(io.LimitReader(f, maxSize))
}

// plain refuses all that a rename over it would break.
func plain(info *windows.ByHandleFileInformation) error {
	switch {
	case info.FileAttributes&windows.FILE_ATTRIBUTE_REPARSE_POINT != 0:
		return fmt.Errorf("it is a link: %w", ErrUnsafeTarget)
	case info.FileAttributes&windows.FILE_ATTRIBUTE_DIRECTORY != 0:
		return fmt.Errorf("it is a directory: %w", ErrUnsafeTarget)
	case info.NumberOfLinks > 1:
		return fmt.Errorf("it has %d hard links: %w", info.NumberOfLinks, ErrUnsafeTarget)
	}
	return nil
}

// sweepTemps removes the temporary files that no live writer holds: a held one
// cannot be deleted.
func sweepTemps(dir string) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range list {
		if isTemp(e.Name()) && e.Type().IsRegular() {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

func hint(err error) string {
	switch {
	case errors.Is(err, ErrUnsafeDir):
		return "take the right away from them: icacls shows who has which"
	case errors.Is(err, ErrUnsafeTarget):
		return "renewd does not replace it: delete it yourself"
	case errors.Is(err, os.ErrNotExist):
		return "the agent makes no directory here: make it and let the service's account write to it"
	case errors.Is(err, windows.ERROR_SHARING_VIOLATION):
		return "a program holds the file open without sharing it: close it"
	case errors.Is(err, os.ErrPermission):
		return "let the service's account write to the directory: icacls"
	case errors.Is(err, windows.ERROR_DISK_FULL):
		return "free space on the disk"
	}
	return ""
}

package paths

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"

	"renewd/platform/account"
)

// MakePrivate makes a directory, and those above it that are missing, for SYSTEM,
// administrators and this process's account alone. What is there stays as it is.
func MakePrivate(dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	if up := filepath.Dir(dir); up != dir {
		if err := MakePrivate(up); err != nil {
			return err
		}
	}
	me, err := account.Own()
	if err != nil {
		return err
	}
	sd, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;" + me + ")")
	if err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	if err := windows.CreateDirectory(name, sa); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	return nil
}

// MakeRuntime makes the runtime directory. An existing one is left as it is.
func (s Set) MakeRuntime() error { return MakePrivate(s.Runtime) }

// SocketIn is the pipe of an agent whose runtime directory is dir: pipes stand in
// no directory, so its name is made from that path.
func SocketIn(dir string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(filepath.Clean(dir))))
	return fmt.Sprintf("%s-%x", pipe, sum[:8])
}

//go:build !windows

package paths

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// MakePrivate makes a directory, and those above it that are missing, for this
// process's user alone. What is there stays as it is.
func MakePrivate(dir string) error { return os.MkdirAll(dir, 0o700) }

// MakeRuntime makes the runtime directory where nothing else has (systemd's
// RuntimeDirectory= has). An existing one is left as it is.
func (s Set) MakeRuntime() error {
	if err := os.MkdirAll(filepath.Dir(s.Runtime), 0o755); err != nil {
		return fmt.Errorf("make the runtime directory: %w", err)
	}
	err := os.Mkdir(s.Runtime, s.RuntimeMode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make the runtime directory: %w", err)
	}
	return os.Chmod(s.Runtime, s.RuntimeMode) // the umask may have taken bits away
}

// SocketIn is the socket of an agent whose runtime directory is dir.
func SocketIn(dir string) string { return filepath.Join(dir, "renewd.sock") }

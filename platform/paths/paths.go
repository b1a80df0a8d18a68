// Package paths knows where renewd's files are on each system, for the one agent
// of the machine and for a user's own.
package paths

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Set is where one agent keeps what. All paths are absolute.
type Set struct {
	Config  string // renewd.yaml; conf.d stands beside it
	State   string // directory of what must survive a restart
	Runtime string // directory of the socket and of tokens/; may be gone after a reboot
	Socket  string // the socket, or the named pipe on Windows

	// RuntimeMode is what MakeRuntime makes Runtime with.
	RuntimeMode fs.FileMode
}

// Tokens is the directory that a sink without a directory of its own writes to.
func (s Set) Tokens() string { return filepath.Join(s.Runtime, "tokens") }

// ConfD is the directory whose *.yaml files add tokens.
func (s Set) ConfD() string { return filepath.Join(filepath.Dir(s.Config), "conf.d") }

// absolute returns $name when it is an absolute path: the XDG Base Directory
// Specification says that a relative one is to be ignored.
func absolute(name string) (string, bool) {
	p := os.Getenv(name)
	return p, filepath.IsAbs(p)
}

// home is the caller's home directory, needed only where no variable says more.
func home() (string, error) {
	h, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the home directory: %w", err)
	}
	if !filepath.IsAbs(h) {
		return "", fmt.Errorf("find the home directory: %q is not an absolute path", h)
	}
	return h, nil
}

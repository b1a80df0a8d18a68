//go:build unix

package harden

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// limit sees to it that neither this process nor its children leave a core dump,
// which would hold every secret, nor make a file that others may read.
func limit() error {
	unix.Umask(0o077)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	return nil
}

//go:build unix

package harden

import "golang.org/x/sys/unix"

// NoCore sees to it that neither this process nor its children leave a core dump:
// it would hold every secret.
func NoCore() error {
	return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}

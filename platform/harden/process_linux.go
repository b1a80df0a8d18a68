package harden

import (
	"errors"
	"fmt"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Process sees to it that neither a core dump nor a debugger of the same user
// gets at this process's memory, that what it makes is nobody else's, and that
// nothing it runs has more rights than it has.
func Process() error {
	err := limit()
	// Not only the limit: a core_pattern that is a pipe passes over that (core(5)).
	if e := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); e != nil {
		err = errors.Join(err, fmt.Errorf("forbid dumps and tracing: %w", e))
	}
	if e := ll.AllThreadsPrctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); e != nil {
		err = errors.Join(err, fmt.Errorf("forbid new privileges: %w", e))
	}
	return err
}

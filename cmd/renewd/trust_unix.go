//go:build !windows

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"renewd/platform/atomicfile"
)

// trusted says whether only root and this process's user can change a file.
func trusted(path string) *failure {
	if err := atomicfile.VerifyDir(filepath.Dir(path)); err != nil {
		hint := ""
		if e, ok := errors.AsType[*atomicfile.Error](err); ok {
			hint = e.Hint
		}
		return fail(exitUsage, hint, "is refused: %w", err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil // gone meanwhile: reading it has told
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fail(exitUsage, fmt.Sprintf("run: chown %d %s", os.Geteuid(), path), "is refused: it belongs to uid %d, who could change it", st.Uid)
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return fail(exitUsage, "run: chmod go-w "+path, "is refused: others may write it (mode %#o)", fi.Mode().Perm())
	}
	return nil
}

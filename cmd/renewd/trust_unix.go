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

// trusted says whether only root and this process's user can change a file, or
// swap another one in its place.
func trusted(path string) *failure {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil // gone meanwhile: reading it has told
	}
	dirs := []string{filepath.Dir(path)}
	if d := filepath.Dir(real); d != dirs[0] {
		dirs = append(dirs, d)
	}
	for _, dir := range dirs {
		if err := atomicfile.VerifyDir(dir); err != nil {
			hint := ""
			if e, ok := errors.AsType[*atomicfile.Error](err); ok {
				hint = e.Hint
			}
			return fail(exitUsage, hint, "is refused: %w", err)
		}
	}
	for _, p := range []string{path, real} {
		if bad := ownAlone(p); bad != nil {
			return bad
		}
	}
	return nil
}

// ownAlone judges one name, a symlink as itself: whose is it, and who may write
// it.
func ownAlone(path string) *failure {
	fi, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fail(exitUsage, fmt.Sprintf("run: chown -h %d %s", os.Geteuid(), path), "is refused: it belongs to uid %d, who could change it", st.Uid)
	}
	if fi.Mode()&os.ModeSymlink == 0 && fi.Mode().Perm()&0o022 != 0 {
		return fail(exitUsage, "run: chmod go-w "+path, "is refused: others may write it (mode %#o)", fi.Mode().Perm())
	}
	return nil
}

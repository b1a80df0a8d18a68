package main

import (
	"errors"
	"path/filepath"

	"renewd/platform/atomicfile"
)

// trusted says whether only administrators and this process's user can change a
// file: on Windows the directory's ACL, which its files inherit, decides.
func trusted(path string) *failure {
	if err := atomicfile.VerifyDir(filepath.Dir(path)); err != nil {
		hint := ""
		if e, ok := errors.AsType[*atomicfile.Error](err); ok {
			hint = e.Hint
		}
		return fail(exitUsage, hint, "is refused: %w", err)
	}
	return nil
}

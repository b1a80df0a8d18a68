package main

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"renewd/platform/account"
)

// trusted says whether only SYSTEM, administrators and this process's account can
// change a file, or swap another one in its place.
func trusted(path string) *failure {
	err := account.Verify(path)
	if real, lerr := filepath.EvalSymlinks(path); err == nil && lerr == nil && !strings.EqualFold(real, path) {
		err = account.Verify(real)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil // gone meanwhile: reading it has told
	}
	hint := ""
	if e, ok := errors.AsType[*account.UntrustedError](err); ok {
		hint = "as administrator: takeown /a /f \"" + e.Path + "\", and: icacls \"" + e.Path + "\" shows who may do what"
	}
	return fail(exitUsage, hint, "is refused: %w", err)
}

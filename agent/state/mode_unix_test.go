//go:build unix

package state

import (
	"os"
	"testing"
)

// ownAlone fails where others may read a file.
func ownAlone(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
}

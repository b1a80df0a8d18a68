//go:build unix && !linux

package atomicfile

import "testing"

func journaled(b *testing.B) string {
	b.Skip("RENEWD_BENCH_DIR names a directory on a journaled filesystem")
	return ""
}

package atomicfile

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// journaled mounts a fresh ext4 with a journal from a loop device: what a flush
// costs where the machine's own filesystem has none says little.
func journaled(b *testing.B) string {
	if os.Geteuid() != 0 {
		b.Skip("mounting a loop device wants root; RENEWD_BENCH_DIR names a directory on a journaled filesystem")
	}
	dir := safeDir(b)
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "mounted")
	f, err := os.Create(image)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(512 << 20); err != nil {
		b.Fatal(err)
	}
	if err := os.Mkdir(at, 0o755); err != nil {
		b.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", "-O", "has_journal", image}, {"mount", "-o", "loop", image, at}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			b.Skipf("no loop device can be mounted here: %v: %v: %s", args, err, out)
		}
	}
	b.Cleanup(func() {
		// The Writer keeps the directory open for a moment.
		for end := time.Now().Add(5 * keptOpen); ; time.Sleep(100 * time.Millisecond) {
			out, err := exec.Command("umount", at).CombinedOutput()
			if err == nil {
				return
			}
			if time.Now().After(end) {
				b.Fatalf("umount: %v: %s", err, out)
			}
		}
	})
	return at
}

//go:build unix

package atomicfile

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func benchDir(b *testing.B) string {
	dir := os.Getenv("RENEWD_BENCH_DIR")
	if dir == "" {
		return safeDir(b)
	}
	dir, err := os.MkdirTemp(dir, "renewd-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// bare is what a durable replace cannot do without: fsync, rename, fsync of the
// directory.
func bare(dir *os.File, path string, data []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return dir.Sync()
}

// BenchmarkReplace reports bare/ours: how much of the bare loop's speed is left.
// The two take turns, so that the disk's moods hit both.
func BenchmarkReplace(b *testing.B) {
	dir := benchDir(b)
	d, err := os.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	w := NewWriter()
	data := func(i int) []byte { return fmt.Appendf(nil, "%01000d", i) }
	var ours, theirs time.Duration
	for i := 0; b.Loop(); i++ {
		t0 := time.Now()
		if err := bare(d, filepath.Join(dir, "bare"), data(i)); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if _, err := w.Put(filepath.Join(dir, "ours"), data(i), Access{}); err != nil {
			b.Fatal(err)
		}
		theirs += t1.Sub(t0)
		ours += time.Since(t1)
	}
	b.ReportMetric(float64(theirs)/float64(ours), "bare/ours")
}

// BenchmarkThousandDueAtOnce reports how many times faster 1 000 files are
// written together than one by one.
func BenchmarkThousandDueAtOnce(b *testing.B) {
	const n = 1000
	dir := benchDir(b)
	w := NewWriter()
	path := func(i int) string { return filepath.Join(dir, fmt.Sprint("t", i)) }
	var single, together time.Duration
	round := 0
	write := func(i int) {
		if _, err := w.Put(path(i), fmt.Appendf(nil, "%01000d", round), Access{}); err != nil {
			b.Error(err)
		}
	}
	for b.Loop() {
		round++
		t0 := time.Now()
		for i := range n {
			write(i)
		}
		single += time.Since(t0)
		round++
		t0 = time.Now()
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { write(i) })
		}
		all.Wait()
		together += time.Since(t0)
	}
	b.ReportMetric(float64(single)/float64(together), "times-faster")
}

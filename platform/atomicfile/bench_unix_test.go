//go:build unix

package atomicfile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// benchDir is a directory on a journaled filesystem: what RENEWD_BENCH_DIR names,
// else an ext4 of its own.
func benchDir(b *testing.B) string {
	dir := os.Getenv("RENEWD_BENCH_DIR")
	if dir == "" {
		dir = journaled(b)
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
// The two take turns, so that the disk's moods hit both; it is the ratio of the
// medians.
func BenchmarkReplace(b *testing.B) {
	dir := benchDir(b)
	d, err := os.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	w := NewWriter()
	var ours, theirs []time.Duration
	for b.Loop() {
		for range 300 {
			content := fmt.Appendf(nil, "%01500d", len(ours))
			t0 := time.Now()
			if err := bare(d, filepath.Join(dir, "bare"), content); err != nil {
				b.Fatal(err)
			}
			t1 := time.Now()
			if _, err := w.Put(filepath.Join(dir, "ours"), content, Access{}); err != nil {
				b.Fatal(err)
			}
			ours, theirs = append(ours, time.Since(t1)), append(theirs, t1.Sub(t0))
		}
	}
	b.ReportMetric(median(ours).Seconds()*1e3, "ours-ms")
	b.ReportMetric(median(theirs).Seconds()*1e3, "bare-ms")
	b.ReportMetric(float64(median(theirs))/float64(median(ours)), "bare/ours")
}

func median(of []time.Duration) time.Duration { return slices.Sorted(slices.Values(of))[len(of)/2] }

// BenchmarkThousandDueAtOnce reports how many times faster 1 000 files are
// written together than one by one.
func BenchmarkThousandDueAtOnce(b *testing.B) {
	const n = 1000
	dir := benchDir(b)
	w := NewWriter()
	path := func(i int) string { return filepath.Join(dir, fmt.Sprint("t", i)) }
	var single, together []time.Duration
	round := 0
	write := func(i int) {
		if _, err := w.Put(path(i), fmt.Appendf(nil, "%01500d", round), Access{}); err != nil {
			b.Error(err)
		}
	}
	for b.Loop() {
		for range 3 {
			round++
			t0 := time.Now()
			for i := range n {
				write(i)
			}
			single = append(single, time.Since(t0))
			round++
			t0 = time.Now()
			var all sync.WaitGroup
			for i := range n {
				all.Go(func() { write(i) })
			}
			all.Wait()
			together = append(together, time.Since(t0))
		}
	}
	b.ReportMetric(n/median(single).Seconds(), "alone/s")
	b.ReportMetric(n/median(together).Seconds(), "together/s")
	b.ReportMetric(float64(median(single))/float64(median(together)), "times-faster")
}

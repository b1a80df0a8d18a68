package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

type mounted = struct {
	want  string
	spoil func(dir string)
	mend  func(dir string)
}

// mounts are places that take a filesystem of their own: one that is full, and
// one that is read-only. There are none where nothing can be mounted.
func mounts(t *testing.T) map[string]mounted {
	t.Helper()
	try := t.TempDir()
	if err := syscall.Mount("tmpfs", try, "tmpfs", 0, "size=16k"); err != nil {
		t.Logf("nothing can be mounted here: %v", err)
		return nil
	}
	_ = syscall.Unmount(try, 0)
	mount := func(dir string, flags uintptr) {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, "size=16k,mode=755"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	}
	return map[string]mounted{
		"full": {"df -h", func(dir string) {
			mount(dir, 0)
			f, err := os.Create(filepath.Join(dir, "filler"))
			if err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, err = f.Write(make([]byte, 4096))
			}
			_ = f.Close()
		}, func(dir string) { _ = os.Remove(filepath.Join(dir, "filler")) }},
		"readonly": {"ReadWritePaths=", func(dir string) { mount(dir, syscall.MS_RDONLY) }, func(dir string) {
			if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=16k,mode=755"); err != nil {
				t.Fatal(err)
			}
		}},
	}
}

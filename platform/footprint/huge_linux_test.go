package footprint

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"testing"
)

// collapseHere is Collapse where the machine has huge pages for who asks for them:
// where everyone has them anyway, nothing is to be seen.
func collapseHere(t *testing.T) {
	t.Helper()
	if enabled, err := os.ReadFile(transparentHuge + "enabled"); err != nil || !bytes.Contains(enabled, []byte("[madvise]")) {
		t.Skipf("huge pages: %s %v", enabled, err)
	}
	switch err := Collapse(); {
	case errors.Is(err, errors.ErrUnsupported):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}

// What fills its pages is in huge ones afterwards, as it was.
func TestCollapse(t *testing.T) {
	const size = 32 << 20
	heap := make([]byte, size)
	for i := range heap {
		heap[i] = byte(i >> 12)
	}
	before := inMemory(t, "smaps_rollup", "AnonHugePages")
	collapseHere(t)
	if more := inMemory(t, "smaps_rollup", "AnonHugePages") - before; more < size/2>>10 {
		t.Errorf("%d KiB more are in huge pages", more)
	}
	for i, b := range heap {
		if b != byte(i>>12) {
			t.Fatalf("byte %d is %#x", i, b)
		}
	}
	if err := Collapse(); err != nil {
		t.Errorf("again: %v", err)
	}
}

// Where there is room between what is in memory, there is no huge page: it would
// take that room.
func TestCollapseLeavesSparseMemory(t *testing.T) {
	const size = 64 << 20
	heap := make([]byte, size)
	for i := 0; i < size; i += 1 << 20 {
		heap[i] = 1
	}
	before := inMemory(t, "smaps_rollup", "Anonymous")
	collapseHere(t)
	if more := inMemory(t, "smaps_rollup", "Anonymous") - before; more > size/8>>10 {
		t.Errorf("%d KiB more are in memory", more)
	}
	runtime.KeepAlive(heap)
}

func TestHeapPart(t *testing.T) {
	for line, want := range map[string]bool{
		"c000000000-c000400000 rw-p 00000000 00:00 0 ":                            true,
		"c000000000-c000400000 rw-p 00000000 00:00 0     [anon: Go: heap]":        true,
		"7f0000000000-7f0000400000 rw-p 00000000 00:00 0     [anon: Go: gc bits]": false,
		"c000400000-c004000000 ---p 00000000 00:00 0 ":                            false,
		"01400000-01480000 rw-p 01000000 fd:00 123    /usr/bin/renewd":            false,
		"7f0000000000-7f0020000000 r--s 00000000 fd:00 9    /var/lib/state.db":    false,
		"7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0    [stack]":              false,
		"nonsense rw-p 0 0 0": false,
	} {
		if _, _, ok := heapPart(line); ok != want {
			t.Errorf("%q: %v", line, ok)
		}
	}
	if from, to, _ := heapPart("c000000000-c000400000 rw-p 00000000 00:00 0"); from != 0xc000000000 || to != 0xc000400000 {
		t.Errorf("%x-%x", from, to)
	}
}

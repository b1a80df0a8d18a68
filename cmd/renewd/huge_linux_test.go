package main

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"renewd/platform/footprint"
)

// While there are many tokens, what the heap holds comes into huge pages.
func TestTheHeapOfManyTokensIsCollapsed(t *testing.T) {
	// Where everyone has them anyway, nothing is to be seen.
	if enabled, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled"); err != nil || !bytes.Contains(enabled, []byte("[madvise]")) {
		t.Skipf("huge pages: %s %v", enabled, err)
	}
	if err := footprint.Collapse(); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	t.Parallel()
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	tokens := make([]byte, 64<<20)
	for i := range tokens {
		tokens[i] = 1
	}
	huge := func() int { return statusOf(t, "/proc/self/smaps_rollup", "AnonHugePages") }
	before := huge()
	var d daemon
	d.trim(manyTokens)
	defer d.tokens.Store(0) // ends it
	eventually(t, "huge pages", startTime+30*time.Second, func() bool { return huge() > before+len(tokens)>>11 })
	runtime.KeepAlive(tokens)
}

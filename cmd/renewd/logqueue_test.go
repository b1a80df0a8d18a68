package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestLogQueueKeepsOrderAndWritesAllAtTheEnd(t *testing.T) {
	var out bytes.Buffer
	q := newLogQueue(&out)
	var want strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&want, "line %d\n", i)
		fmt.Fprintf(q, "line %d\n", i)
	}
	_ = q.Close()
	if out.String() != want.String() {
		t.Errorf("%d bytes came out, want %d", out.Len(), want.Len())
	}
}

// A log that nobody reads holds up nobody and fills no memory; what was dropped
// is told.
func TestLogQueueDropsWhatNobodyReads(t *testing.T) {
	r, w := io.Pipe()
	q := newLogQueue(w)
	lost := make(chan int, 100)
	q.OnLost(func(n int) { lost <- n })
	line := strings.Repeat("x", 1023) + "\n"
	const sent = 3 * logQueued / 1024
	for range sent {
		_, _ = io.WriteString(q, line) // would hang if it waited for the reader
	}
	q.mu.Lock()
	queued, dropped := len(q.queued), q.dropped
	q.mu.Unlock()
	if queued > logQueued || dropped == 0 {
		t.Fatalf("%d bytes wait and %d lines were dropped", queued, dropped)
	}
	var came atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for buf := make([]byte, 64<<10); ; {
			n, err := r.Read(buf)
			came.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	told := 0 // at once or in two parts: some may have been dropped before the first write
	eventually(t, "what came out and what was told make up what was sent", 10*time.Second, func() bool {
		for len(lost) > 0 {
			told += <-lost
		}
		return told+int(came.Load())/len(line) >= sent
	})
	_ = q.Close()
	_ = w.Close()
	<-ended
	if n := int(came.Load()) / len(line); told < dropped || n+told != sent {
		t.Errorf("%d lines came out, %d lost ones were told, and %d were sent", n, told, sent)
	}
}

package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
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
	read := make(chan int)
	go func() {
		b, _ := io.ReadAll(r)
		read <- len(b) / len(line)
	}()
	if n := <-lost; n != dropped {
		t.Errorf("told of %d lost lines, want %d", n, dropped)
	}
	_ = q.Close()
	_ = w.Close()
	if n := <-read; n+dropped != sent {
		t.Errorf("%d lines came out and %d were dropped of %d", n, dropped, sent)
	}
}

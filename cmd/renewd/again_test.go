package main

import (
	"context"
	"testing"

	"renewd/agent/config"
)

// Somebody asked for a config that needs another process, and by the time that the
// agent gets to it the config has been put back.
func TestAgentStaysWhereItNeedNotLeave(t *testing.T) {
	d := &daemon{again: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	d.again <- struct{}{}
	if d.untilStopped(ctx, func(bool) { cancel() }) || d.leaving {
		t.Error("it leaves")
	}
}

// Once it is leaving nothing else is reloaded: the next process reads what is there.
func TestAgentThatLeavesReloadsNoMore(t *testing.T) {
	d := &daemon{again: make(chan struct{}, 1)}
	d.next = &built{beyond: config.Problems{{Msg: "runs a program"}}}
	d.again <- struct{}{}
	if !d.untilStopped(t.Context(), func(bool) {}) {
		t.Fatal("it stays")
	}
	if problems, again := d.reload(false); len(problems) > 0 || !again || d.next == nil {
		t.Errorf("reloaded: %v, %v, %v", problems, again, d.next)
	}
}

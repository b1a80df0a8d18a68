// Package sinktest is what every sink must pass: a reader sees one publication
// or another, whole; nothing is written twice; an error keeps what was there.
package sinktest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"renewd/agent"
)

// Harness is one fresh sink and a reader's view of it.
type Harness struct {
	Sink agent.Sink

	// Read gives what a reader sees now; fs.ErrNotExist where nothing is
	// published.
	Read func() ([]byte, error)
	// Render says what a reader is to see of p.
	Render func(p *agent.Publication) []byte
	// Stamp changes whenever the sink writes; nil where that cannot be seen.
	Stamp func() string
	// Disturb has someone else change what is published; nil where nobody can.
	Disturb func()
	// Break makes every delivery fail until mend is called; nil where nothing
	// can.
	Break func() (mend func())
	// Removes says for which reasons Withdraw takes the token away.
	Removes map[agent.WithdrawReason]bool
}

// Publication makes one up: two of them differ in generation, value and length.
func Publication(generation uint64) *agent.Publication {
	now := time.Now()
	return &agent.Publication{
		Name: "sinktest", Type: "Bearer", Generation: generation, Revision: generation,
		Token:    agent.NewSecret(fmt.Sprintf("%d.%s", generation, strings.Repeat(string(rune('a'+generation%26)), int(100+generation*131%5000)))),
		IssuedAt: now, ExpiresAt: now.Add(time.Hour), Life: time.Hour,
	}
}

// Run checks the sinks that fresh makes; each call makes another one.
func Run(t *testing.T, fresh func(t *testing.T) Harness) {
	for name, check := range map[string]func(*testing.T, Harness){
		"DeliverIsSeen":          deliverIsSeen,
		"ReadersSeeWholes":       readersSeeWholes,
		"NothingIsWrittenTwice":  nothingIsWrittenTwice,
		"AnErrorKeepsTheOld":     anErrorKeepsTheOld,
		"DriftIsPutRight":        driftIsPutRight,
		"WithdrawFollowsItsRule": func(t *testing.T, _ Harness) { withdraw(t, fresh) },
		"OthersWorkIsKept":       othersWorkIsKept,
		"IDIsStable":             idIsStable,
	} {
		t.Run(name, func(t *testing.T) { check(t, fresh(t)) })
	}
}

func (h Harness) deliver(t *testing.T, p *agent.Publication) {
	t.Helper()
	if err := h.Sink.Deliver(t.Context(), p); err != nil {
		t.Fatalf("Deliver: %v", err)
	}
}

func (h Harness) shows(t *testing.T, p *agent.Publication) {
	t.Helper()
	got, err := h.Read()
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	if want := h.Render(p); !bytes.Equal(got, want) {
		t.Fatalf("a reader sees %q, want %q", got, want)
	}
}

func deliverIsSeen(t *testing.T, h Harness) {
	if b, err := h.Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("before the first delivery a reader sees %q, %v", b, err)
	}
	for g := range uint64(3) {
		p := Publication(g + 1)
		h.deliver(t, p)
		h.shows(t, p)
	}
}

func readersSeeWholes(t *testing.T, h Harness) {
	const n = 60
	whole := map[string]bool{}
	all := make([]*agent.Publication, n)
	for g := range all {
		all[g] = Publication(uint64(g + 1))
		whole[string(h.Render(all[g]))] = true
	}
	h.deliver(t, all[0])
	var done atomic.Bool
	var reads atomic.Int64
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for !done.Load() {
				b, err := h.Read()
				if err != nil || !whole[string(b)] {
					t.Errorf("a reader sees %d bytes that were never delivered, %v", len(b), err)
					return
				}
				reads.Add(1)
			}
		})
	}
	for _, p := range all {
		h.deliver(t, p)
	}
	done.Store(true)
	readers.Wait()
	if reads.Load() == 0 {
		t.Fatal("no reader read anything")
	}
}

func nothingIsWrittenTwice(t *testing.T, h Harness) {
	if h.Stamp == nil {
		t.Skip("writes cannot be seen")
	}
	p := Publication(1)
	h.deliver(t, p)
	before := h.Stamp()
	for range 3 {
		h.deliver(t, p)
	}
	if after := h.Stamp(); after != before {
		t.Fatalf("the same publication was written again: %s, then %s", before, after)
	}
	h.deliver(t, Publication(2))
	if h.Stamp() == before {
		t.Fatal("the stamp does not show writes")
	}
}

func anErrorKeepsTheOld(t *testing.T, h Harness) {
	if h.Break == nil {
		t.Skip("nothing can fail")
	}
	old, next := Publication(1), Publication(2)
	h.deliver(t, old)
	mend := h.Break()
	err := h.Sink.Deliver(t.Context(), next)
	if err == nil {
		mend()
		t.Fatal("Deliver said nothing")
	}
	if strings.Contains(err.Error(), next.Token.Reveal()) {
		t.Fatal("the error quotes the token")
	}
	h.shows(t, old)
	mend()
	h.deliver(t, next)
	h.shows(t, next)
}

func driftIsPutRight(t *testing.T, h Harness) {
	if h.Disturb == nil {
		t.Skip("nobody can change it")
	}
	p := Publication(1)
	h.deliver(t, p)
	h.Disturb()
	h.deliver(t, p)
	h.shows(t, p)
}

func withdraw(t *testing.T, fresh func(t *testing.T) Harness) {
	for _, why := range []agent.WithdrawReason{agent.WithdrawRemoved, agent.WithdrawExpired, agent.WithdrawStopped} {
		t.Run(fmt.Sprint(why), func(t *testing.T) {
			h := fresh(t)
			if err := h.Sink.Withdraw(t.Context(), why); err != nil {
				t.Fatalf("before the first delivery: %v", err)
			}
			p := Publication(1)
			h.deliver(t, p)
			if err := h.Sink.Withdraw(t.Context(), why); err != nil {
				t.Fatal(err)
			}
			if !h.Removes[why] {
				h.shows(t, p)
				return
			}
			if b, err := h.Read(); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("a reader still sees %q, %v", b, err)
			}
			if err := h.Sink.Withdraw(t.Context(), why); err != nil {
				t.Fatalf("the second time: %v", err)
			}
			p = Publication(2)
			h.deliver(t, p)
			h.shows(t, p)
		})
	}
}

func othersWorkIsKept(t *testing.T, h Harness) {
	if h.Disturb == nil {
		t.Skip("nobody can change it")
	}
	h.deliver(t, Publication(1))
	h.Disturb()
	theirs, before := h.Read()
	if err := h.Sink.Withdraw(t.Context(), agent.WithdrawRemoved); err != nil {
		t.Fatal(err)
	}
	if b, err := h.Read(); !bytes.Equal(b, theirs) || errors.Is(err, fs.ErrNotExist) != errors.Is(before, fs.ErrNotExist) {
		t.Fatalf("what someone else put there became %q, %v", b, err)
	}
}

func idIsStable(t *testing.T, h Harness) {
	id := h.Sink.ID()
	h.deliver(t, Publication(1))
	if id == "" || h.Sink.ID() != id {
		t.Fatalf("ID was %q, then %q", id, h.Sink.ID())
	}
}

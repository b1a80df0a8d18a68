package agent

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// A hundred thousand tokens are to cost little more than their values.
func TestAnIdleTokenCostsLittleBesideItsValue(t *testing.T) {
	const n, value = 10_000, 1500
	boot := time.Now().Add(-time.Hour)
	clock := func() Instant { n := time.Now(); return Instant{n.Round(0), n.Sub(boot)} }
	a, err := New(Options{Store: newMemory(), Clock: clock, BootID: "b", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	src := &constSource{clock: clock, value: strings.Repeat("x", value)}
	src.traits = Traits{Type: "const", Fingerprint: "f"}
	specs := make([]*Spec, n)
	for i := range specs {
		specs[i] = &Spec{Name: fmt.Sprintf("token-%06d", i), Source: src}
	}
	before := heapInUse()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	if err := a.Apply(specs, nil); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(done); _ = a.Run(ctx) }()
	for i := range specs {
		tok, _ := a.Token(specs[i].Name)
		if _, ok := tok.Await(ctx, func(*Publication) bool { return true }); !ok {
			t.Fatalf("%s did not come: %+v", specs[i].Name, tok.Status())
		}
	}
	cancel()
	<-done
	a.store.(*memory).data = nil
	a.ledger.accounts = nil
	per := float64(heapInUse()-before)/n - value
	t.Logf("keeper %d B, publication %d B, %.0f B a token beside its value", unsafe.Sizeof(keeper{}), unsafe.Sizeof(Publication{}), per)
	if per > 1400 {
		t.Errorf("%.0f B a token beside its value", per)
	}
	runtime.KeepAlive(a)
	runtime.KeepAlive(specs)
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// constSource gives each login a value of its own of one length.
type constSource struct {
	traits Traits
	clock  Clock
	value  string
}

func (s *constSource) Traits() *Traits { return &s.traits }
func (s *constSource) Prepare(context.Context, Step, Session) (*Attempt, error) {
	return &Attempt{Credential: Credential{Origin: "const", Principal: fmt.Sprint(time.Now().UnixNano())}, Send: func(context.Context) (*Grant, error) {
		return &Grant{Sent: s.clock(), Token: NewSecret(strings.Clone(s.value)), Life: time.Hour}, nil
	}}, nil
}

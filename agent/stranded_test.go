package agent

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// However often a login failed while there was a token to lose, or for another
// reason: without a token the first that is misconfigured is tried again after a
// minute, and the next ones later.
func TestMisconfiguredIsCountedFromWhenItCosts(t *testing.T) {
	for name, before := range map[string]Kind{"valid": Misconfigured, "outage": Transient} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := newFake(w.now)
				f.traits.CanRefresh, f.life = false, 10*time.Minute
				w.run(&Spec{Name: "c", Source: f})
				defer w.shutdown()
				synctest.Wait()
				w.mustValid("c")
				kind := before
				f.set(func(f *fakeSource) {
					f.fault = func(s Step) error { return &Error{Kind: kind, Step: s, Detail: "a page for people"} }
				})
				for expiry := w.token("c").Current().Expires; w.now().Boot < expiry; {
					time.Sleep(time.Second)
				}
				failed, _ := f.counts()
				if failed < 6 {
					t.Fatalf("%d logins by the expiry, want some that failed", failed)
				}
				f.set(func(*fakeSource) { kind = Misconfigured })
				time.Sleep(100 * time.Minute)
				var waits []time.Duration
				f.set(func(f *fakeSource) {
					for i := failed + 1; i < len(f.logins); i++ {
						waits = append(waits, f.logins[i].Sub(f.logins[i-1]).Round(time.Second))
					}
				})
				want := append(misconfiguredWaits[:], 35*time.Minute)
				if !slices.Equal(waits, want) {
					t.Errorf("waits of %v, want %v", waits, want)
				}
				f.set(func(f *fakeSource) { f.fault = nil })
				time.Sleep(36 * time.Minute)
				w.mustValid("c")
			})
		})
	}
}

// What asks nobody, such as a signature made here, can lock no account: however
// many tokens come of one key, none waits for another.
func TestWhatAsksNobodyIsNotBudgeted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var specs []*Spec
		for i := range 3 * loginsAMinute {
			f := newFake(w.now)
			f.traits.Fingerprint = fmt.Sprint(i)
			specs = append(specs, &Spec{Name: fmt.Sprint("t", i), Source: asksNobody{f}})
		}
		w.run(specs...)
		defer w.shutdown()
		time.Sleep(time.Second)
		for _, s := range specs {
			w.mustValid(s.Name)
		}
		if n := w.store.savesOf(BucketLedger); n != 0 {
			t.Errorf("the ledger was written %d times", n)
		}
	})
}

type asksNobody struct{ *fakeSource }

func (s asksNobody) Prepare(ctx context.Context, step Step, session Session) (*Attempt, error) {
	at, err := s.fakeSource.Prepare(ctx, step, session)
	if at != nil {
		at.Credential = Credential{}
	}
	return at, err
}

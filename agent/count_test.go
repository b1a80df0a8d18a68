package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

// A problem counts failures of its own kind alone: an outage before a refusal is
// no refusal.
func TestProblemCountsItsOwnKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		kind := Transient
		f.fault = func(s Step) error { return &Error{Kind: kind, Step: s, Detail: "no"} }
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		problem := func() Problem {
			t.Helper()
			synctest.Wait()
			p := w.token("c").Status().Problems
			if len(p) != 1 {
				t.Fatalf("problems: %+v", p)
			}
			return p[0]
		}
		for problem().Count < 3 {
			time.Sleep(100 * time.Millisecond)
		}
		outages, _ := f.counts()
		if outages != 3 {
			t.Errorf("3 failures are told of %d tries", outages)
		}
		f.set(func(*fakeSource) { kind = Rejected })
		for problem().Kind != Rejected {
			time.Sleep(100 * time.Millisecond)
		}
		if p := problem(); p.Count != 1 {
			t.Errorf("one refusal after %d outages is told as %d", outages, p.Count)
		}
		time.Sleep(34 * time.Minute)
		if p := problem(); p.Kind != Rejected || p.Count != 1 {
			t.Errorf("held after one refusal: %+v", p)
		}
		time.Sleep(2 * time.Minute)
		if p := problem(); p.Kind != Rejected || p.Count != 2 {
			t.Errorf("after the refused probe: %+v", p)
		}
	})
}

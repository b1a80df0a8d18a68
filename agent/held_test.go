package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

// From the moment a refusal is shown, status says when the next login really is.
func TestStatusAfterARefusalNamesTheNextLogin(t *testing.T) {
	for _, c := range []struct {
		name  string
		first error
		next  time.Duration
	}{
		{"a secret that never worked", &Error{Kind: Rejected, Detail: "server answered 401"}, defaultProbe},
		{"a locked account", &Error{Kind: Locked, Detail: "the account is locked", Wait: 3 * time.Minute}, 3 * time.Minute},
		{"a server that asks to wait", &Error{Kind: Throttled, Detail: "server answered 429", Wait: 2 * time.Minute}, 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f := newFake(w.now)
				f.fault = func(Step) error { return c.first }
				w.run(&Spec{Name: "c", Source: f})
				defer w.shutdown()
				synctest.Wait()
				s := w.token("c").Status()
				if len(s.Problems) != 1 {
					t.Fatalf("%+v", s)
				}
				want := w.now().Wall.Add(c.next)
				if !s.NextRenewal.Equal(want) || !s.Problems[0].Until.Equal(want) {
					t.Errorf("next login at %v, held until %v, want %v", s.NextRenewal, s.Problems[0].Until, want)
				}
				time.Sleep(c.next - time.Second)
				if logins, _ := f.counts(); logins != 1 {
					t.Errorf("%d logins while held", logins)
				}
				time.Sleep(2 * time.Second)
				if logins, _ := f.counts(); logins != 2 {
					t.Errorf("%d logins after the hold, want the second", logins)
				}
			})
		})
	}
}

// A changed secret ends the hold: status names it no more.
func TestStatusAfterTheSecretChangedNamesNoHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.password = "wrong"
		w.run(&Spec{Name: "c", Source: f})
		defer w.shutdown()
		time.Sleep(time.Minute)
		f.set(func(f *fakeSource) { f.password, f.slow = "pw", 2*time.Second })
		w.token("c").SecretChanged()
		time.Sleep(time.Second) // it is being tried
		if s := w.token("c").Status(); len(s.Problems) != 1 || !s.Problems[0].Until.IsZero() || !s.Renewing {
			t.Errorf("%+v", s)
		}
	})
}

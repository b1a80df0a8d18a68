package secret

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A locked keyring asks its user once, however many tokens want a secret of it and
// however often, and is asked anew once it has answered or is taken for lost.
func TestALockedKeyringIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		unlocked := make(chan struct{})
		v := NewResolver()
		v.keyring.get = func(ctx context.Context, _, account string) (string, error) {
			asked.Add(1)
			select {
			case <-unlocked:
				return "secret of " + account, nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		read := func(account string) (string, error) {
			s, err := v.Resolve(t.Context(), Ref{Keyring: "service/" + account})
			return s.Reveal(), err
		}
		for range 20 {
			for _, account := range []string{"a", "b"} {
				if _, err := read(account); err == nil || !strings.Contains(err.Error(), "may be locked") {
					t.Fatalf("read %s: %v", account, err)
				}
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("the keyring was asked %d times", n)
		}
		time.Sleep(lost)
		if _, err := read("a"); err == nil || asked.Load() != 2 {
			t.Errorf("asked %d times in all: %v", asked.Load(), err)
		}
		close(unlocked)
		synctest.Wait()
		for _, account := range []string{"a", "b"} {
			if text, err := read(account); err != nil || text != "secret of "+account {
				t.Errorf("%s is %q: %v", account, text, err)
			}
		}
	})
}

package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// busiest is the most requests that the server has seen in any span of per.
func (f *fakeSource) busiest(per time.Duration) (most, all int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := slices.Concat(f.logins, f.refreshes)
	slices.SortFunc(seen, time.Time.Compare)
	first := 0
	for i, t := range seen {
		for t.Sub(seen[first]) >= per {
			first++
		}
		most = max(most, i-first+1)
	}
	return most, len(seen)
}

// windowed is a source that wants five requests a second and may send fewer.
func windowed(w *world) (*fakeSource, *Spec) {
	f := newFake(w.now)
	f.life = 400 * time.Millisecond
	f.traits.Limits = HostLimits{Requests: 40, Per: 20 * time.Second}
	return f, &Spec{Name: "c", Source: f, Renew: Renew{MinInterval: 100 * time.Millisecond}}
}

// What a host has seen counts after a restart too, whenever the agent died, and
// little is lost to what it does not know.
func TestRequestWindowOutlivesTheProcess(t *testing.T) {
	for _, life := range []time.Duration{300 * time.Millisecond, time.Second, 7 * time.Second} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f, spec := windowed(w)
				for began := time.Now(); time.Since(began) < 15*time.Minute; {
					w.run(spec)
					time.Sleep(life)
					w.store.fail(errors.New("it is killed"))
					w.shutdown()
					w.store.fail(nil)
				}
				most, all := f.busiest(20 * time.Second)
				if most > 40 {
					t.Errorf("%d requests in 20 s, where the limit is 40", most)
				}
				if all < 45*40/2 {
					t.Errorf("%d requests in 45 windows of 40: too many were counted", all)
				}
			})
		})
	}
}

// Who is stopped counts no more than was sent.
func TestRequestWindowOfAStoppedProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f, spec := windowed(w)
		f.life, f.traits.Limits = time.Hour, HostLimits{Requests: 80, Per: 24 * time.Hour}
		w.run(spec)
		for range 5 { // a block is written ahead of these
			time.Sleep(time.Hour)
		}
		for range 20 {
			w.shutdown()
			w.run(spec)
		}
		w.shutdown()
		_, sent := f.busiest(time.Hour)
		l, err := openLimiter(nil, w.store, nil, w.now(), "b")
		if err != nil {
			t.Fatal(err)
		}
		if counted := len(l.hosts[f.traits.Hosts[0]].sent); counted != sent {
			t.Errorf("%d requests are counted, %d were sent", counted, sent)
		}
	})
}

// After a reboot the wall clock says how long ago a request was; where that cannot
// be, it was just now.
func TestRequestWindowOutlivesAReboot(t *testing.T) {
	for name, step := range map[string]time.Duration{"clock kept": 0, "clock gone back": -24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				f, spec := windowed(w)
				w.run(spec)
				time.Sleep(12 * time.Second)
				w.shutdown()
				w.bootID, w.start = "boot-2", time.Now()
				w.stepWall(step)
				w.run(spec)
				defer w.shutdown()
				time.Sleep(time.Minute)
				if most, all := f.busiest(20 * time.Second); most > 40 || all < 60 {
					t.Errorf("%d requests, %d of them in 20 s, where the limit is 40", all, most)
				}
			})
		})
	}
}

// A window costs the disk a few writes, not one a request.
func TestRequestWindowIsWrittenInBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f, spec := windowed(w)
		f.traits.Limits = HostLimits{Requests: 800, Per: time.Minute}
		w.run(spec)
		defer w.shutdown()
		time.Sleep(5 * time.Minute)
		_, all := f.busiest(time.Minute)
		if n := w.store.savesOf(BucketHosts); n == 0 || n > all/50 {
			t.Errorf("%d writes for %d requests", n, all)
		}
	})
}

// A disk that cannot be written costs no token: the window is kept in memory.
func TestRequestWindowWithoutADisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f, spec := windowed(w)
		w.run(spec)
		defer w.shutdown()
		time.Sleep(time.Second)
		w.store.fail(errors.New("no space left on device"))
		time.Sleep(time.Minute)
		if most, all := f.busiest(20 * time.Second); most > 40 || all < 100 {
			t.Errorf("%d requests, %d of them in 20 s, where the limit is 40", all, most)
		}
	})
}

// A disk that hangs holds up the requests of a host no longer than one write may
// take, however many they are.
func TestRequestWindowOnADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, err := openLimiter(nil, w.store, func(ctx context.Context, patience time.Duration, changes ...Change) error {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			return w.store.Save(ctx, changes...)
		}, w.now(), "b")
		if err != nil {
			t.Fatal(err)
		}
		traits := &Traits{Hosts: []string{"h:443"}, Limits: HostLimits{Requests: 100, Per: time.Minute}}
		w.store.slowDown(time.Hour)
		var all sync.WaitGroup
		var said atomic.Bool
		began := time.Now()
		for range 20 {
			l.once(traits, w.now().Boot)
			all.Go(func() {
				if l.keep(t.Context(), w.now(), traits, time.Second) != nil {
					said.Store(true)
				}
			})
		}
		all.Wait()
		if !said.Load() {
			t.Error("nothing was written, and nothing is said")
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("twenty requests waited %v for the disk, one write may take a second", took)
		}
		if err := l.keep(t.Context(), w.now(), traits, time.Second); err != nil || time.Since(began) > time.Second {
			t.Errorf("right after that the next one waited too: %v", err)
		}
		w.store.slowDown(0)
		time.Sleep(saveRetry)
		if err := l.keep(t.Context(), w.now(), traits, time.Second); err != nil || w.store.savesOf(BucketHosts) != 1 {
			t.Errorf("once the disk answers: %v, %d writes", err, w.store.savesOf(BucketHosts))
		}
	})
}

// Who has to wait for a window right after a renewal is sent for when it opens,
// not when something else wakes the agent.
func TestRequestWindowThatOpensWakesTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := newFake(w.now)
		f.life, f.slow = 3*time.Second, 900*time.Millisecond // due again when it comes
		f.traits.Limits = HostLimits{Requests: 2, Per: 2200 * time.Millisecond}
		other := newFake(w.now) // what the loop sleeps for meanwhile: it is due at 2.8 s
		other.life, other.traits.Hosts = 4*time.Second, []string{"other.test:443"}
		w.run(&Spec{Name: "c", Source: f, Renew: Renew{Before: 3 * time.Second, NoJitter: true, MinInterval: 500 * time.Millisecond}},
			&Spec{Name: "d", Source: other, Renew: Renew{Before: 1200 * time.Millisecond, NoJitter: true}})
		defer w.shutdown()
		time.Sleep(3500 * time.Millisecond) // sent at 0, 0.9 and 2.2 s, each answered after 0.9 s
		synctest.Wait()
		if _, refreshes := f.counts(); refreshes != 2 {
			t.Errorf("%d refreshes, want the second when the window opened: %+v", refreshes, w.token("c").Status())
		}
	})
}

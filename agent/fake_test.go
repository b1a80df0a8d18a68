package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a Store that forgets nothing and can be told to fail.
type memory struct {
	mu     sync.Mutex
	data   map[string]map[string][]byte
	saves  int
	writes map[string]int // by bucket
	broken error
	slow   time.Duration // of every save
}

func newMemory() *memory {
	return &memory{data: map[string]map[string][]byte{}, writes: map[string]int{}}
}

func (m *memory) Load(bucket string, f func(string, []byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.data[bucket] {
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Get(bucket, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data[bucket][key], nil
}

func (m *memory) Save(ctx context.Context, changes ...Change) error {
	m.mu.Lock()
	slow := m.slow
	m.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	m.saves++
	for _, c := range changes {
		m.writes[c.Bucket]++
		b := m.data[c.Bucket]
		if b == nil {
			b = map[string][]byte{}
			m.data[c.Bucket] = b
		}
		if c.Value == nil {
			delete(b, c.Key)
		} else {
			b[c.Key] = append([]byte(nil), c.Value...)
		}
	}
	return nil
}

func (m *memory) savesOf(bucket string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes[bucket]
}

func (m *memory) slowDown(d time.Duration) {
	m.mu.Lock()
	m.slow = d
	m.mu.Unlock()
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	m.broken = err
	m.mu.Unlock()
}

// fakeSource is an API in a few lines: sessions, access tokens, refresh tokens,
// a password, a lock. Its knobs may be turned while it runs.
type fakeSource struct {
	traits Traits
	now    Clock

	mu       sync.Mutex
	life     time.Duration
	maxAge   time.Duration
	password string // what we present
	right    string // what it takes
	fault    func(Step) error
	rotate   bool
	slow     time.Duration
	same     bool // hand out the same token again

	n         int
	session   time.Time
	rt        string
	token     string
	logins    []time.Time
	refreshes []time.Time
	bad       int
	ended     []string
	ending    func(token string) // what is told before
}

func newFake(now Clock) *fakeSource {
	return &fakeSource{now: now, life: time.Minute, maxAge: 15 * time.Minute, password: "pw", right: "pw",
		traits: Traits{Type: "fake", Fingerprint: "fake", Hosts: []string{"api.test:443"}, CanRefresh: true,
			Session: SessionLimits{MaxAge: 15 * time.Minute}}}
}

func (f *fakeSource) Traits() *Traits { return &f.traits }

func (f *fakeSource) Prepare(_ context.Context, step Step, s Session) (*Attempt, error) {
	f.mu.Lock()
	pw := f.password
	f.mu.Unlock()
	if step == StepRefresh && !s.Valid && !f.rotate {
		return nil, ErrPassedOver
	}
	if step == StepRefresh && f.rotate && s.RefreshToken.IsZero() {
		return nil, ErrPassedOver
	}
	return &Attempt{
		Credential: Credential{"https://" + f.traits.Hosts[0], "bob", sha256.Sum256([]byte(pw))},
		Spends:     step == StepRefresh && f.rotate,
		Send:       func(ctx context.Context) (*Grant, error) { return f.send(ctx, step, pw, s) },
	}, nil
}

func (f *fakeSource) send(ctx context.Context, step Step, pw string, s Session) (*Grant, error) {
	sent := f.now()
	f.mu.Lock()
	slow := f.slow
	f.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return nil, &Error{Kind: Transient, Step: step, Detail: "timed out"}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch step {
	case StepLogin:
		f.logins = append(f.logins, time.Now())
	case StepRefresh:
		f.refreshes = append(f.refreshes, time.Now())
	case StepLogout:
		if f.ending != nil {
			f.ending(s.Token.Reveal())
		}
		f.ended = append(f.ended, s.Token.Reveal())
		return &Grant{Sent: sent}, nil
	}
	if f.fault != nil {
		if err := f.fault(step); err != nil {
			return nil, err
		}
	}
	g := &Grant{Sent: sent, Life: f.life}
	if step == StepLogin {
		if pw != f.right {
			f.bad++
			return nil, &Error{Kind: Rejected, Step: step, Detail: "server answered 401"}
		}
		f.session = time.Now()
	} else if time.Since(f.session) >= f.maxAge || f.rotate && s.RefreshToken.Reveal() != f.rt {
		return nil, &Error{Kind: SessionOver, Step: step, Detail: "server answered 401"}
	}
	if !f.same {
		f.n++
	}
	f.token = fmt.Sprintf("token-%d", f.n)
	g.Token = NewSecret(f.token)
	if f.rotate {
		f.rt = fmt.Sprintf("refresh-%d", f.n)
		g.RefreshToken = NewSecret(f.rt)
	}
	return g, nil
}

func (f *fakeSource) set(change func(*fakeSource)) {
	f.mu.Lock()
	change(f)
	f.mu.Unlock()
}

func (f *fakeSource) counts() (logins, refreshes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.logins), len(f.refreshes)
}

// fakeSink remembers what it was given.
type fakeSink struct {
	id string

	mu        sync.Mutex
	got       []*Publication
	withdrawn []WithdrawReason
	err       error
}

func (s *fakeSink) ID() string { return s.id }
func (s *fakeSink) Deliver(_ context.Context, p *Publication) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.got = append(s.got, p)
	return nil
}
func (s *fakeSink) Withdraw(_ context.Context, why WithdrawReason) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.withdrawn = append(s.withdrawn, why)
	return nil
}
func (s *fakeSink) fail(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
}
func (s *fakeSink) delivered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}
func (s *fakeSink) last() *Publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) == 0 {
		return nil
	}
	return s.got[len(s.got)-1]
}

// world is a machine: its clocks, its disk and one agent at a time.
type world struct {
	t      *testing.T
	store  *memory
	bootID string

	mu     sync.Mutex
	start  time.Time
	asleep time.Duration // suspended time: boot and wall count it, timers do not
	step   time.Duration // what the wall clock was stepped by
	a      *Agent
	stop   context.CancelFunc
	done   chan struct{}
}

func newWorld(t *testing.T) *world {
	return &world{t: t, store: newMemory(), bootID: "boot-1", start: time.Now().Add(-time.Hour)}
}

func (w *world) now() Instant {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := time.Now()
	return Instant{Wall: n.Add(w.asleep + w.step).Round(0), Boot: n.Sub(w.start) + w.asleep}
}

func (w *world) suspend(d time.Duration)  { w.mu.Lock(); w.asleep += d; w.mu.Unlock() }
func (w *world) stepWall(d time.Duration) { w.mu.Lock(); w.step += d; w.mu.Unlock() }

func (w *world) run(specs ...*Spec) *Agent {
	w.t.Helper()
	a, err := New(Options{Store: w.store, Clock: w.now, BootID: w.bootID, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.a, w.stop, w.done = a, cancel, make(chan struct{})
	if err := a.Apply(specs, nil); err != nil {
		w.t.Fatal(err)
	}
	go func() { defer close(w.done); _ = a.Run(ctx) }()
	return a
}

func (w *world) shutdown() { w.stop(); <-w.done }

func (w *world) token(name string) Token {
	w.t.Helper()
	tok, ok := w.a.Token(name)
	if !ok {
		w.t.Fatalf("no token %q", name)
	}
	return tok
}

func (w *world) mustValid(name string) {
	w.t.Helper()
	p := w.token(name).Current()
	if p == nil || p.Remaining(w.now()) <= 0 {
		w.t.Fatalf("%s: no valid token: %+v", name, w.token(name).Status())
	}
}

var errDisk = errors.New("no space left on device")

var mgr = Caller{ID: "uid 0", Manager: true}

// long is a source of tokens that live life, in a session without end.
func long(w *world, life time.Duration) *fakeSource {
	f := newFake(w.now)
	f.life, f.maxAge, f.traits.Session = life, 1<<60, SessionLimits{}
	return f
}

func fails(f *fakeSource, k Kind) {
	f.set(func(f *fakeSource) {
		f.fault = func(s Step) error { return &Error{Kind: k, Step: s, Detail: "fault"} }
	})
}

// failsBy has each step fail in its own way, or not at all ("").
func failsBy(f *fakeSource, login, refresh Kind) {
	f.set(func(f *fakeSource) {
		f.fault = func(s Step) error {
			kind := login
			if s == StepRefresh {
				kind = refresh
			}
			if kind == "" {
				return nil
			}
			return &Error{Kind: kind, Step: s, Detail: "fault"}
		}
	})
}

func heals(f *fakeSource) { f.set(func(f *fakeSource) { f.fault = nil }) }

// until gives how long it takes until ok holds, looking each second, and whether
// that came within most.
func until(most time.Duration, ok func() bool) (time.Duration, bool) {
	began := time.Now()
	for time.Since(began) < most {
		synctest.Wait()
		if ok() {
			return time.Since(began), true
		}
		time.Sleep(time.Second)
	}
	return most, false
}

// waitInvalid waits until a token's life has passed without another.
func (w *world) waitInvalid(name string) {
	w.t.Helper()
	for end := time.Now().Add(60 * 24 * time.Hour); w.valid(name); {
		time.Sleep(max(w.token(name).Current().Remaining(w.now()), time.Millisecond))
		if time.Now().After(end) {
			w.t.Fatalf("%s stays valid", name)
		}
	}
}

func (w *world) waitInvalidAfterFirst(name string) {
	until(time.Minute, func() bool { return w.valid(name) })
	w.waitInvalid(name)
}

// brief says of a status what a failed test is to tell.
func brief(s Status, w *world) string {
	next := "none"
	if !s.NextRenewal.IsZero() {
		next = s.NextRenewal.Sub(w.now().Wall).Round(time.Second).String()
	}
	return fmt.Sprintf("state %s valid %v gen %d next %s in %s problems %+v waiting %q", s.State, s.Valid, s.Generation, s.NextStep, next, s.Problems, s.WaitingFor)
}

func (w *world) valid(name string) bool {
	p := w.token(name).Current()
	return p != nil && p.Remaining(w.now()) > 0
}

// untilLogin waits for the next login.
func untilLogin(f *fakeSource) {
	before, _ := f.counts()
	until(24*time.Hour, func() bool { logins, _ := f.counts(); return logins > before })
}

// lapsed is for how long a token is not valid within the next d, to the second.
func (w *world) lapsed(name string, d time.Duration) (lapsed time.Duration) {
	for range d / time.Second {
		time.Sleep(time.Second)
		synctest.Wait()
		if !w.valid(name) {
			lapsed += time.Second
		}
	}
	return lapsed
}

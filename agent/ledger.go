package agent

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	loginWindow    = time.Minute
	loginsAMinute  = 10
	defaultTries   = 2                // refused logins of a secret that has worked before it is held
	defaultProbe   = 35 * time.Minute // a held secret is tried again this seldom
	defaultLocked  = 5 * time.Minute  // where a lock came without a time
	longestWait    = 15 * time.Minute // of a Retry-After
	keptSecrets    = 8                // refused secrets remembered per account
	managerRelease = 5 * time.Minute  // a manager may end a hold this long after the last refusal
)

// ledger is the book of logins: per account what was tried with which secret
// and what came of it. It is written before a login is sent, so that neither a
// crash loop nor a second token on the account can spend more tries than the
// vendor allows.
type ledger struct {
	store  Store
	bootID string
	key    []byte // keys the digests of secrets

	mu       sync.Mutex
	accounts map[string]*account
}

// account is an origin and a principal there: what a vendor locks. Tries and
// holds belong to one of its secrets.
type account struct {
	id      string
	writing chan struct{} // serialises writes, so that the newest is the last

	Secrets []*triedSecret `json:"secrets,omitempty"` // oldest first
	Locked  Mark           `json:"locked,omitzero"`
	Wait    Mark           `json:"wait,omitzero"`
	Logins  []login        `json:"logins,omitempty"` // of the last window

	busy    bool      // a login is under way
	waiters []*keeper // who wants the account next
}

type login struct {
	At    Mark `json:"at"`
	Asked bool `json:"asked,omitempty"`
}

type triedSecret struct {
	Hash    string `json:"hash"`
	Worked  bool   `json:"worked,omitempty"`
	Tries   int    `json:"tries,omitempty"` // refused in a row
	Open    int    `json:"open,omitempty"`  // sent, and the answer not booked yet
	Held    bool   `json:"held,omitempty"`
	Next    Mark   `json:"next,omitzero"`    // not before this: the second try, or the probe
	Refused Mark   `json:"refused,omitzero"` // the last refusal
}

// verdict is the ledger's answer to "may this login be sent now".
type verdict struct {
	ok    bool
	busy  bool          // another login of the account is under way; the keeper is woken after it
	until time.Duration // boot clock; forever where only a change helps
	kind  Kind
	why   string
	hint  string
}

func openLedger(store Store, now Instant, bootID string) (*ledger, error) {
	l := &ledger{store: store, bootID: bootID, accounts: map[string]*account{}}
	err := store.Load(BucketMeta, func(key string, value []byte) error {
		if key == "ledger-key" {
			l.key = append([]byte(nil), value...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(l.key) == 0 {
		l.key = make([]byte, 32)
		_, _ = rand.Read(l.key) // never fails: crypto/rand
		if err := store.Save(context.Background(), Change{BucketMeta, "ledger-key", l.key}); err != nil {
			return nil, err
		}
	}
	// Only what still binds stays in memory; a clean account is read again when
	// it logs in next.
	err = store.Load(BucketLedger, func(key string, value []byte) error {
		a, err := l.decode(key, value, now)
		if err == nil && !a.clean(now, bootID) {
			l.accounts[key] = a
		}
		return err
	})
	return l, err
}

func (l *ledger) decode(id string, value []byte, now Instant) (*account, error) {
	a := newAccount(id)
	if err := json.Unmarshal(value, a); err != nil {
		return nil, fmt.Errorf("read the ledger of %q: %w", id, err)
	}
	for _, s := range a.Secrets {
		s.settle(now, l.bootID)
	}
	return a, nil
}

// clean says that nothing of the account binds the next login.
func (a *account) clean(now Instant, bootID string) bool {
	if a.busy || len(a.waiters) > 0 || len(a.writing) > 0 || a.Locked.boot(now, bootID) > now.Boot || a.Wait.boot(now, bootID) > now.Boot {
		return false
	}
	for _, s := range a.Secrets {
		if s.Held || s.Tries > 0 || s.Open > 0 {
			return false
		}
	}
	n := len(a.Logins)
	return n == 0 || a.Logins[n-1].At.boot(now, bootID)+loginWindow <= now.Boot
}

// sweep forgets clean accounts; the store keeps them.
func (l *ledger) sweep(now Instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, a := range l.accounts {
		if a.clean(now, l.bootID) {
			delete(l.accounts, id)
		}
	}
}

// settle counts logins that were sent and whose answer a crash cut off: the
// server may have refused them. A secret that never worked is held after the
// second, one that has worked only waits.
func (s *triedSecret) settle(now Instant, bootID string) {
	if s.Open == 0 {
		return
	}
	opened := s.Open
	s.Open = 0
	if s.Worked {
		if opened > 1 {
			s.Next = now.mark(now.Boot+5*time.Minute, bootID)
		}
		return
	}
	s.Tries += opened
	s.Refused = now.mark(now.Boot, bootID)
	if s.Tries >= 2 {
		s.Held, s.Next = true, now.mark(now.Boot+defaultProbe, bootID)
	}
}

func newAccount(id string) *account { return &account{id: id, writing: make(chan struct{}, 1)} }

func (c Credential) account() string { return c.Origin + " " + c.Principal }

// lock finds an account, reading what the store knows of it where it is not in
// memory, and returns with l.mu held unless there is an error.
func (l *ledger) lock(now Instant, c Credential) (*account, error) {
	id := c.account()
	l.mu.Lock()
	if a := l.accounts[id]; a != nil {
		return a, nil
	}
	l.mu.Unlock()
	value, err := l.store.Get(BucketLedger, id)
	if err != nil {
		return nil, errors.Join(errStore, err)
	}
	read := newAccount(id)
	if value != nil {
		if read, err = l.decode(id, value, now); err != nil {
			return nil, errors.Join(errStore, err)
		}
	}
	l.mu.Lock()
	if a := l.accounts[id]; a != nil { // someone else was faster
		return a, nil
	}
	l.accounts[id] = read
	return read, nil
}

func (l *ledger) hash(digest [32]byte) string {
	m := hmac.New(sha256.New, l.key)
	m.Write(digest[:])
	return base64.RawStdEncoding.EncodeToString(m.Sum(nil)[:16])
}

// secret finds or adds the entry of one secret, forgetting the oldest that is
// not held when there are too many.
func (a *account) secret(hash string) *triedSecret {
	for _, s := range a.Secrets {
		if s.Hash == hash {
			return s
		}
	}
	if len(a.Secrets) >= keptSecrets {
		drop := 0
		for i, s := range a.Secrets {
			if !s.Held {
				drop = i
				break
			}
		}
		a.Secrets = append(a.Secrets[:drop], a.Secrets[drop+1:]...)
	}
	s := &triedSecret{Hash: hash}
	a.Secrets = append(a.Secrets, s)
	return s
}

// loginPlan is what the ledger needs to know of a login beside its credential.
type loginPlan struct {
	k      *keeper
	policy RejectedPolicy
	lead   time.Duration
	perMin int  // logins a minute that the schedule needs
	asked  bool // a caller asked for it
	must   bool // the token lapses otherwise: go on though the ledger cannot be written
}

// begin asks for a login and, where it may be sent, writes it down first. Every
// begin that says ok is followed by one book.
func (l *ledger) begin(ctx context.Context, now Instant, c Credential, p loginPlan) (verdict, error) {
	a, err := l.lock(now, c)
	if err != nil {
		return verdict{}, err
	}
	s := a.secret(l.hash(c.Digest))
	if v := a.judge(now, l.bootID, s, p); !v.ok {
		if v.busy {
			a.waiters = append(a.waiters, p.k)
		}
		l.mu.Unlock()
		return v, nil
	}
	a.busy = true
	s.Open++
	a.Logins = append(a.Logins, login{now.mark(now.Boot, l.bootID), p.asked})
	l.mu.Unlock()

	err = l.write(ctx, a)
	if err != nil && !p.must {
		l.mu.Lock()
		s.Open--
		a.Logins = a.Logins[:len(a.Logins)-1]
		l.mu.Unlock()
		l.leave(a)
		return verdict{}, err
	}
	return verdict{ok: true}, err
}

// judge decides from what is booked; it changes nothing but the window.
func (a *account) judge(now Instant, bootID string, s *triedSecret, p loginPlan) verdict {
	at := func(m Mark) time.Duration { return m.boot(now, bootID) }
	if t := min(at(a.Locked), now.Boot+24*time.Hour); t > now.Boot {
		return verdict{until: t, kind: Locked, why: "the account is locked", hint: "it opens by itself; a login would only prolong it"}
	}
	if t := min(at(a.Wait), now.Boot+longestWait); t > now.Boot {
		return verdict{until: t, kind: Throttled, why: "the server asked to wait"}
	}
	if s.Held {
		if t := min(at(s.Next), now.Boot+24*time.Hour); t > now.Boot {
			return verdict{until: t, kind: Rejected, why: "the secret was refused and is held", hint: "mend the secret; a changed one is tried at once"}
		}
	} else if t := at(s.Next); t > now.Boot {
		return verdict{until: t, kind: Rejected, why: "the secret was refused; it has worked before, so it gets one more try"}
	}
	if a.busy {
		return verdict{busy: true, until: forever, kind: Transient, why: "another login of this account is under way"}
	}
	return a.budget(now, bootID, p)
}

// budget bounds logins a minute; callers get a third of it.
func (a *account) budget(now Instant, bootID string, p loginPlan) verdict {
	most := max(loginsAMinute, 3*p.perMin)
	kept, asked := a.Logins[:0], 0
	for _, lg := range a.Logins {
		if t := lg.At.boot(now, bootID); t > now.Boot-loginWindow && t <= now.Boot {
			kept = append(kept, lg)
			if lg.Asked {
				asked++
			}
		}
	}
	a.Logins = kept
	if len(kept) >= most || p.asked && asked >= max(1, most/3) {
		first := kept[0].At.boot(now, bootID)
		return verdict{until: first + loginWindow, kind: Throttled, why: "the login budget of this account is spent"}
	}
	return verdict{ok: true}
}

// book enters what came of a login on the secret it was sent with.
func (l *ledger) book(ctx context.Context, now Instant, c Credential, p loginPlan, err *Error) error {
	a, lerr := l.lock(now, c)
	if lerr != nil {
		return lerr
	}
	s := a.secret(l.hash(c.Digest))
	s.book(now, l.bootID, p, err)
	a.note(now, l.bootID, err)
	l.mu.Unlock()
	werr := l.write(ctx, a)
	l.leave(a)
	return werr
}

func (s *triedSecret) book(now Instant, bootID string, p loginPlan, err *Error) {
	tries, probe := p.policy.Tries, p.policy.Probe
	if tries == 0 {
		tries = defaultTries
	}
	if probe == 0 {
		probe = defaultProbe
	}
	later := func(d time.Duration) Mark { return now.mark(now.Boot+d, bootID) }
	s.Open = 0
	switch {
	case err == nil:
		*s = triedSecret{Hash: s.Hash, Worked: true}
	case err.Unsent:
	case err.Kind == Rejected:
		s.Tries++
		s.Refused = later(0)
		if s.Worked && s.Tries < tries {
			s.Next = later(min(p.lead/4, 5*time.Minute))
			return
		}
		s.Held, s.Next = true, later(probe)
	case s.Held:
		s.Next = later(probe)
	}
}

// note enters what the answer said of the whole account.
func (a *account) note(now Instant, bootID string, err *Error) {
	if err == nil {
		a.Locked, a.Wait = Mark{}, Mark{}
		return
	}
	switch err.Kind {
	case Locked:
		d := err.Wait
		if d <= 0 {
			d = defaultLocked
		}
		a.Locked = now.mark(now.Boot+d, bootID)
	case Throttled:
		if err.Wait > 0 {
			a.Wait = now.mark(now.Boot+min(err.Wait, longestWait), bootID)
		}
	}
}

// throttle books a Retry-After that another step than a login met.
func (l *ledger) throttle(ctx context.Context, now Instant, c Credential, err *Error) error {
	if c.Origin == "" {
		return nil
	}
	a, lerr := l.lock(now, c)
	if lerr != nil {
		return lerr
	}
	a.note(now, l.bootID, err)
	l.mu.Unlock()
	return l.write(ctx, a)
}

// waits says until when the whole account asks for silence (0: not at all).
func (l *ledger) waits(now Instant, c Credential) time.Duration {
	if c.Origin == "" {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[c.account()]
	if a == nil {
		return 0
	}
	if t := a.Wait.boot(now, l.bootID); t > now.Boot {
		return min(t, now.Boot+longestWait)
	}
	return 0
}

// release ends the hold of a secret. A manager may do it five minutes after the
// last refusal, and each further refusal doubles that, so that a loop of
// refreshes cannot lock an account; release reports how long they must wait.
func (l *ledger) release(now Instant, c Credential, byManager bool) time.Duration {
	a, err := l.lock(now, c)
	if err != nil {
		return 0
	}
	defer l.mu.Unlock()
	s := a.secret(l.hash(c.Digest))
	if byManager && s.Tries > 0 {
		least := min(managerRelease<<min(s.Tries-1, 10), defaultProbe)
		if t := s.Refused.boot(now, l.bootID) + least; t > now.Boot {
			return min(t-now.Boot, least)
		}
	}
	s.Held, s.Next = false, Mark{}
	return 0
}

// leave opens the account for the next login.
func (l *ledger) leave(a *account) {
	l.mu.Lock()
	a.busy = false
	waiters := a.waiters
	a.waiters = nil
	l.mu.Unlock()
	for _, k := range waiters {
		k.poke(pokeAccount)
	}
}

// write makes an account durable. Writes of one account follow one another, so
// that what lands last is the newest.
func (l *ledger) write(ctx context.Context, a *account) error {
	a.writing <- struct{}{}
	defer func() { <-a.writing }()
	l.mu.Lock()
	value, err := json.Marshal(a)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	if err := l.store.Save(ctx, Change{BucketLedger, a.id, value}); err != nil {
		return errors.Join(errStore, err)
	}
	return nil
}

// errStore marks a failure of the store, as against one of the source.
var errStore = errors.New("write the state")

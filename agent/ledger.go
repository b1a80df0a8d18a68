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

	jsonv1 "github.com/go-json-experiment/json/v1"
)

const (
	loginWindow    = time.Minute
	loginsAMinute  = 10
	defaultTries   = 2                // refused logins of a secret that has worked before it is held
	mostSecondTry  = 5 * time.Minute  // before the second try of a secret that has worked
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
	save   saveFunc
	bootID string
	key    []byte // keys the digests of secrets

	mu       sync.Mutex
	accounts map[string]*account // in use, or binding; the others are in the store alone
	forgot   uint64              // how many were left to the store so far
}

// verdict is the ledger's answer to "may this login be sent now".
type verdict struct {
	ok    bool
	busy  bool          // another login of the account is under way; the keeper is woken after it
	until time.Duration // boot clock; forever where only a change helps
	kind  Kind
	why   string
	hint  string
	asked bool // see gated

	cleared bool // a secret that was refused has worked
}

// saveFunc makes changes durable, waiting for that no longer than patience.
type saveFunc func(ctx context.Context, patience time.Duration, changes ...Change) error

func openLedger(store Store, save saveFunc, now Instant, bootID string) (*ledger, error) {
	l := &ledger{store: store, save: save, bootID: bootID, accounts: map[string]*account{}}
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
	var mu sync.Mutex
	err = loadEach(store, BucketLedger, func(key string, value []byte) error {
		a, err := l.decode(key, value, now)
		if err == nil && !a.clean(now, bootID) {
			mu.Lock()
			defer mu.Unlock()
			l.accounts[key] = a
		}
		return err
	})
	return l, err
}

func (l *ledger) decode(id string, value []byte, now Instant) (*account, error) {
	a := newAccount(id)
	if err := jsonv1.Unmarshal(value, a); err != nil {
		return nil, fmt.Errorf("read the ledger of %q: %w", id, err)
	}
	a.adopted = now.Boot
	for _, s := range a.Secrets {
		adopted := s.adopt(now, l.bootID)
		a.unsaved = a.unsaved || adopted || s.Open > 0
		s.settle(now, l.bootID)
	}
	return a, nil
}

// sweep forgets the accounts that bind nobody any more, and returns those that are
// still to be written.
func (l *ledger) sweep(now Instant) (unsaved []*account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.accounts {
		if a.unsaved && !a.busy {
			a.users++ // until written
			unsaved = append(unsaved, a)
		}
		l.forget(a, now)
	}
	return unsaved
}

// writeUnsaved writes what sweep returned.
func (l *ledger) writeUnsaved(ctx context.Context, now func() Instant, unsaved []*account) error {
	var failed error
	for _, a := range unsaved {
		if failed == nil { // else the next sweep tries again
			failed = l.write(ctx, a, longestPatience)
		}
		l.mu.Lock()
		l.done(a, now())
		l.mu.Unlock()
	}
	return failed
}

// forget leaves an account to the store, unless somebody works with it or must
// be kept from sending. l.mu is held.
func (l *ledger) forget(a *account, now Instant) {
	if a.users == 0 && !a.unsaved && !a.busy && len(a.waiters) == 0 && !a.silent(now, l.bootID) {
		delete(l.accounts, a.id)
		l.forgot++
	}
}

// done ends the use of an account that lock began. l.mu is held.
func (l *ledger) done(a *account, now Instant) {
	a.users--
	l.forget(a, now)
}

func (c Credential) account() string { return c.Origin + " " + c.Principal }

// nobody says that no vendor is asked, so that there is nothing to book.
func (c Credential) nobody() bool { return c.Origin == "" }

// lock finds an account, reading what the store knows of it where it is not in
// memory, and returns with l.mu held unless there is an error. The account stays
// in memory until done.
func (l *ledger) lock(now Instant, c Credential) (*account, error) {
	id := c.account()
	for {
		l.mu.Lock()
		if a := l.accounts[id]; a != nil {
			a.users++
			return a, nil
		}
		forgot := l.forgot
		l.mu.Unlock()
		a, err := l.read(id, now)
		if err != nil {
			return nil, errors.Join(errStore, err)
		}
		l.mu.Lock()
		if l.accounts[id] == nil && l.forgot == forgot {
			a.users++
			l.accounts[id] = a
			return a, nil
		}
		l.mu.Unlock() // someone else was faster, and what was read may be old
	}
}

func (l *ledger) read(id string, now Instant) (*account, error) {
	value, err := l.store.Get(BucketLedger, id)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return newAccount(id), nil
	}
	return l.decode(id, value, now)
}

func (l *ledger) hash(digest [32]byte) string {
	m := hmac.New(sha256.New, l.key)
	m.Write(digest[:])
	return base64.RawStdEncoding.EncodeToString(m.Sum(nil)[:16])
}

// loginPlan is what the ledger needs to know of a login beside its credential.
type loginPlan struct {
	k        *keeper
	policy   RejectedPolicy
	lead     time.Duration
	perMin   int           // logins a minute that the schedule needs
	asked    bool          // a caller asked for it
	patience time.Duration // with the store
	must     bool          // the token lapses otherwise: go on though the ledger cannot be written
}

// begin asks for a login and, where it may be sent, writes it down first. Every
// begin that says ok is followed by one book.
func (l *ledger) begin(ctx context.Context, now Instant, c Credential, p loginPlan) (verdict, error) {
	if c.nobody() {
		return verdict{ok: true}, nil
	}
	a, err := l.lock(now, c)
	if err != nil {
		return verdict{}, err
	}
	s := a.secret(l.hash(c.Digest))
	if v := a.judge(now, l.bootID, s, p); !v.ok {
		if v.busy {
			a.waiters = append(a.waiters, p.k)
		}
		l.done(a, now)
		l.mu.Unlock()
		return v, nil
	}
	a.busy = true
	s.Open++
	a.Logins = append(a.Logins, login{now.mark(now.Boot, l.bootID), p.asked, p.perMin})
	l.mu.Unlock()

	err = l.write(ctx, a, p.patience)
	l.mu.Lock()
	if err == nil || p.must {
		l.done(a, now)
		l.mu.Unlock()
		return verdict{ok: true}, err
	}
	s.Open--
	a.Logins = a.Logins[:len(a.Logins)-1]
	l.mu.Unlock()
	l.leave(a, now)
	return verdict{}, err
}

// book enters what came of a login on the secret it was sent with, and says
// whether that holds back the next.
func (l *ledger) book(ctx context.Context, now Instant, c Credential, p loginPlan, err *Error) (verdict, error) {
	if c.nobody() {
		return verdict{ok: true}, nil
	}
	a, lerr := l.lock(now, c)
	if lerr != nil {
		return verdict{ok: true}, lerr
	}
	s := a.secret(l.hash(c.Digest))
	cleared := err == nil && (s.Held || s.Tries > 0)
	s.book(now, l.bootID, p, err)
	if n := len(a.Logins); err != nil && err.Unsent && n > 0 {
		a.Logins = a.Logins[:n-1] // nothing left this machine: it cost no budget
	}
	a.note(now, l.bootID, err)
	v := a.holds(now, l.bootID, s)
	v.cleared = cleared
	l.mu.Unlock()
	werr := l.write(ctx, a, p.patience)
	l.leave(a, now)
	return v, werr
}

// throttle books a Retry-After that another step than a login met.
func (l *ledger) throttle(ctx context.Context, now Instant, c Credential, err *Error) error {
	if c.nobody() {
		return nil
	}
	a, lerr := l.lock(now, c)
	if lerr != nil {
		return lerr
	}
	a.note(now, l.bootID, err)
	l.mu.Unlock()
	werr := l.write(ctx, a, longestPatience)
	l.mu.Lock()
	l.done(a, now)
	l.mu.Unlock()
	return werr
}

// waits says until when the whole account asks for silence (0: not at all).
func (l *ledger) waits(now Instant, c Credential) time.Duration {
	if c.nobody() {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[c.account()]
	if a == nil {
		return 0
	}
	if t := a.until(a.Wait, longestWait, now, l.bootID); t > now.Boot {
		return t
	}
	return 0
}

// release ends the hold of a secret. A manager may do it five minutes after the
// last refusal, and each further refusal doubles that, so that a loop of
// refreshes cannot lock an account; release reports how long they must wait.
func (l *ledger) release(now Instant, c Credential, byManager bool) time.Duration {
	if c.nobody() {
		return 0
	}
	a, err := l.lock(now, c)
	if err != nil {
		return 0
	}
	defer l.mu.Unlock()
	defer l.done(a, now)
	s := a.secret(l.hash(c.Digest))
	if byManager && s.Tries > 0 {
		least := min(managerRelease<<min(s.Tries-1, 10), defaultProbe)
		if t := s.Refused.boot(now, l.bootID) + least; t > now.Boot {
			return min(t-now.Boot, least)
		}
	}
	s.Held, s.Next = false, Mark{}
	a.unsaved = true // the login that follows writes it
	return 0
}

// leave ends a login: the account is open for the next one.
func (l *ledger) leave(a *account, now Instant) {
	l.mu.Lock()
	a.busy = false
	waiters := a.waiters
	a.waiters = nil
	l.done(a, now)
	l.mu.Unlock()
	for _, k := range waiters {
		k.poke(pokeAccount)
	}
}

// write makes an account durable. Writes of one account follow one another, so
// that what lands last is the newest.
func (l *ledger) write(ctx context.Context, a *account, patience time.Duration) error {
	a.writing <- struct{}{}
	defer func() { <-a.writing }()
	l.mu.Lock()
	value, err := json.Marshal(a)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	err = l.save(ctx, patience, Change{BucketLedger, a.id, value})
	l.mu.Lock()
	a.unsaved = err != nil
	l.mu.Unlock()
	if err != nil {
		return errors.Join(errStore, err)
	}
	return nil
}

// errStore marks a failure of the store, as against one of the source.
var errStore = errors.New("write the state")

package agent

import "time"

// account is an origin and a principal there: what a vendor locks. Tries and
// holds belong to one of its secrets.
type account struct {
	id      string
	writing chan struct{} // serialises writes, so that the newest is the last

	Secrets []*triedSecret `json:"secrets,omitempty"` // oldest first
	Locked  Mark           `json:"locked,omitzero"`
	Wait    Mark           `json:"wait,omitzero"`
	Logins  []login        `json:"logins,omitempty"` // of the last window

	adopted time.Duration // when it was read
	users   int           // who work with it now
	unsaved bool          // the store knows less
	busy    bool          // a login is under way
	waiters []*keeper     // who wants the account next
}

type login struct {
	At    Mark `json:"at"`
	Asked bool `json:"asked,omitempty"`
	Need  int  `json:"need,omitempty"` // logins a minute that its token's schedule needs
}

type triedSecret struct {
	Hash    string `json:"hash"`
	Worked  bool   `json:"worked,omitempty"`
	Tries   int    `json:"tries,omitempty"` // refused in a row
	Open    int    `json:"open,omitempty"`  // sent, and the answer not booked yet
	Held    bool   `json:"held,omitempty"`
	Next    Mark   `json:"next,omitzero"`    // not before this: the second try, or the probe
	Refused Mark   `json:"refused,omitzero"` // the last refusal
	Cut     bool   `json:"cut,omitempty"`    // no refusal was seen: a crash cut off the answers
}

// adopt reads the marks of another boot once and for all: its holds last no longer than
// they were meant to, wherever the wall clock goes. It reports whether there were any.
func (s *triedSecret) adopt(now Instant, bootID string) bool {
	foreign := func(m Mark) bool { return m != (Mark{}) && m.BootID != bootID }
	if !foreign(s.Next) && !foreign(s.Refused) {
		return false
	}
	span := s.Next.Wall.Sub(s.Refused.Wall)
	if s.Refused == (Mark{}) || span <= 0 {
		span = mostSecondTry
	}
	if foreign(s.Next) {
		s.Next = now.mark(min(s.Next.boot(now, bootID), now.Boot+span), bootID)
	}
	if foreign(s.Refused) {
		s.Refused = now.mark(min(s.Refused.boot(now, bootID), now.Boot), bootID)
	}
	return true
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
			s.Next = now.mark(now.Boot+mostSecondTry, bootID)
		}
		return
	}
	s.Cut = s.Tries == 0 || s.Cut
	s.Tries += opened
	s.Refused = now.mark(now.Boot, bootID)
	if s.Tries >= 2 {
		s.Held, s.Next = true, now.mark(now.Boot+defaultProbe, bootID)
	}
}

func newAccount(id string) *account { return &account{id: id, writing: make(chan struct{}, 1)} }

// silent says that nobody may send anything for the account now.
func (a *account) silent(now Instant, bootID string) bool {
	return a.until(a.Locked, 24*time.Hour, now, bootID) > now.Boot || a.until(a.Wait, longestWait, now, bootID) > now.Boot
}

// until is when a hold of the whole account ends, which lasts no longer than most. One
// that another boot has entered is read off the wall clock each time, since that may be
// set yet, but for no longer than most after it was read first.
func (a *account) until(m Mark, most time.Duration, now Instant, bootID string) time.Duration {
	t := min(m.boot(now, bootID), now.Boot+most)
	if m != (Mark{}) && m.BootID != bootID {
		t = min(t, a.adopted+most)
	}
	return t
}

// clean says that nothing of the account binds the next login.
func (a *account) clean(now Instant, bootID string) bool {
	if a.silent(now, bootID) {
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

// judge decides from what is booked; it changes nothing but the window.
func (a *account) judge(now Instant, bootID string, s *triedSecret, p loginPlan) verdict {
	if v := a.holds(now, bootID, s); !v.ok {
		return v
	}
	if a.busy {
		return verdict{busy: true, until: forever, kind: Transient, why: "another login of this account is under way"}
	}
	return a.budget(now, bootID, p)
}

// holds is what earlier answers hold back.
func (a *account) holds(now Instant, bootID string, s *triedSecret) verdict {
	at := func(m Mark) time.Duration { return m.boot(now, bootID) }
	if t := a.until(a.Locked, 24*time.Hour, now, bootID); t > now.Boot {
		return verdict{until: t, kind: Locked, why: "the account is locked", hint: "it opens by itself; a login would only prolong it"}
	}
	if t := a.until(a.Wait, longestWait, now, bootID); t > now.Boot {
		return verdict{until: t, kind: Throttled, why: "the server asked to wait"}
	}
	if s.Held {
		if t := min(at(s.Next), now.Boot+24*time.Hour); t > now.Boot && s.Cut {
			return verdict{until: t, kind: Rejected, why: "the agent was killed twice before a login was answered; the secret is held, since it may have been refused",
				hint: "it is tried again by itself; after five minutes `renewd refresh` tries it at once"}
		} else if t > now.Boot {
			return verdict{until: t, kind: Rejected, why: "the secret was refused and is held", hint: "mend the secret; a changed one is tried at once"}
		}
	} else if t := min(at(s.Next), now.Boot+mostSecondTry); t > now.Boot {
		return verdict{until: t, kind: Rejected, why: "the secret was refused; it has worked before, so it gets one more try"}
	}
	return verdict{ok: true}
}

// budget bounds logins a minute; callers get a third of it.
func (a *account) budget(now Instant, bootID string, p loginPlan) verdict {
	need := p.perMin // of the token here that needs most
	kept := a.Logins[:0]
	var asked []time.Duration
	for _, lg := range a.Logins {
		if t := lg.At.boot(now, bootID); t > now.Boot-loginWindow && t <= now.Boot {
			kept, need = append(kept, lg), max(need, lg.Need)
			if lg.Asked {
				asked = append(asked, t)
			}
		}
	}
	a.Logins = kept
	most := max(loginsAMinute, 3*need)
	if len(kept) >= most {
		first := kept[len(kept)-most].At.boot(now, bootID)
		return verdict{until: first + loginWindow, kind: Throttled, why: "the login budget of this account is spent"}
	}
	if third := max(1, most/3); p.asked && len(asked) >= third {
		return verdict{until: asked[len(asked)-third] + loginWindow, kind: Throttled, asked: true, why: "the callers' share of this account's login budget is spent"}
	}
	return verdict{ok: true}
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
		if old := s.Refused.boot(now, bootID); !s.Held && s.Worked && now.Boot-old > probe {
			s.Tries = 0 // that was another time
		}
		s.Tries, s.Cut = s.Tries+1, false
		s.Refused = later(0)
		if s.Worked && s.Tries < tries {
			s.Next = later(min(p.lead/4, mostSecondTry))
			return
		}
		s.Held, s.Next = true, later(probe)
	case s.Held && (err.Kind == Transient || err.Kind == Throttled):
		s.Next = later(min(probe, mostSecondTry)) // the probe is still to be answered
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

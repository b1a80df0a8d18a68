package agent_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"renewd/agent"
	"renewd/agent/config"
	"renewd/agent/secret"
	sourcehttp "renewd/agent/source/http"
	"renewd/agent/source/spec"
	"renewd/agent/source/standin"
	"renewd/agent/source/wire"
)

// site is one vendor and an agent on it, in one bubble. Its store is slow, as
// disks are.
type site struct {
	t      *testing.T
	name   string
	vendor vendor
	start  time.Time
	store  *slowStore
	over   sourcehttp.Overrides
	values map[string]any
	margin time.Duration // readers leave so much of a token's life alone
	a      *agent.Agent
	stop   func()
}

type slowStore struct {
	agent.Store
	takes time.Duration
}

func (s *slowStore) Save(ctx context.Context, changes ...agent.Change) error {
	time.Sleep(s.takes)
	return s.Store.Save(ctx, changes...)
}

func (s *site) now() agent.Instant {
	n := time.Now()
	return agent.Instant{Wall: n.Round(0), Boot: n.Sub(s.start)}
}

func newSite(t *testing.T, name string, v vendor) *site {
	s := &site{t: t, name: name, vendor: v, start: time.Now().Add(-time.Hour - 370*time.Millisecond),
		store: &slowStore{agent.NewMemory(), 200 * time.Millisecond}, values: map[string]any{"url": "https://api.test"}}
	switch name {
	case "commander":
		s.values["url"] = "https://api.test/rest/v3"
		s.set("username", "svc", "password", secret.Plain("right"))
	case "cylance":
		s.set("tenant_id", "t", "app_id", "a", "app_secret", secret.Plain("right"))
	}
	return s
}

func (s *site) set(kv ...any) {
	for i := 0; i < len(kv); i += 2 {
		s.values[kv[i].(string)] = kv[i+1]
	}
}

func (s *site) source() agent.Source {
	s.t.Helper()
	data, _ := sourcehttp.Preset(s.name)
	preset, problems := config.DecodePreset(s.name, s.name, data)
	if problems.Fatal() {
		s.t.Fatal(problems)
	}
	program, ps := sourcehttp.Compile(s.name, preset.Spec)
	if program == nil {
		s.t.Fatal(ps)
	}
	in := map[string]spec.Value{}
	for k, v := range s.values {
		in[k] = spec.Value{V: v}
	}
	src, ps := program.Bind(in, &s.over, &sourcehttp.Env{Now: s.now, Secrets: secret.NewResolver(),
		Transports: wire.NewTransports(wire.Options{Clock: s.now, RoundTrip: standin.Transport(s.vendor)})})
	if src == nil {
		s.t.Fatal(ps)
	}
	return src
}

// run starts an agent, of as many tokens on the account.
func (s *site) run(tokens ...string) {
	s.t.Helper()
	a, err := agent.New(agent.Options{Store: s.store, Clock: s.now, BootID: "b", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
	}
	var specs []*agent.Spec
	for _, name := range tokens {
		specs = append(specs, &agent.Spec{Name: name, Source: s.source()})
	}
	if err := a.Apply(specs, nil); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = a.Run(ctx) }()
	s.a, s.stop = a, func() { cancel(); <-done }
}

func (s *site) token() agent.Token { t, _ := s.a.Token("x"); return t }

// call does what a reader does, ten times a second: take what is published, if
// it says that it is valid, and call. No such call may be refused; gaps says
// whether there may be times without a valid token.
func (s *site) call(d time.Duration, gaps bool) {
	s.t.Helper()
	calls, bad := 0, 0
	time.Sleep(1370 * time.Microsecond) // never in the very instant of a renewal: the agent wakes by ticks
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		p := s.token().Current()
		if p == nil || p.Remaining(s.now()) <= s.margin {
			if bad++; !gaps && bad <= 2 {
				s.t.Errorf("after %v: no valid token: %+v", time.Since(s.start)-time.Hour, s.token().Status())
			}
			continue
		}
		calls++
		if !s.vendor.Valid(p.Token.Reveal()) {
			if bad++; bad <= 2 {
				s.t.Errorf("after %v: generation %d is refused with %v left", time.Since(s.start)-time.Hour, p.Generation, p.Remaining(s.now()))
			}
		}
	}
	if calls == 0 {
		s.t.Error("no call was made: this proves nothing")
	}
}

// settle waits for the first token.
func (s *site) settle() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if !s.token().Settle(ctx) {
		s.t.Errorf("no token: %+v", s.token().Status())
	}
}

// flag is one worst reading of what a vendor does.
type flag struct {
	commander standin.CommanderOptions
	cylance   standin.CylanceOptions
	emnify    standin.EmnifyOptions
	with      func(s *site)
	then      func(s *site, span time.Duration) // nil: callers for some lives
}

// each runs a flag at each vendor that can have it.
func each(t *testing.T, names []string, f flag) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var v vendor
				span := 20 * time.Minute
				switch name {
				case "commander":
					o := f.commander
					o.Username, o.Password = "svc", "right"
					if o.LockAfter == 0 {
						o.LockAfter = 3
					}
					v = standin.NewCommander(o)
				case "cylance":
					o := f.cylance
					o.TenantID, o.AppID, o.AppSecret = "t", "a", "right"
					v, span = standin.NewCylance(o), 3*time.Hour
				case "emnify":
					o := f.emnify
					o.ApplicationToken = "right"
					v, span = standin.NewEmnify(o), 12*time.Hour
				}
				s := newSite(t, name, v)
				if name == "emnify" {
					s.set("application_token", secret.Plain("right"))
				}
				if f.with != nil {
					f.with(s)
				}
				// Not on a whole second; and a server that is behind is not in another
				// century, where a bubble begins.
				time.Sleep(time.Hour + 630*time.Millisecond)
				s.run("x")
				defer func() { s.stop() }()
				s.settle()
				if f.then != nil {
					f.then(s, span)
				} else {
					s.call(span, false)
				}
			})
		})
	}
}

var all = []string{"commander", "cylance", "emnify"}

// exp is floored to seconds and the server goes by it; an outage makes readers
// use a token to its end.
func TestFlagFlooredExp(t *testing.T) {
	each(t, all, flag{commander: standin.CommanderOptions{FlooredExp: true}, cylance: standin.CylanceOptions{FlooredExp: true},
		then: (*site).toTheEnd})
}

// toTheEnd has tokens used to their last moment, by outages.
func (s *site) toTheEnd(time.Duration) {
	for range 5 {
		s.vendor.Fail(standin.Status500, -1)
		held := s.token().Current()
		if held == nil {
			s.t.Fatalf("%s has no token", s.name)
		}
		s.call(time.Until(held.ExpiresAt)+time.Second, true)
		s.vendor.Fail(standin.None, 0)
		time.Sleep(40*time.Minute + 170*time.Millisecond)
		s.settle()
	}
}

// exp is the session's hard limit, not the access window.
func TestFlagExpIsTheHardLimit(t *testing.T) {
	each(t, []string{"commander"}, flag{commander: standin.CommanderOptions{ExpIsSession: true}})
}

// The server's clock is off, its lives are shorter than what is declared, and
// its tokens tell nothing but exp.
func TestFlagDate(t *testing.T) {
	for name, skew := range map[string]time.Duration{"ahead": 10 * time.Minute, "behind": -10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			each(t, all, flag{commander: standin.CommanderOptions{Access: 40 * time.Second, NoIat: true},
				cylance: standin.CylanceOptions{Access: 6 * time.Minute, NoIat: true}, emnify: standin.EmnifyOptions{Access: 8 * time.Minute, NoIat: true},
				with: func(s *site) {
					s.vendor.SetSkew(skew)
					s.margin = time.Second // a clock of whole seconds has a test of its own
				},
				then: func(s *site, span time.Duration) {
					s.call(span/3, false)
					s.toTheEnd(span)
				}})
		})
	}
}

// Every second login hands the last token out again, and nothing but its iat
// tells from when it is.
func TestFlagSameTokenTwice(t *testing.T) {
	each(t, all, flag{commander: standin.CommanderOptions{SameTwice: true, Session: 3 * time.Minute}, cylance: standin.CylanceOptions{SameTwice: true},
		emnify: standin.EmnifyOptions{SameTwice: true},
		with: func(s *site) {
			if c, ok := s.vendor.(interface{ HideDate(bool) }); ok {
				c.HideDate(true)
			}
			s.margin = time.Second // as in TestFlagDate
			if s.name == "commander" {
				s.over.Session = &sourcehttp.Session{MaxAge: "3m"}
			}
		},
		then: func(s *site, span time.Duration) {
			s.call(span, false)
			for range 3 { // a token that was handed out again is used to its end
				for n := s.vendor.Counts().Logins; s.vendor.Counts().Logins == n || s.vendor.Counts().Logins%2 == 1; {
					time.Sleep(100 * time.Millisecond)
				}
				s.vendor.Fail(standin.Status500, -1)
				time.Sleep(time.Second) // the store is slow
				s.call(time.Until(s.token().Current().ExpiresAt)+time.Second, true)
				s.vendor.Fail(standin.None, 0)
				time.Sleep(6 * time.Minute) // the longest backoff
				s.settle()
			}
		}})
}

// A refresh kills the token that was shown. Nobody can tell before the answer is
// here; from then on no reader gets the old one, though the disk is slow.
func TestFlagRefreshKills(t *testing.T) {
	each(t, []string{"commander"}, flag{commander: standin.CommanderOptions{RefreshKills: true},
		with: func(s *site) { s.over.Session = &sourcehttp.Session{Overlap: "none"} }})
}

// A refresh token is good once, and one that is shown twice ends the session.
func TestFlagRefreshTokensRotate(t *testing.T) {
	each(t, []string{"emnify"}, flag{emnify: standin.EmnifyOptions{Username: "u", Password: "right", Rotates: true, Punishes: true},
		with: func(s *site) {
			delete(s.values, "application_token")
			s.set("username", "u", "password", secret.Plain("right"))
		},
		then: func(s *site, span time.Duration) {
			for range 4 {
				s.call(span/4, false)
				s.stop()
				s.run("x")
			}
			if n := s.vendor.Counts(); n.Logins != 1 || n.Refreshes < 2 {
				s.t.Errorf("%+v, want one login and all else refreshes", n)
			}
		}})
}

// 401 from an ill server, for less than a quarter of the lead, at a renewal.
func TestFlag401DuringAnOutage(t *testing.T) {
	each(t, all, flag{then: func(s *site, span time.Duration) {
		for range 3 {
			answers := 1
			if s.name == "commander" {
				answers = 2 // to the refresh, and to the login that follows at once
			}
			s.vendor.Fail(standin.Outage401, answers)
			s.call(span, false)
			s.vendor.Fail(standin.None, 0)
		}
	}})
}

// Three refusals lock. A secret goes wrong, two tokens use it, and callers want
// it renewed all the time, through restarts.
func TestFlagLockoutAtThree(t *testing.T) {
	each(t, []string{"commander", "emnify"}, flag{then: func(s *site, _ time.Duration) {
		before := s.vendor.Counts().Tries
		if c, ok := s.vendor.(*standin.Commander); ok {
			c.SetPassword("another") // ours has worked, and works no more
			c.Revoke()
		} else {
			s.set("application_token", secret.Plain("wrong"))
		}
		s.stop()
		s.run("x", "y")
		for i := range 1800 { // until the first probe, which 35 min without a try allow
			if i%600 == 599 {
				s.stop()
				s.run("x", "y")
			}
			for _, name := range []string{"x", "y"} {
				tok, _ := s.a.Token(name)
				_ = tok.Refresh(context.Background(), agent.Caller{ID: "uid 1"})
			}
			time.Sleep(time.Second)
		}
		if n := s.vendor.Counts().Tries - before; n < 1 || n > 2 {
			s.t.Errorf("%d tries with a wrong secret", n)
		}
	}})
}

// Tokens are no JWTs: only what is declared says how long they live.
func TestFlagOpaque(t *testing.T) {
	each(t, all, flag{commander: standin.CommanderOptions{Opaque: true}, cylance: standin.CylanceOptions{Opaque: true}, emnify: standin.EmnifyOptions{Opaque: true}})
}

// A 200 that holds an mfa_token is no token: a person is needed, and the account
// is left alone.
func TestFlagMFAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := standin.NewEmnify(standin.EmnifyOptions{Username: "u", Password: "right", Fingerprint: "trusted"})
		s := newSite(t, "emnify", api)
		s.set("username", "u", "password", secret.Plain("right"))
		s.run("x")
		defer func() { s.stop() }()
		time.Sleep(6 * time.Hour)
		st := s.token().Status()
		if st.State != agent.StateNeedsHuman || s.token().Current() != nil || len(st.Problems) == 0 || st.Problems[0].Hint == "" {
			t.Errorf("%+v", st)
		}
		if n := api.Counts(); n.Tries != 1 {
			t.Errorf("%d tries", n.Tries)
		}
	})
}

// An account that somebody else has locked is waited for, and is no wrong
// secret.
func TestFlagLockedBySomebodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := standin.NewEmnify(standin.EmnifyOptions{ApplicationToken: "right"})
		other := standin.Transport(api)
		for range 3 {
			req, _ := http.NewRequest(http.MethodPost, "https://api.test/api/v1/authenticate", http.NoBody)
			resp, err := other.RoundTrip(req)
			if err != nil || resp.StatusCode != http.StatusUnauthorized {
				t.Fatal(resp, err)
			}
			_ = resp.Body.Close()
		}
		s := newSite(t, "emnify", api)
		s.set("application_token", secret.Plain("right"))
		s.run("x")
		defer func() { s.stop() }()
		time.Sleep(4 * time.Minute)
		if st := s.token().Status(); st.State != agent.StateLocked {
			t.Errorf("%+v", st)
		}
		time.Sleep(2 * time.Minute)
		s.call(time.Minute, false)
		if n := api.Counts(); n.Tries != 5 {
			t.Errorf("%d tries, want three of somebody else, one refused, one that works", n.Tries)
		}
	})
}

// With clocks that run twenty times as fast, what is lost to whole seconds is half of
// a token's life: readers who never look at the expiry still hold a valid one at any
// moment, the last ones of a session too.
func TestClocksOfSeconds(t *testing.T) {
	each(t, []string{"commander"}, flag{commander: standin.CommanderOptions{SpeedUp: 20, FlooredExp: true},
		with: func(s *site) {
			s.store.takes = 10 * time.Millisecond
			s.over = sourcehttp.Overrides{Lifetime: &spec.Lifetime{Max: "3s"}, Session: &spec.Session{MaxAge: "45s"}}
		},
		then: func(s *site, _ time.Duration) {
			time.Sleep(1370 * time.Microsecond)
			bad := 0
			for end := time.Now().Add(6 * time.Hour); time.Now().Before(end) && bad < 5; time.Sleep(25 * time.Millisecond) {
				if p := s.token().Current(); p == nil || !s.vendor.Valid(p.Token.Reveal()) {
					bad++
					s.t.Errorf("after %v: %+v is refused", time.Since(s.start)-time.Hour, p)
				}
			}
		}})
}

package http

import (
	"context"
	"errors"
	"fmt"
	"time"

	"renewd/agent"
	"renewd/agent/source/life"
	"renewd/agent/source/signer"
	"renewd/agent/source/wire"
)

// skewFelt is the least difference of clocks that is more than the error of
// measuring it.
const skewFelt = 2 * time.Second

// Traits implements agent.Source.
func (s *Source) Traits() *agent.Traits { return &s.traits }

// Prepare implements agent.Source.
func (s *Source) Prepare(ctx context.Context, kind agent.Step, session agent.Session) (*agent.Attempt, error) {
	st, err := s.step(kind, &session)
	if err != nil {
		return nil, err
	}
	sc := (&scope{ctx: ctx, src: s, session: session, secrets: map[any]agent.Secret{}}).again()
	sc.now = s.set.clock().Wall
	if st.made != nil {
		return s.make(st.made, sc)
	}
	if st.valid != nil && !session.Valid && !session.Token.IsZero() {
		if v, err := st.valid.eval(sc); err != nil || v != false {
			return nil, agent.ErrPassedOver
		}
	}
	req, err := s.build(st, sc)
	if err != nil {
		return nil, err
	}
	if kind != agent.StepLogin && (sc.noRefresh || sc.noToken) {
		return nil, agent.ErrPassedOver
	}
	a := &agent.Attempt{Spends: kind == agent.StepRefresh && s.set.rotates && sc.usesSpends}
	asked := req.URL
	if st.challenge != nil {
		sc.timed = true // it is made again once the server was asked
		if u, err := st.challenge.request.buildURL(sc); err == nil {
			asked = u
		}
	}
	a.Credential = agent.Credential{Origin: s.set.client.Host(asked).Origin, Principal: s.principal(sc), Digest: [32]byte(sc.digest.Sum(nil))}
	a.Send = func(ctx context.Context) (*agent.Grant, error) {
		if sc.timed || sc.signed {
			req = nil // it holds something of the moment, and may have waited for its turn
		}
		g, err := s.send(ctx, st, sc, req)
		return g, spent(err, a.Spends)
	}
	return a, nil
}

// step picks the alternative for what is asked.
func (s *Source) step(kind agent.Step, session *agent.Session) (*step, error) {
	p := s.set.prog
	switch {
	case kind == agent.StepLogin && s.login >= 0:
		return &p.login[s.login], nil
	case kind == agent.StepRefresh && s.refresh >= 0:
		return &p.refresh[s.refresh], nil
	case kind == agent.StepRefresh && s.extend >= 0 && !session.Token.IsZero():
		return &p.extend[s.extend], nil
	case kind == agent.StepLogout && s.logout >= 0:
		return &p.logout[s.logout], nil
	case kind == agent.StepLogin:
		return nil, &agent.Error{Kind: agent.NeedsHuman, Step: kind, Unsent: true,
			Detail: "no login can be done with what is given", Hint: "give a new refresh_token, or the inputs of a login"}
	}
	return nil, agent.ErrPassedOver
}

// build makes the request of one try. What goes wrong in it was never sent.
func (s *Source) build(st *step, sc *scope) (*wire.Request, error) {
	if st.kind == agent.StepLogin {
		sc.session = agent.Session{} // a login knows nothing of an older session
	}
	req, err := st.request.build(sc)
	if err != nil && (sc.noRefresh || sc.noToken || errors.Is(err, errURLUnset)) && st.kind != agent.StepLogin {
		return nil, agent.ErrPassedOver
	}
	if err == nil {
		req.Clock = s.set.clock
		err = s.set.client.CheckURL(req.URL)
	}
	if err == nil && st.request.bearer && sc.session.Token.IsZero() {
		sc.noToken = true
	}
	if err != nil {
		kind := agent.Misconfigured
		if sc.ctx.Err() != nil {
			kind = agent.Transient
		}
		return nil, &agent.Error{Kind: kind, Step: st.kind, Detail: err.Error(), Unsent: true, Err: err}
	}
	return req, nil
}

// send performs the step with req, made in sc, or with a new request where that
// is nil.
func (s *Source) send(ctx context.Context, st *step, sc *scope, req *wire.Request) (*agent.Grant, error) {
	var last *wire.Answer
	for try := 0; ; try++ {
		if req == nil {
			sc = sc.again()
			sc.ctx = ctx
			sc.now = s.nowFor(st, sc, last)
			if st.challenge != nil && sc.challenge == nil {
				if err := s.ask(ctx, st, sc); err != nil {
					return nil, err
				}
			}
			var err error
			if req, err = s.build(st, sc); err != nil {
				return nil, err
			}
		}
		a, err := s.set.client.Do(ctx, req)
		if err != nil {
			return nil, at(err, st.kind)
		}
		f, bad := st.judge(&answer{Answer: a, url: req.URL}, sc, s.set.prog.rules)
		a.Release()
		switch {
		case bad == nil:
			return s.grant(st, f, a, sc)
		case bad.Kind != agent.ClockOff:
			return nil, bad
		case !sc.signed || !a.HasSkew || try > 0:
			return nil, s.clockError(st, a, sc)
		}
		last, req = a, nil
	}
}

// nowFor is the time to sign with: by the answer that refused us, else by what
// the host last showed.
func (s *Source) nowFor(st *step, sc *scope, last *wire.Answer) time.Time {
	now := s.set.clock().Wall
	if last != nil {
		return now.Add(last.Skew)
	}
	probe := &scope{ctx: sc.ctx, src: s, static: true, session: sc.session, vars: map[int]any{}}
	if u, err := st.request.buildURL(probe); err == nil {
		if skew, ok := s.set.client.Host(u).Skew(); ok && skew.Abs() >= skewFelt {
			return now.Add(skew)
		}
	}
	return now
}

func (s *Source) clockError(st *step, a *wire.Answer, sc *scope) error {
	e := st.error(agent.Misconfigured, 0, "server answered %d, and its clock cannot be told", a.Status)
	if a.HasSkew {
		e.Detail = fmt.Sprintf("server answered %d; its clock is %s ours", a.Status, apart(a.Skew))
		if sc.signed {
			e.Detail += ", and what was signed by its clock was refused too"
		}
	}
	e.Hint = "set this machine's clock (NTP); then look at the key"
	return e
}

func apart(skew time.Duration) string {
	if skew < 0 {
		return skew.Abs().Round(time.Second).String() + " behind"
	}
	return skew.Round(time.Second).String() + " ahead of"
}

// at puts the step into an error of package wire.
func at(err error, kind agent.Step) error {
	e, ok := errors.AsType[*agent.Error](err)
	if !ok {
		return err
	}
	e.Step = kind
	return e
}

// spent makes ambiguous what spent something and got no whole answer. An error
// that judges an answer has no cause.
func spent(err error, spends bool) error {
	e, ok := errors.AsType[*agent.Error](err)
	if !ok || !spends || e.Unsent || e.Err == nil {
		return err
	}
	c := *e
	c.Kind = agent.Ambiguous
	return &c
}

// grant makes of an answer what the agent wants to know.
func (s *Source) grant(st *step, f *found, a *wire.Answer, sc *scope) (*agent.Grant, error) {
	g := &agent.Grant{Sent: a.Sent, Token: agent.NewSecret(f.token), Type: f.typ, Extra: f.extra,
		RefreshToken: agent.NewSecret(f.refresh), Seed: sc.seed, Skew: a.Skew, HasSkew: a.HasSkew}
	if a.FarDate {
		g.Note = "the Date of the server's answer is more than a day off and was not believed"
	}
	if st.kind == agent.StepLogout {
		return g, nil
	}
	if f.token == "" && st.name == "extend" {
		f.token = sc.session.Token.Reveal() // its own exp still bounds it
	}
	facts := life.Facts{Sent: a.Sent.Wall, Date: a.ServerNow, ExpiresIn: f.span("expires_in"), ExpiresAt: f.at["expires_at"],
		Max: s.set.max, Default: s.set.deflt}
	if s.set.jwt {
		t := signer.Peek(f.token)
		facts.Exp, facts.Iat = t.Exp, t.Iat
	}
	v := life.Compute(facts)
	g.Life, g.IatLife = v.Life, v.Unanchored
	if !v.Known {
		e := st.error(agent.Misconfigured, 0, "nothing says how long the token lives")
		e.Hint = "lifetime: {default: …}, or extract expires_in"
		return nil, e
	}
	if v.Life <= 0 {
		e := st.error(agent.Misconfigured, 0, "the token had expired when it came")
		e.Hint = "compare the clocks; if 0 means for ever here, leave that extract out and set lifetime.default"
		return nil, e
	}
	s.ends(g, f, facts)
	return g, nil
}

// ends reads the other clocks of a session.
func (s *Source) ends(g *agent.Grant, f *found, facts life.Facts) {
	var refreshExp time.Time
	if s.set.jwt && f.refresh != "" {
		refreshExp = signer.Peek(f.refresh).Exp
	}
	facts.Iat = time.Time{} // the access token's
	if d, ok := life.Span(facts, f.span("refresh_expires_in"), f.at["refresh_expires_at"]); ok {
		g.RefreshLife = d
	}
	if d, ok := life.Span(facts, nil, refreshExp); ok && (g.RefreshLife == 0 || d < g.RefreshLife) {
		g.RefreshLife = d
	}
	if d, ok := life.Span(facts, f.span("session_expires_in"), f.at["session_expires_at"]); ok {
		g.SessionLife = d
	}
}

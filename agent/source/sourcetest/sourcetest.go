// Package sourcetest is the suite that every source passes: what the agent
// counts on, whatever a source is made of.
package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"renewd/agent"
)

// Harness is one source to test, and what is around it.
type Harness struct {
	Source agent.Source
	Clock  agent.Clock

	// Secrets are what must never be seen: passwords, keys, and what the server
	// behind the source says when it refuses.
	Secrets []string
	// Sent counts what reached the other side, nil where there is none.
	Sent func() int
	// Refuse makes the next login be refused, nil where that cannot be done.
	Refuse func()
}

// Run tests the source that make makes; it is made anew for each test.
func Run(t *testing.T, make func(t *testing.T) *Harness) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, h *Harness)
	}{
		{"traits", traits},
		{"login brings a token with a life", login},
		{"prepare sends nothing", prepareSendsNothing},
		{"each login is whole", twice},
		{"refresh of no session is passed over", noSession},
		{"refresh brings a token or moves a clock", refresh},
		{"logout", logout},
		{"a given up context ends a step", givenUp},
		{"a refusal is an error of the agent's", refused},
		{"no secret is ever formatted", silent},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, make(t)) })
	}
}

func traits(t *testing.T, h *Harness) {
	a := *h.Source.Traits()
	if a.Type == "" || a.Fingerprint == "" {
		t.Errorf("type %q and fingerprint %q must be said", a.Type, a.Fingerprint)
	}
	do(t, h, agent.StepLogin, agent.Session{})
	b := *h.Source.Traits()
	a.Presentation, b.Presentation = nil, nil
	if fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("traits changed from %v to %v", a, b)
	}
	for _, s := range h.Secrets {
		if strings.Contains(a.Fingerprint, s) {
			t.Error("the fingerprint holds a secret")
		}
	}
}

func do(t *testing.T, h *Harness, step agent.Step, s agent.Session) *agent.Grant {
	t.Helper()
	at, err := h.Source.Prepare(t.Context(), step, s)
	if err != nil {
		t.Fatalf("prepare %s: %v", step, err)
	}
	g, err := at.Send(t.Context())
	if err != nil {
		t.Fatalf("send %s: %v", step, err)
	}
	return g
}

// session is what a grant leads to.
func session(g *agent.Grant) agent.Session {
	return agent.Session{Token: g.Token, RefreshToken: g.RefreshToken, Extra: g.Extra, Valid: true, Seed: g.Seed}
}

func login(t *testing.T, h *Harness) {
	before := h.Clock()
	g := do(t, h, agent.StepLogin, agent.Session{})
	after := h.Clock()
	if g.Sent.Wall.Before(before.Wall) || g.Sent.Wall.After(after.Wall) || g.Sent.Boot < before.Boot || g.Sent.Boot > after.Boot {
		t.Errorf("sent %v is not between %v and %v: is it read from the clock that was given?", g.Sent, before, after)
	}
	if g.Life <= 0 || g.Life > 101*365*24*time.Hour {
		t.Errorf("the life is %v", g.Life)
	}
	token := g.Token.Reveal()
	if token == "" || len(token) > 64<<10 || strings.ContainsFunc(token, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
		t.Error("the token is not one that may be published")
	}
}

func prepareSendsNothing(t *testing.T, h *Harness) {
	if h.Sent == nil {
		t.Skip("nothing to send to")
	}
	before := h.Sent()
	at, err := h.Source.Prepare(t.Context(), agent.StepLogin, agent.Session{})
	if err != nil {
		t.Fatal(err)
	}
	if h.Sent() != before {
		t.Error("Prepare sent something: the ledger could not have been asked")
	}
	if at.Credential.Origin == "" {
		t.Error("a login has no origin for the ledger")
	}
	if _, err := at.Send(t.Context()); err != nil || h.Sent() == before {
		t.Errorf("Send sent nothing: %v", err)
	}
}

func twice(t *testing.T, h *Harness) {
	first, second := do(t, h, agent.StepLogin, agent.Session{}), do(t, h, agent.StepLogin, agent.Session{})
	if first.Token.IsZero() || second.Token.IsZero() {
		t.Error("a login brought no token")
	}
	a, err := h.Source.Prepare(t.Context(), agent.StepLogin, agent.Session{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.Source.Prepare(t.Context(), agent.StepLogin, session(second))
	if err != nil {
		t.Fatal(err)
	}
	if a.Credential != b.Credential {
		t.Error("the credential of a login depends on the session: the ledger would lose count")
	}
}

func noSession(t *testing.T, h *Harness) {
	for _, step := range []agent.Step{agent.StepRefresh, agent.StepLogout} {
		if step == agent.StepRefresh && h.Source.Traits().SelfStart {
			continue
		}
		if step == agent.StepLogout && h.Source.Traits().CanLogout {
			continue
		}
		if _, err := h.Source.Prepare(t.Context(), step, agent.Session{}); !errors.Is(err, agent.ErrPassedOver) {
			t.Errorf("prepare %s of nothing: %v; want ErrPassedOver", step, err)
		}
	}
}

func refresh(t *testing.T, h *Harness) {
	if !h.Source.Traits().CanRefresh {
		t.Skip("logs in each time")
	}
	g := do(t, h, agent.StepLogin, agent.Session{})
	for range 3 {
		s := session(g)
		next := do(t, h, agent.StepRefresh, s)
		if next.Life <= 0 {
			t.Fatalf("the life is %v", next.Life)
		}
		if next.Token.IsZero() {
			next.Token = g.Token
		}
		if next.RefreshToken.IsZero() {
			next.RefreshToken = g.RefreshToken
		}
		if len(next.Extra) == 0 {
			next.Extra = g.Extra
		}
		g = next
	}
}

func logout(t *testing.T, h *Harness) {
	if !h.Source.Traits().CanLogout {
		t.Skip("has none")
	}
	do(t, h, agent.StepLogout, session(do(t, h, agent.StepLogin, agent.Session{})))
}

func givenUp(t *testing.T, h *Harness) {
	if h.Sent == nil {
		t.Skip("nothing to wait for")
	}
	at, err := h.Source.Prepare(t.Context(), agent.StepLogin, agent.Session{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = at.Send(ctx)
	wantError(t, h, err, agent.StepLogin)
}

func refused(t *testing.T, h *Harness) {
	if h.Refuse == nil {
		t.Skip("cannot be refused")
	}
	h.Refuse()
	at, err := h.Source.Prepare(t.Context(), agent.StepLogin, agent.Session{})
	if err == nil {
		_, err = at.Send(t.Context())
	}
	wantError(t, h, err, agent.StepLogin)
}

func wantError(t *testing.T, h *Harness, err error, step agent.Step) {
	t.Helper()
	e, ok := errors.AsType[*agent.Error](err)
	if !ok {
		t.Fatalf("got %v; want an *agent.Error", err)
	}
	if !slices.Contains(agent.Kinds(), e.Kind) || e.Step != step || e.Detail == "" {
		t.Errorf("kind %q, step %q, detail %q", e.Kind, e.Step, e.Detail)
	}
	for _, s := range h.Secrets {
		if text := e.Error() + e.Hint + fmt.Sprintf("%v %+v %#v", err, err, e.Detail); strings.Contains(text, s) {
			t.Errorf("the error holds what must not be seen: %s", text)
		}
	}
}

func silent(t *testing.T, h *Harness) {
	g := do(t, h, agent.StepLogin, agent.Session{})
	at, err := h.Source.Prepare(t.Context(), agent.StepLogin, session(g))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{h.Source, h.Source.Traits(), at, at.Credential, g} {
		for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
			text := fmt.Sprintf(f, v)
			for _, s := range append(h.Secrets, g.Token.Reveal()) {
				if strings.Contains(text, s) {
					t.Errorf("%s of %T holds a secret", f, v)
				}
			}
		}
	}
}

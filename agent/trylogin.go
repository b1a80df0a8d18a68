package agent

import (
	"context"
	"time"
)

// TryLogin does one real login of a source that no keeper runs, through the
// ledger, and ends its session again where that can be done. Nothing is
// published or kept.
func (a *Agent) TryLogin(ctx context.Context, src Source) (*Grant, error) {
	now := a.now()
	at, err := src.Prepare(ctx, StepLogin, Session{})
	if err != nil {
		return nil, err
	}
	t := src.Traits()
	if at := a.limits.once(t, now.Boot); at != 0 {
		return nil, &Error{Kind: Throttled, Step: StepLogin, Detail: "the limit of requests to " + t.Hosts[0] + " is reached",
			Hint: "it opens in " + (at - now.Boot).Round(time.Second).String(), Wait: at - now.Boot, Unsent: true}
	}
	if err := a.limits.keep(ctx, now, t, longestPatience); err != nil {
		return nil, err
	}
	plan := loginPlan{k: &keeper{a: a, slot: -1}, policy: t.Rejected, lead: unknownLead, patience: longestPatience}
	v, err := a.ledger.begin(ctx, now, at.Credential, plan)
	if err != nil {
		return nil, err
	}
	if !v.ok {
		wait := v.until - now.Boot
		return nil, &Error{Kind: v.kind, Step: StepLogin, Detail: v.why, Hint: v.hint, Wait: wait, Unsent: true}
	}
	sendCtx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	g, err := at.Send(sendCtx)
	var failed *Error
	if err != nil {
		failed = asError(StepLogin, err)
	} else if g.Token.IsZero() {
		failed = &Error{Kind: Misconfigured, Step: StepLogin, Detail: "the answer held no token"}
	} else if why := errToken(g.Token.Reveal()); why != "" {
		failed = &Error{Kind: Misconfigured, Step: StepLogin, Detail: why}
	}
	if _, berr := a.ledger.book(ctx, a.now(), at.Credential, plan, failed); berr != nil && failed == nil {
		return g, berr
	}
	if failed != nil {
		return nil, failed
	}
	if t.CanLogout {
		_ = logout(ctx, src, Session{Token: g.Token, RefreshToken: g.RefreshToken, Extra: g.Extra, Private: g.Private, Valid: true})
	}
	return g, nil
}

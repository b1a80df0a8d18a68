package oauth2

import (
	"context"
	"net/url"
	"strings"
	"time"

	"renewd/agent"
)

// SignIn implements agent.PersonSource.
func (p person) SignIn(ctx context.Context, show func(agent.Prompt)) (*agent.Grant, error) {
	return p.signIn(ctx, show)
}

// SignIn implements agent.PersonSource.
func (p personProver) SignIn(ctx context.Context, show func(agent.Prompt)) (*agent.Grant, error) {
	return p.signIn(ctx, show)
}

func (s *Source) signIn(ctx context.Context, show func(agent.Prompt)) (*agent.Grant, error) {
	x := &exchange{src: s, step: agent.StepLogin}
	if err := x.load(ctx); err != nil {
		return nil, err
	}
	if s.spec.Grant == DeviceCode {
		return x.device(ctx, show)
	}
	return x.browser(ctx, show)
}

// late is the error of a person who did not come in time.
func (x *exchange) late(detail string) *agent.Error {
	return &agent.Error{Kind: agent.NeedsHuman, Step: x.step, Detail: detail, Hint: x.src.loginHint()}
}

// How a device code is polled for (RFC 8628 §3.5).
const (
	pollDefault = 5 * time.Second
	pollLeast   = time.Second
	pollMost    = time.Minute
	pollSlower  = 5 * time.Second
	codeDefault = 10 * time.Minute // where the server does not say how long a code lives
	codeMost    = 24 * time.Hour
)

const codeExpired = "the code expired before it was confirmed"

// device shows a code and polls until the person has typed it somewhere.
func (x *exchange) device(ctx context.Context, show func(agent.Prompt)) (*agent.Grant, error) {
	a, r, err := x.post(ctx, endDevice, func(*place, time.Time) (url.Values, error) {
		form := url.Values{}
		scope(form, x.src.spec.Scopes)
		x.src.target(form)
		return form, nil
	})
	if err != nil {
		return nil, err
	}
	code, prompt, err := x.deviceCode(r)
	if err != nil {
		return nil, err
	}
	life, every := codeDefault, pollDefault
	if d, _ := r.span("expires_in", "s"); d != nil && *d > 0 {
		life = min(*d, codeMost)
	}
	if d, _ := r.span("interval", "s"); d != nil {
		every = max(pollLeast, min(*d, pollMost))
	}
	prompt.Expires = a.Sent.Wall.Add(life)
	show(prompt)
	return x.poll(ctx, code, every, a.Sent.Boot+life)
}

// deviceCode reads what the person is to be shown. It is the one text of a
// server that anyone sees, so it must be what it claims to be and nothing that
// a terminal would obey.
func (x *exchange) deviceCode(r *reply) (code string, p agent.Prompt, err error) {
	misses := func(what string) (string, agent.Prompt, error) {
		return "", p, &agent.Error{Kind: agent.Misconfigured, Step: x.step, Detail: "the server's answer has no usable " + what, Hint: "look at device_authorization_url"}
	}
	either := func(names ...string) string {
		for _, n := range names {
			if s, ok := r.text(n); ok {
				return s
			}
		}
		return ""
	}
	code = either("device_code")
	p.Code = either("user_code")
	p.URL = either("verification_uri", "verification_url") // the latter is Google's
	p.Complete = either("verification_uri_complete", "verification_url_complete")
	switch {
	case code == "":
		return misses("device_code")
	case p.Code == "" || len(p.Code) > 64 || strings.ContainsFunc(p.Code, func(r rune) bool { return r < ' ' || r > '~' }):
		return misses("user_code")
	case !x.shownURL(p.URL):
		return misses("verification_uri")
	case !x.shownURL(p.Complete):
		p.Complete = ""
	}
	return code, p, nil
}

// shownURL says whether a person may be sent to a URL.
func (x *exchange) shownURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && text != "" && len(text) <= 2048 && legal(text) && u.User == nil && x.src.client.CheckURL(u) == nil
}

// poll asks whether the person is done, until the code ends.
func (x *exchange) poll(ctx context.Context, code string, every time.Duration, end time.Duration) (*agent.Grant, error) {
	form := func(*place, time.Time) (url.Values, error) {
		return url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {code}}, nil
	}
	for wait := every; ; {
		if left := end - x.src.clock().Boot; left <= wait {
			if !sleep(ctx, left) {
				return nil, x.late("nobody confirmed the code in time")
			}
			return nil, x.late(codeExpired)
		}
		if !sleep(ctx, wait) {
			return nil, x.late("nobody confirmed the code in time")
		}
		a, r, err := x.post(ctx, endToken, form)
		if err == nil {
			return x.grant(a, r)
		}
		e := at(err, x.step)
		switch {
		case ctx.Err() != nil:
			return nil, x.late("nobody confirmed the code in time")
		case r != nil && r.code == "authorization_pending":
			wait = every
		case r != nil && r.code == "slow_down":
			every += pollSlower
			wait = every
		case e.Kind == agent.Transient || e.Kind == agent.Throttled:
			wait = min(max(2*wait, e.Wait), pollMost)
		default:
			return nil, e
		}
	}
}

// sleep waits, false where ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

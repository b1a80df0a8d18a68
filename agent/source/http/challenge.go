package http

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"

	"renewd/agent"
	"renewd/agent/source/spec"
)

// challenge is what a server is asked for before a login: where tokens are to be
// had, and for which service (RFC 6750 §3, as registries use it).
type challenge struct {
	request *request
	hosts   evaler // that may be named beside the one that is asked
}

func (c *compiler) challenge(path string, ch *Challenge) *challenge {
	if ch == nil {
		return nil
	}
	before := c.only
	defer func() { c.only = before }()
	c.only = func(n *node) string {
		if n.kind != nodeInput && n.kind != nodeCall || n.kind == nodeInput && c.spec.Inputs[n.text].IsSecret() {
			return "a challenge is asked for without credentials: it names inputs that are no secrets"
		}
		return ""
	}
	out := &challenge{request: &request{method: "GET"}, hosts: c.tree(spec.Key(path, "hosts"), ch.Hosts.V)}
	c.requestURL(path, &Request{URL: ch.URL}, out.request)
	return out
}

// ask sends for a challenge and puts what it says into sc. No credential is sent,
// so nothing that goes wrong is a try.
func (s *Source) ask(ctx context.Context, st *step, sc *scope) error {
	failed := func(e *agent.Error) error { e.Step, e.Unsent = st.kind, true; return e }
	req, err := st.challenge.request.build(sc)
	if err != nil {
		return failed(&agent.Error{Kind: agent.Misconfigured, Detail: err.Error(), Err: err})
	}
	req.Clock = s.set.clock
	a, err := s.set.client.Do(ctx, req)
	if e, ok := errors.AsType[*agent.Error](err); ok {
		return failed(e)
	}
	said := bearerChallenge(a.Header.Values("WWW-Authenticate"))
	switch {
	case a.Status/100 == 5 || a.Status == 429 || a.Status == 408:
		return failed(st.unmatched(&answer{Answer: a}, sc))
	case a.Status != 401 || said["realm"] == "":
		e := st.error(agent.Misconfigured, 0, "asked for its challenge, the server answered %d and named no realm of Bearer tokens", a.Status)
		e.Hint = "look at the URL; a server that wants Basic or nothing needs no token"
		return failed(e)
	}
	realm, err := url.Parse(said["realm"])
	if err == nil {
		err = s.set.client.CheckURL(realm)
	}
	if err != nil || realm.User != nil || !slices.Contains(s.mayNameHosts(st, sc, req.URL), strings.ToLower(realm.Host)) {
		e := st.error(agent.Misconfigured, 0, "the server's challenge names another host as the one to be given the credentials")
		if err == nil && headerName(strings.ReplaceAll(realm.Host, ":", "")) {
			e.Hint = "if " + realm.Host + " is theirs, name it among the hosts that may be given the password"
		}
		return failed(e)
	}
	sc.challenge = said
	return nil
}

// mayNameHosts are the hosts that credentials may go to.
func (s *Source) mayNameHosts(st *step, sc *scope, asked *url.URL) []string {
	out := []string{strings.ToLower(asked.Host)}
	v, err := st.challenge.hosts.eval(sc)
	if err != nil || isUnset(v) {
		return out
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, e := range list {
		if text, err := toText(e); err == nil && text != "" {
			out = append(out, strings.ToLower(text))
		}
	}
	return out
}

// fromChallenge is the value of ${challenge.X}; until the server was asked, a
// placeholder, and the request is made again then.
func (sc *scope) fromChallenge(name string) any {
	if sc.challenge == nil {
		sc.timed = true
		if name == "realm" {
			return "https://challenge.invalid"
		}
		return placeholder
	}
	if v := sc.challenge[name]; v != "" {
		return v
	}
	return unset{}
}

// bearerChallenge gives the parameters of the first Bearer challenge
// (RFC 9110 §11.6.1), their names in lower case; nil where there is none.
func bearerChallenge(lines []string) map[string]string {
	for _, rest := range lines {
		var found map[string]string
		for {
			name, after := cutToken(strings.TrimLeft(rest, " \t,"))
			if name == "" {
				break
			}
			if value, isParam := strings.CutPrefix(strings.TrimLeft(after, " \t"), "="); isParam {
				value, rest = cutValue(strings.TrimLeft(value, " \t"))
				if found != nil {
					found[strings.ToLower(name)] = value
				}
				continue
			}
			if len(found) > 0 {
				return found // another scheme begins
			}
			found, rest = nil, after
			if strings.EqualFold(name, "Bearer") {
				found = map[string]string{}
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

func cutToken(s string) (token, rest string) {
	i := 0
	for i < len(s) && headerName(s[i:i+1]) {
		i++
	}
	return s[:i], s[i:]
}

// cutValue takes a token or a quoted string off the front.
func cutValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		i := strings.IndexAny(s, " \t,")
		if i < 0 {
			i = len(s)
		}
		return s[:i], s[i:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return "", ""
}

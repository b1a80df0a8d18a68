package oauth2_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/source/oauth2"
)

const pushURL = "https://id.example.com/par"

func pushing(answers map[string]answer) (*oauth2.Spec, *server) {
	s := browserSpec()
	s.TokenURL, s.AuthorizationURL, s.Issuer = "", "", issuerURL
	answers[oidcPlace] = document(issuerURL, `,"authorization_endpoint":"https://id.example.com/auth?x=1","pushed_authorization_request_endpoint":"`+pushURL+`"`)
	return s, site(answers)
}

// Where the server takes the request beforehand, the browser carries its name
// alone.
func TestPushedRequest(t *testing.T) {
	const urn = "urn:ietf:params:oauth:request_uri:abc"
	s, srv := pushing(map[string]answer{pushURL: {201, nil, `{"request_uri":"` + urn + `","expires_in":60}`}})
	s.ClientSecret, s.DPoP = plain("cs-"+hidden), true
	var shown url.Values
	_, err := signIn(t, source(t, s, srv), 5*time.Minute, func(p agent.Prompt) {
		u, _ := url.Parse(p.URL)
		if shown = u.Query(); time.Until(p.Expires) > time.Minute {
			t.Errorf("it is said to hold until %v", p.Expires)
		}
		f := pushed(srv).form
		go visit(t, f.Get("redirect_uri")+"?"+url.Values{"state": {f.Get("state")}, "code": {"c1"}}.Encode())
	})
	wantKind(t, err, agent.Misconfigured, "not bound to our key") // this token endpoint knows no DPoP
	if len(shown) != 3 || shown.Get("x") != "1" || shown.Get("client_id") != "web" || shown.Get("request_uri") != urn {
		t.Errorf("the browser was sent with %v", shown)
	}
	q := pushed(srv)
	if f := q.form; q.basic != "web:cs-"+hidden || f.Get("response_type") != "code" || f.Get("state") == "" || f.Get("code_challenge") == "" || f.Get("prompt") != "consent" ||
		f.Get("redirect_uri") == "" || len(f.Get("dpop_jkt")) != 43 {
		t.Errorf("pushed %v as %q", f, q.basic)
	}
}

// pushed is the request that was pushed.
func pushed(srv *server) asked {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	for _, q := range srv.asked {
		if q.url == pushURL {
			return q
		}
	}
	return asked{}
}

func TestPushedRequestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		a    answer
		kind agent.Kind
		says string
	}{
		{"no name", answer{201, nil, `{"expires_in":60}`}, agent.Misconfigured, "no usable request_uri; pushed_authorization_url: none"},
		{"no life", answer{201, nil, `{"request_uri":"urn:x"}`}, agent.Misconfigured, "no usable request_uri"},
		{"not a name", answer{201, nil, `{"request_uri":"a\u001b[2J","expires_in":60}`}, agent.Misconfigured, "no usable request_uri"},
		{"wrong client", fail(401, "invalid_client"), agent.Rejected, "invalid_client"},
		{"redirect", fail(400, "invalid_redirect_uri"), agent.Misconfigured, "invalid_redirect_uri"},
		{"down", answer{503, nil, ""}, agent.Transient, "503"},
	} {
		s, srv := pushing(map[string]answer{pushURL: c.a})
		_, err := signIn(t, source(t, s, srv), time.Minute, func(agent.Prompt) { t.Errorf("%s: a person was sent to the server", c.name) })
		wantKind(t, err, c.kind, c.says)
	}
}

// The browser carries the request where the config says so, or where the server
// names no place to push it to.
func TestNothingIsPushed(t *testing.T) {
	for _, none := range []bool{true, false} {
		s, srv := pushing(map[string]answer{})
		if s.PushedURL = "none"; !none {
			s.PushedURL = ""
			srv = site(map[string]answer{oidcPlace: document(issuerURL, `,"authorization_endpoint":"https://id.example.com/auth"`)})
		}
		_, err := signIn(t, source(t, s, srv), 50*time.Millisecond, func(p agent.Prompt) {
			if !strings.Contains(p.URL, "code_challenge=") {
				t.Errorf("sent to %s", p.URL)
			}
		})
		wantKind(t, err, agent.NeedsHuman, "nobody signed in")
		if pushed(srv).url != "" {
			t.Error("it was pushed")
		}
	}
}

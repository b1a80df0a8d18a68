package oauth2_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"renewd/agent"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/wire"
)

const issuerURL = "https://id.example.com/realms/a"

func document(issuer, more string) answer {
	return ok(`{"issuer":"` + issuer + `","token_endpoint":"https://id.example.com/t"` + more + `}`)
}

// site serves documents by their URL, and tokens from any other.
func site(docs map[string]answer) *server {
	s := &server{}
	s.serve = func(q asked) answer {
		if a, ok := docs[q.url]; ok {
			return a
		}
		if strings.Contains(q.url, "/.well-known/") {
			return answer{404, nil, ""}
		}
		return whole("")
	}
	return s
}

func discovering() *oauth2.Spec {
	s := client(oauth2.ClientCredentials)
	s.TokenURL, s.Issuer = "", issuerURL
	return s
}

const (
	oidcPlace  = issuerURL + "/.well-known/openid-configuration"
	plainPlace = "https://id.example.com/.well-known/oauth-authorization-server/realms/a"
)

func TestDiscovery(t *testing.T) {
	for place, asks := range map[string]int{oidcPlace: 2, plainPlace: 3} {
		srv := site(map[string]answer{place: document(issuerURL, "")})
		src := source(t, discovering(), srv)
		login(t, src)
		if q := srv.last(); q.url != "https://id.example.com/t" || srv.count() != asks {
			t.Errorf("%s: the last of %d requests was to %s", place, srv.count(), q.url)
		}
		login(t, src)
		if srv.count() != asks+1 {
			t.Error("the document was fetched again")
		}
	}
}

// A document that cannot be used says why, and a try is never spent on it.
func TestBadDocuments(t *testing.T) {
	for _, c := range []struct {
		name string
		a    answer
		kind agent.Kind
		says string
	}{
		{"another issuer", document("https://hunter2.example.com", ""), agent.Misconfigured, "is of another issuer than the config's"},
		{"a slash more", document(issuerURL+"/", ""), agent.Misconfigured, "write it with or without the / at its end"},
		{"no issuer", ok(`{"token_endpoint":"https://id.example.com/t"}`), agent.Misconfigured, "names no issuer"},
		{"http endpoint", ok(`{"issuer":"` + issuerURL + `","token_endpoint":"http://hunter2.example.com/t"}`), agent.Misconfigured, "names a token_endpoint that may not be used"},
		{"no endpoint", ok(`{"issuer":"` + issuerURL + `"}`), agent.Misconfigured, "names no token_endpoint; give token_url"},
		{"endpoint is a number", ok(`{"issuer":"` + issuerURL + `","token_endpoint":5}`), agent.Misconfigured, "names no token_endpoint"},
		{"not JSON", ok(`hunter2`), agent.Misconfigured, "is no JSON object"},
		{"HTML", answer{200, map[string]string{"Content-Type": "text/html"}, "<p>hunter2"}, agent.Misconfigured, "discovery: server answered 200 with a page for people"},
		{"redirect", answer{302, map[string]string{"Location": "https://hunter2.example.com/"}, ""}, agent.Misconfigured, "discovery: server answered 302, a redirect that is not followed"},
		{"nothing", answer{404, nil, ""}, agent.Misconfigured, "discovery: server answered 404; look at issuer"},
		{"500", answer{500, nil, "<html>hunter2"}, agent.Transient, "discovery: server answered 500"},
		{"429", answer{429, map[string]string{"Retry-After": "7"}, ""}, agent.Throttled, "429"},
		{"no answer", answer{status: -1}, agent.Transient, "discovery: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := site(map[string]answer{oidcPlace: c.a})
			_, err := call(t, source(t, discovering(), srv), agent.StepLogin, agent.Session{})
			e := wantKind(t, err, c.kind, c.says)
			if !e.Unsent || e.Step != agent.StepLogin {
				t.Errorf("unsent %v, step %q", e.Unsent, e.Step)
			}
			for _, q := range srv.asked {
				if q.method != "GET" || q.basic != "" {
					t.Error("the client's secret was sent")
				}
			}
		})
	}
}

// A document is fetched once a day, and after an endpoint has gone; an old one
// serves where no newer one can be had.
func TestDocumentsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		docs := map[string]answer{oidcPlace: document(issuerURL, "")}
		srv := site(docs)
		src := source(t, discovering(), srv)
		asks := func(want int) {
			t.Helper()
			before := srv.count()
			login(t, src)
			if got := srv.count() - before; got != want {
				t.Errorf("%d requests; want %d", got, want)
			}
		}
		asks(2)
		time.Sleep(23 * time.Hour)
		asks(1)
		time.Sleep(2 * time.Hour)
		asks(2)
		time.Sleep(25 * time.Hour)
		docs[oidcPlace] = answer{500, nil, ""}
		asks(2) // the old one serves
		asks(1) // and the next try waits
		time.Sleep(6 * time.Minute)
		docs[oidcPlace] = ok(`{"issuer":"` + issuerURL + `","token_endpoint":"https://id.example.com/t2"}`)
		asks(2)

		time.Sleep(time.Hour)
		docs["https://id.example.com/t2"] = answer{404, nil, ""}
		docs[oidcPlace] = document(issuerURL, "")
		asks(3) // 404, document, token
		docs["https://id.example.com/t"] = answer{404, nil, ""}
		before := srv.count()
		_, err := call(t, src, agent.StepLogin, agent.Session{})
		wantKind(t, err, agent.Misconfigured, "404")
		if srv.count()-before != 1 {
			t.Error("a document of this minute was fetched again")
		}
	})
}

// Tokens of one issuer share its document, and fetch it once.
func TestIssuersAreShared(t *testing.T) {
	srv := site(map[string]answer{oidcPlace: document(issuerURL, "")})
	transports, issuers := wire.NewTransports(wire.Options{RoundTrip: srv, Clock: clock}), &oauth2.Issuers{}
	for i := range 5 {
		src, ps := oauth2.New(discovering(), &oauth2.Env{Name: fmt.Sprint(i), Now: clock, Transports: transports, Issuers: issuers})
		if src == nil {
			t.Fatal(ps)
		}
		login(t, src)
	}
	if srv.count() != 6 {
		t.Errorf("%d requests", srv.count())
	}
}

// With a certificate the endpoints for certificates are used (RFC 8705 §5); what
// the config gives goes before what was found.
func TestEndpointsGivenAndFound(t *testing.T) {
	s := discovering()
	s.RevocationURL = "https://id.example.com/own-revoke"
	srv := site(map[string]answer{oidcPlace: document(issuerURL, `,"revocation_endpoint":"https://id.example.com/r","mtls_endpoint_aliases":{"token_endpoint":"https://mtls.example.com/t"}`)})
	src := source(t, s, srv)
	g := login(t, src)
	if q := srv.last(); q.url != "https://id.example.com/t" {
		t.Errorf("asked %s without a certificate", q.url)
	}
	if _, err := call(t, src, agent.StepLogout, next(agent.Session{}, agent.StepLogin, g)); err != nil || srv.last().url != s.RevocationURL {
		t.Errorf("%v, asked %s", err, srv.last().url)
	}
	// The default client authentication is one that the server knows.
	srv = site(map[string]answer{oidcPlace: document(issuerURL, `,"token_endpoint_auth_methods_supported":["private_key_jwt","client_secret_post"]`)})
	login(t, source(t, discovering(), srv))
	if q := srv.last(); q.form.Get("client_secret") == "" || q.basic != "" {
		t.Errorf("sent %v", q.form)
	}
}

// Tokens that wait for one fetch share its failure: a server that is down is not
// asked by each of them in turn.
func TestFailureIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{}
		srv.serve = func(asked) answer { time.Sleep(time.Second); return answer{500, nil, ""} }
		transports, issuers := wire.NewTransports(wire.Options{RoundTrip: srv, Clock: clock}), &oauth2.Issuers{}
		var wg sync.WaitGroup
		for range 50 {
			src, ps := oauth2.New(discovering(), &oauth2.Env{Now: clock, Transports: transports, Issuers: issuers})
			if src == nil {
				t.Fatal(ps)
			}
			wg.Go(func() {
				_, err := call(t, src, agent.StepLogin, agent.Session{})
				if e, ok := err.(*agent.Error); !ok || e.Kind != agent.Transient || !e.Unsent { //nolint:errorlint // it must be one itself
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if srv.count() != 1 {
			t.Errorf("%d requests", srv.count())
		}
	})
}

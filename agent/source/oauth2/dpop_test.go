package oauth2_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"renewd/agent"
	"renewd/agent/source/oauth2"
)

func dpop() *oauth2.Spec {
	s := password()
	s.DPoP = true
	return s
}

func bound(more string) answer {
	return ok(`{"access_token":"at-1","token_type":"DPoP","expires_in":60` + more + `}`)
}

// Tokens are bound to a key of the session: a refresh proves the same one, a
// login makes another, and the server's nonce is signed as it asks.
func TestDPoP(t *testing.T) {
	nonce := "n1"
	srv := &server{}
	srv.serve = func(q asked) answer {
		proof := part(t, q.header.Get("DPoP"), 1)
		h := map[string]string{"DPoP-Nonce": nonce}
		if proof["nonce"] != nonce {
			return answer{400, h, `{"error":"use_dpop_nonce"}`}
		}
		a := bound(`,"refresh_token":"r"`)
		a.header = h
		return a
	}
	src := source(t, dpop(), srv)
	g := login(t, src)
	if srv.count() != 2 || g.Type != "DPoP" || g.Private.IsZero() {
		t.Fatalf("%d requests, type %q, private %v", srv.count(), g.Type, g.Private.IsZero())
	}
	header, claims := part(t, srv.last().header.Get("DPoP"), 0), part(t, srv.last().header.Get("DPoP"), 1)
	jwk := header["jwk"].(map[string]any)
	if header["typ"] != "dpop+jwt" || header["alg"] != "ES256" || jwk["kty"] != "EC" || jwk["crv"] != "P-256" || jwk["d"] != nil {
		t.Errorf("header %v", header)
	}
	if claims["htm"] != "POST" || claims["htu"] != tokenURL || claims["jti"] == "" || claims["ath"] != nil {
		t.Errorf("claims %v", claims)
	}
	session := next(agent.Session{}, agent.StepLogin, g)
	r, err := call(t, src, agent.StepRefresh, session)
	if err != nil {
		t.Fatal(err)
	}
	key := func(proof string) string { return fmt.Sprint(part(t, proof, 0)["jwk"]) }
	first := key(srv.last().header.Get("DPoP"))
	if srv.count() != 3 || first != fmt.Sprint(header["jwk"]) {
		t.Errorf("%d requests: the nonce is remembered and the key is the session's", srv.count())
	}
	session = next(session, agent.StepRefresh, r)
	nonce = "n2"
	if login(t, src); srv.count() != 5 || key(srv.last().header.Get("DPoP")) == first {
		t.Error("a login has the key of the session before")
	}

	p, ok := src.(agent.ProofSource)
	if !ok {
		t.Fatal("the source gives no proofs")
	}
	proof, err := p.Proof(session, "GET", "https://api.example.com/x?y=1#z", "n3")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("at-1"))
	c := part(t, proof, 1)
	if c["htm"] != "GET" || c["htu"] != "https://api.example.com/x" || c["nonce"] != "n3" || c["ath"] != base64.RawURLEncoding.EncodeToString(sum[:]) || key(proof) != first {
		t.Errorf("proof %v", c)
	}
	for _, bad := range [][3]string{{"GET", "/x", ""}, {"GET\n", "https://x", ""}, {"GET", "ftp://x", ""}, {"GET", "https://x", "a b"}} {
		if _, err := p.Proof(session, bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("a proof for %q", bad)
		}
	}
	if _, err := p.Proof(agent.Session{}, "GET", "https://x", ""); err == nil {
		t.Error("a proof without a token")
	}
	present := src.Traits().Presentation
	if present.Header != "Authorization" || present.Value("at", nil) != "DPoP at" {
		t.Errorf("presented as %s: %s", present.Header, present.Value("at", nil))
	}
}

func TestDPoPRefused(t *testing.T) {
	_, err := call(t, source(t, dpop(), answers(whole(""))), agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Misconfigured, "not bound to our key", "dpop: false")
	// A server that asks for the nonce it was given is asked no third time.
	srv := answers(answer{400, map[string]string{"DPoP-Nonce": "n"}, `{"error":"use_dpop_nonce"}`})
	_, err = call(t, source(t, dpop(), srv), agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Misconfigured, "use_dpop_nonce")
	if srv.count() != 2 {
		t.Errorf("%d requests", srv.count())
	}
	_, err = call(t, source(t, password(), answers(fail(400, "use_dpop_nonce"))), agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Misconfigured, "dpop: true")
	if _, ok := source(t, password(), answers(whole(""))).(agent.ProofSource); ok {
		t.Error("a bearer token needs no proofs")
	}
}

// Ambiguity is judged by what came last: a refresh whose first answer asked for a
// nonce was not spent by it.
func TestDPoPAmbiguous(t *testing.T) {
	yes := true
	s := dpop()
	s.Session = sessionOf(&yes)
	session := agent.Session{RefreshToken: agent.NewSecret("r")}
	_, err := call(t, source(t, s, answers(answer{400, map[string]string{"DPoP-Nonce": "n"}, `{"error":"use_dpop_nonce"}`}, answer{status: -1})), agent.StepRefresh, session)
	wantKind(t, err, agent.Ambiguous)
	g, err := call(t, source(t, s, answers(bound(""))), agent.StepRefresh, session)
	if err != nil || !strings.Contains(g.Private.Reveal(), "PRIVATE KEY") {
		t.Errorf("the key of a session that had none is not kept: %v", err)
	}
}

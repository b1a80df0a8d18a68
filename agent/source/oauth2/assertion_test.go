package oauth2_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/signer"
)

// An assertion that something else keeps in a file is sent as it is, each time as
// the file then holds it; one that is no use is not sent.
func TestAssertionsMadeElsewhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(iss string, exp time.Duration) string {
		jwt := jwtOf(fmt.Sprintf(`{"iss":%q,"sub":"pod","exp":%d}`, iss, time.Now().Add(exp).Unix()))
		if err := os.WriteFile(file, []byte(jwt+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return jwt
	}
	from := &secret.Ref{File: secret.Path(file)}
	client := client(oauth2.ClientCredentials)
	client.ClientSecret, client.ClientAssertion = nil, from
	bearer := &oauth2.Spec{TokenURL: tokenURL, Grant: oauth2.JWTBearer, Assertion: &oauth2.Assertion{Value: from}}
	for key, s := range map[string]*oauth2.Spec{"client_assertion": client, "assertion": bearer} {
		t.Run(key, func(t *testing.T) {
			srv := answers(whole(""))
			src := source(t, s, srv)
			if files := src.(*oauth2.Source).Files(); len(files) != 1 || files[0] != file {
				t.Errorf("watches %v", files)
			}
			var first agent.Credential
			for i, iss := range []string{"cluster", "cluster", "another"} {
				want := write(iss, time.Hour+time.Duration(i)*time.Minute)
				login(t, src)
				if f := srv.last().form; f.Get(key) != want || key == "client_assertion" && f.Get("client_assertion_type") == "" {
					t.Errorf("sent %v", f)
				}
				at, err := src.Prepare(t.Context(), agent.StepLogin, agent.Session{})
				if err != nil {
					t.Fatal(err)
				}
				switch c := at.Credential; {
				case i == 0:
					first = c
				case c.Digest == first.Digest:
					t.Error("another assertion has the same digest")
				case (c.Principal == first.Principal) != (iss == "cluster" || key == "client_assertion"):
					t.Errorf("%s is %q, and it was %q", iss, c.Principal, first.Principal)
				}
			}
			sent := srv.count()
			write("cluster", -time.Minute)
			_, err := call(t, src, agent.StepLogin, agent.Session{})
			if e := wantKind(t, err, agent.Misconfigured, "has expired; what keeps it fresh does not"); !e.Unsent {
				t.Error("it was sent")
			}
			if err := os.WriteFile(file, []byte(hidden), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = call(t, src, agent.StepLogin, agent.Session{})
			if wantKind(t, err, agent.Misconfigured, "is no signed JWT"); srv.count() != sent {
				t.Error("something was sent")
			}
			write("cluster", time.Hour)
			refused := fail(400, "invalid_grant")
			if key == "client_assertion" {
				refused = fail(401, "invalid_client")
			}
			_, err = call(t, source(t, s, answers(refused)), agent.StepLogin, agent.Session{})
			wantKind(t, err, agent.Rejected, "look at", "what makes")
		})
	}
}

// bearer is grant jwt_bearer at the provider, signed here and made elsewhere.
func (p *provider) bearer(t *testing.T) {
	s := p.spec("bearer", oauth2.JWTBearer)
	s.Assertion = &oauth2.Assertion{Issuer: "svc@lab.test", Subject: "bob", Key: plain(p.keys["RS256"])}
	src := p.source(t, s, nil)
	for range 2 { // a jti is good once
		g := login(t, src)
		if !p.active(t, g.Token) {
			t.Errorf("got %+v", g)
		}
		p.revoked(t, src, g)
	}
	s.Assertion.Key = plain(pemKey(t, "RS256"))
	_, err := call(t, p.source(t, s, nil), agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Rejected, "look at assertion")
	made := *s // by something else, and good once
	made.Assertion = &oauth2.Assertion{Value: plain(p.signed(t, "svc@lab.test", p.issuer+"/token"))}
	src = p.source(t, &made, nil)
	p.revoked(t, src, login(t, src))
	_, err = call(t, src, agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Rejected, "what makes it")
	client := p.spec("pk-RS256", oauth2.ClientCredentials)
	client.ClientAssertion = plain(p.signed(t, "pk-RS256", p.issuer))
	if g := login(t, p.source(t, client, nil)); !p.active(t, g.Token) {
		t.Errorf("as a client: %+v", g)
	}
}

// signed is a JWT that something else made with the key of RS256.
func (p *provider) signed(t *testing.T, who, audience string) string {
	t.Helper()
	key, err := signer.ParseKey("RS256", []byte(p.keys["RS256"]))
	if err != nil {
		t.Fatal(err)
	}
	jwt, err := signer.Sign(signer.Token{Algorithm: "RS256", Key: key, Now: time.Now(), Lifetime: time.Minute,
		Claims: map[string]any{"iss": who, "sub": who, "aud": audience, "jti": "made " + who}})
	if err != nil {
		t.Fatal(err)
	}
	return jwt
}

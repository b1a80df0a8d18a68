package oauth2_test

import (
	"errors"
	"strings"
	"testing"

	"renewd/agent"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/sourcetest"
)

const revokeURL = "https://id.example.com/revoke"

func revoking() *oauth2.Spec {
	s := password()
	s.RevocationURL = revokeURL
	return s
}

// The refresh token first, then the access token, as the client that they were
// given to.
func TestRevoke(t *testing.T) {
	srv := answers(answer{200, nil, ""})
	src := source(t, revoking(), srv)
	if !src.Traits().CanLogout {
		t.Fatal("cannot log out")
	}
	session := agent.Session{Token: agent.NewSecret("at"), RefreshToken: agent.NewSecret("rt")}
	if _, err := call(t, src, agent.StepLogout, session); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, q := range srv.asked {
		if q.url != revokeURL || q.basic == "" {
			t.Errorf("asked %s as %q", q.url, q.basic)
		}
		got = append(got, q.form.Get("token")+" "+q.form.Get("token_type_hint"))
	}
	if strings.Join(got, ", ") != "rt refresh_token, at access_token" {
		t.Errorf("revoked %v", got)
	}
	srv = answers(answer{200, nil, ""}, fail(400, "unsupported_token_type"))
	if _, err := call(t, source(t, revoking(), srv), agent.StepLogout, session); err != nil {
		t.Errorf("an access token that cannot be revoked: %v", err)
	}
	_, err := call(t, source(t, revoking(), answers(answer{503, nil, ""})), agent.StepLogout, session)
	wantKind(t, err, agent.Transient)
	_, err = call(t, source(t, revoking(), answers(fail(401, "invalid_client"))), agent.StepLogout, session)
	wantKind(t, err, agent.Misconfigured, "invalid_client")
	if _, err := call(t, src, agent.StepLogout, agent.Session{}); !errors.Is(err, agent.ErrPassedOver) {
		t.Errorf("a logout of nothing: %v", err)
	}
}

func TestWithoutRevocation(t *testing.T) {
	session := agent.Session{Token: agent.NewSecret("at")}
	src := source(t, discovering(), site(map[string]answer{oidcPlace: document(issuerURL, "")}))
	if _, err := call(t, src, agent.StepLogout, session); err != nil {
		t.Errorf("a server that revokes nothing: %v", err)
	}
	s := discovering()
	s.RevocationURL = "none"
	if source(t, s, site(nil)).Traits().CanLogout || source(t, password(), site(nil)).Traits().CanLogout {
		t.Error("says that it can log out")
	}
}

func TestConformance(t *testing.T) {
	for name, make := range map[string]func() *oauth2.Spec{
		"client_credentials": func() *oauth2.Spec { return client(oauth2.ClientCredentials) },
		"password":           revoking,
		"dpop": func() *oauth2.Spec {
			s := dpop()
			s.RevocationURL = revokeURL
			return s
		},
		"private_key_jwt": func() *oauth2.Spec {
			s := revoking()
			s.ClientSecret, s.ClientKey = nil, plain(pemKey(t, "ES256"))
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Run(t, func(t *testing.T) *sourcetest.Harness {
				refuse := false
				srv := &server{}
				srv.serve = func(q asked) answer {
					switch {
					case refuse:
						return fail(400, "invalid_grant")
					case q.url == revokeURL:
						return answer{200, nil, ""}
					case q.header.Get("DPoP") != "":
						return bound(`,"refresh_token":"rt-` + hidden + `"`)
					}
					return whole(`"refresh_token":"rt-` + hidden + `"`)
				}
				return &sourcetest.Harness{Source: source(t, make(), srv), Clock: clock, Secrets: []string{hidden, "PRIVATE KEY"}, Sent: srv.count, Refuse: func() { refuse = true }}
			})
		})
	}
}

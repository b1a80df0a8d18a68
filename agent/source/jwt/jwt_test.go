package jwt_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/jwt"
	"renewd/agent/source/signer"
	"renewd/agent/source/sourcetest"
	"renewd/agent/source/spec"
)

func clock() agent.Instant {
	n := time.Now()
	return agent.Instant{Wall: n, Boot: time.Duration(n.UnixNano())}
}

func source(t *testing.T, s jwt.Spec) *jwt.Source {
	t.Helper()
	if s.Algorithm == "" {
		s.Algorithm = "HS256"
	}
	if s.Key.Check() != nil {
		s.Key = secret.Plain("s3cret-key")
	}
	if s.Lifetime == "" {
		s.Lifetime = "20m"
	}
	src, problems := jwt.New(&s, clock, secret.NewResolver())
	if src == nil {
		t.Fatal(problems)
	}
	return src
}

func login(t *testing.T, src *jwt.Source) (*agent.Grant, error) {
	t.Helper()
	at, err := src.Prepare(t.Context(), agent.StepLogin, agent.Session{})
	if err != nil {
		return nil, err
	}
	return at.Send(t.Context())
}

func TestConforms(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) *sourcetest.Harness {
		p := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(p, []byte("s3cret-key"), 0o600); err != nil {
			t.Fatal(err)
		}
		return &sourcetest.Harness{Source: source(t, jwt.Spec{Key: secret.Ref{File: secret.Path(p)}}), Clock: clock,
			Secrets: []string{"s3cret-key"}, Refuse: func() { _ = os.Remove(p) }}
	})
}

func TestSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24*time.Hour + 700*time.Millisecond)
		src := source(t, jwt.Spec{Backdate: "1m", KeyID: "k1", Claims: map[string]spec.Tree{"iss": {V: "me"}, "scp": {V: []any{"a"}}}})
		g, err := login(t, src)
		if err != nil {
			t.Fatal(err)
		}
		claims, err := signer.Verify(g.Token.Reveal(), "HS256", []byte("s3cret-key"))
		if err != nil || claims["iss"] != "me" || claims["jti"] == nil {
			t.Errorf("%v, %v", claims, err)
		}
		// exp counts whole seconds from an iat a minute ago.
		if g.Life != 19*time.Minute-1700*time.Millisecond {
			t.Errorf("life %v", g.Life)
		}
		again, err := login(t, src)
		if err != nil || again.Token.Equal(g.Token) {
			t.Error("the same token twice: jti is not new")
		}
		g, err = login(t, source(t, jwt.Spec{Claims: map[string]spec.Tree{"exp": {}, "jti": {}}}))
		if err != nil || g.Life != 20*time.Minute {
			t.Errorf("without exp the lifetime is declared: %v, %v", g, err)
		}
		_, err = login(t, source(t, jwt.Spec{Claims: map[string]spec.Tree{"exp": {V: int64(1e9 - 1e8)}}}))
		if err == nil {
			_, err = login(t, source(t, jwt.Spec{Claims: map[string]spec.Tree{"exp": {V: time.Now().Unix() - 5}}}))
		}
		if e, ok := errors.AsType[*agent.Error](err); !ok || e.Kind != agent.Misconfigured {
			t.Errorf("born dead: %v", err)
		}
	})
}

func TestKeys(t *testing.T) {
	g, err := login(t, source(t, jwt.Spec{Key: secret.Plain("6b"), KeyEncoding: "hex"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Verify(g.Token.Reveal(), "HS256", []byte("k")); err != nil {
		t.Error(err)
	}
	for _, s := range []jwt.Spec{{Key: secret.Plain("zz"), KeyEncoding: "hex"}, {Key: secret.Plain("!"), KeyEncoding: "base64"}, {Algorithm: "RS256"}} {
		_, err := login(t, source(t, s))
		if e, ok := errors.AsType[*agent.Error](err); !ok || e.Kind != agent.Misconfigured || !e.Unsent {
			t.Errorf("got %v", err)
		}
	}
}

func TestNew(t *testing.T) {
	for want, s := range map[string]jwt.Spec{
		"algorithm":    {Algorithm: "none", Key: secret.Plain("k"), Lifetime: "1m"},
		"key":          {Algorithm: "HS256", Lifetime: "1m"},
		"lifetime":     {Algorithm: "HS256", Key: secret.Plain("k")},
		"backdate":     {Algorithm: "HS256", Key: secret.Plain("k"), Lifetime: "1m", Backdate: "1m"},
		"key_encoding": {Algorithm: "ES256", Key: secret.Plain("k"), Lifetime: "1m", KeyEncoding: "hex"},
	} {
		if src, problems := jwt.New(&s, clock, nil); src != nil || len(problems) != 1 || problems[0].Path != want {
			t.Errorf("%s: %v", want, problems)
		}
	}
}

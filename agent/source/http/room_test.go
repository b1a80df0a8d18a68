package http_test

import (
	"encoding/json"
	"fmt"
	"io"
	nethttp "net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/http"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

type roundTrip func(*nethttp.Request) (*nethttp.Response, error)

func (f roundTrip) RoundTrip(r *nethttp.Request) (*nethttp.Response, error) { return f(r) }

// Sources of one program stand in one piece of memory, and each sends its own
// values all the same.
func TestSourcesThatStandTogether(t *testing.T) {
	const n = 200
	dir := t.TempDir()
	file := func(name, text string) secret.Path {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return secret.Path(path)
	}
	shared := file("shared", "of all")
	var sent struct{ Username, Password, Organization string }
	p := compile(t, "commander", preset(t, "commander"))
	env := &http.Env{Now: clock, Secrets: secret.NewResolver(), Transports: wire.NewTransports(wire.Options{Clock: clock,
		RoundTrip: roundTrip(func(r *nethttp.Request) (*nethttp.Response, error) {
			sent = struct{ Username, Password, Organization string }{}
			if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
				t.Error(err)
			}
			return nil, io.ErrUnexpectedEOF
		})})}
	password := func(i int) (v any, text string) {
		switch i / 2 % 3 { // in pairs: the second of those of all shares the first one's handle
		case 0:
			return secret.Ref{File: shared}, "of all"
		case 1:
			text = fmt.Sprintf("own %d", i)
			return secret.Ref{File: file(fmt.Sprint(i), text)}, text
		}
		text = fmt.Sprintf("plain %d", i)
		return text, text
	}
	all := make([]*http.Source, n)
	for i := range all {
		v, _ := password(i)
		in := map[string]spec.Value{"url": {V: "https://vendor.example"}, "username": {V: fmt.Sprintf("user %d", i)}, "password": {V: v}}
		if i%2 == 0 {
			in["organization"] = spec.Value{V: fmt.Sprintf("org %d", i)}
		}
		var problems []http.Problem
		if all[i], problems = p.Bind(in, nil, env); all[i] == nil {
			t.Fatal(problems)
		}
	}
	prints := map[string]bool{}
	for i, src := range all {
		_, _ = call(t, src, agent.StepLogin, agent.Session{})
		_, pass := password(i)
		org := ""
		if i%2 == 0 {
			org = fmt.Sprintf("org %d", i)
		}
		if want := fmt.Sprintf("user %d", i); sent.Username != want || sent.Password != pass || sent.Organization != org {
			t.Fatalf("source %d sent %+v", i, sent)
		}
		prints[src.Traits().Fingerprint] = true
	}
	if len(prints) != n {
		t.Errorf("%d sources have %d fingerprints", n, len(prints))
	}
}

// Tokens of one program share settings only where they set the same and the config's
// defaults are the same.
func TestSettingsAreSharedByEquals(t *testing.T) {
	p := compile(t, "commander", preset(t, "commander"))
	came := ""
	env := func(name string) *http.Env {
		return &http.Env{Now: clock, Secrets: secret.NewResolver(), Transports: wire.NewTransports(wire.Options{Clock: clock,
			RoundTrip: roundTrip(func(*nethttp.Request) (*nethttp.Response, error) {
				came = name
				return nil, io.ErrUnexpectedEOF
			})})}
	}
	one, two := env("one"), env("two")
	short := &http.Overrides{Session: &spec.Session{MaxAge: "5m"}}
	for i, c := range []struct {
		env  *http.Env
		name string
		over *http.Overrides
		age  time.Duration
	}{
		{one, "one", nil, 15 * time.Minute},
		{one, "one", &http.Overrides{}, 15 * time.Minute}, // as the first
		{two, "two", nil, 15 * time.Minute},
		{one, "one", short, 5 * time.Minute},
		{one, "one", nil, 15 * time.Minute}, // known, but not as the latest
		{two, "two", short, 5 * time.Minute},
		{two, "two", nil, 15 * time.Minute},
		{two, "two", nil, 15 * time.Minute},
		{one, "one", short, 5 * time.Minute},
	} {
		src, problems := p.Bind(map[string]spec.Value{"url": {V: "https://vendor.example"}, "username": {V: "u"}, "password": {V: "p"}}, c.over, c.env)
		if src == nil {
			t.Fatal(problems)
		}
		came = ""
		_, _ = call(t, src, agent.StepLogin, agent.Session{})
		if age := src.Traits().Session.MaxAge; came != c.name || age != c.age {
			t.Errorf("%d: asked by %q with a session of %v, want %q, %v", i, came, age, c.name, c.age)
		}
	}
}

package file_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/file"
	"renewd/agent/source/sourcetest"
	"renewd/agent/source/spec"
)

func clock() agent.Instant {
	n := time.Now()
	return agent.Instant{Wall: n, Boot: time.Duration(n.UnixNano())}
}

func source(t *testing.T, content string) (*file.Source, string) {
	t.Helper()
	p := filepath.Join(t.TempDir(), "token")
	if content != "" {
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, problems := file.New(&file.Spec{Path: secret.Path(p), Lifetime: &spec.Lifetime{Max: "1h"}}, clock)
	if s == nil {
		t.Fatal(problems)
	}
	return s, p
}

func TestConforms(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) *sourcetest.Harness {
		s, p := source(t, "tok-en\n")
		return &sourcetest.Harness{Source: s, Clock: clock, Secrets: []string{"tok-en", "bad thing"}, Refuse: func() {
			if err := os.WriteFile(p, []byte("bad thing"), 0o600); err != nil {
				t.Fatal(err)
			}
		}}
	})
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, content string
		prepare       func(path string) error
		want          agent.Kind
	}{
		{"missing", "", nil, agent.Transient},
		{"empty", "\n", nil, agent.Transient},
		{"two lines", "a\nb\n", nil, agent.Misconfigured},
		{"directory", "", func(p string) error { return os.Mkdir(p, 0o700) }, agent.Misconfigured},
		{"old", "tok", func(p string) error {
			return os.Chtimes(p, time.Time{}, time.Now().Add(-2*time.Hour))
		}, agent.Transient},
		{"too long", strings.Repeat("x", 1<<20+1), nil, agent.Misconfigured},
	} {
		s, p := source(t, c.content)
		if c.prepare != nil {
			if err := c.prepare(p); err != nil {
				t.Fatal(err)
			}
		}
		at, err := s.Prepare(t.Context(), agent.StepLogin, agent.Session{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = at.Send(t.Context())
		if e, ok := errors.AsType[*agent.Error](err); !ok || e.Kind != c.want || !e.Unsent {
			t.Errorf("%s: got %v; want %s", c.name, err, c.want)
		}
	}
}

func TestNew(t *testing.T) {
	if s, problems := file.New(&file.Spec{Format: "jsn", Lifetime: &spec.Lifetime{Max: "x"}}, clock); s != nil || len(problems) != 3 {
		t.Errorf("%v", problems)
	}
	s, p := source(t, "x")
	if s.SourceFile() != p {
		t.Error(s.SourceFile())
	}
}

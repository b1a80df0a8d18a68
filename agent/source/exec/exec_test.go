//go:build unix

package exec_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/exec"
	"renewd/agent/source/sourcetest"
	"renewd/agent/source/spec"
)

func clock() agent.Instant {
	n := time.Now()
	return agent.Instant{Wall: n, Boot: time.Duration(n.UnixNano())}
}

func shell(t *testing.T, s exec.Spec, script string) *exec.Source {
	t.Helper()
	s.Command = []string{"/bin/sh", "-c", script}
	if s.Lifetime == nil {
		s.Lifetime = &spec.Lifetime{Default: "1h"}
	}
	src, problems := exec.New(&s, clock)
	if src == nil {
		t.Fatal(problems)
	}
	return src
}

func TestConforms(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) *sourcetest.Harness {
		dir := t.TempDir()
		runs, bad := filepath.Join(dir, "runs"), filepath.Join(dir, "bad")
		script := filepath.Join(dir, "script")
		text := fmt.Sprintf(`echo >> %s; test ! -e %s && echo tok-en-$KEY || { echo hunter2; echo hunter2 >&2; exit 3; }`, runs, bad)
		if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		src := shell(t, exec.Spec{Env: map[string]secret.Ref{"KEY": secret.Plain("s3cret")}}, ". "+script)
		return &sourcetest.Harness{Source: src, Clock: clock, Secrets: []string{"s3cret", "hunter2"},
			Sent: func() int { b, _ := os.ReadFile(runs); return len(b) },
			Refuse: func() {
				if err := os.WriteFile(bad, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}}
	})
}

func TestRuns(t *testing.T) {
	t.Setenv("RENEWD_LEAK", "leak")
	for _, c := range []struct {
		name   string
		spec   exec.Spec
		script string
		want   string // token
		kind   agent.Kind
	}{
		{"raw", exec.Spec{}, "echo tok", "tok", ""},
		{"environment is clean", exec.Spec{}, `echo "x$RENEWD_LEAK-$PATH" | tr -d ' ' | cut -c1-2`, "x-", ""},
		{"env", exec.Spec{Env: map[string]secret.Ref{"A": secret.Plain("b"), "EMPTY": {}}}, `echo "$A${EMPTY-unset}"`, "b", ""},
		{"json", exec.Spec{Format: "json"}, `echo '{"token":"t","expires_in":60}'`, "t", ""},
		{"status", exec.Spec{}, "exit 7", "", agent.Misconfigured},
		{"told for now", exec.Spec{}, "exit 75", "", agent.Transient},
		{"told refused", exec.Spec{}, "exit 77", "", agent.Rejected},
		{"by a rule", exec.Spec{Errors: []exec.Rule{{Status: exec.Exit{4, 7}, Means: "locked"}}}, "exit 7", "", agent.Locked},
		{"a rule comes first", exec.Spec{Errors: []exec.Rule{{Status: exec.Exit{77}, Means: "transient"}}}, "exit 77", "", agent.Transient},
		{"killed", exec.Spec{}, "kill -9 $$", "", agent.Transient},
		{"nothing", exec.Spec{}, "true", "", agent.Misconfigured},
		{"help text", exec.Spec{}, "echo usage: hunter2", "", agent.Misconfigured},
		{"no JSON", exec.Spec{Format: "aws"}, "echo tok", "", agent.Misconfigured},
		{"slow", exec.Spec{Timeout: "100ms"}, "sleep 60", "", agent.Transient},
		{"endless", exec.Spec{}, "yes", "", agent.Misconfigured},
		{"holds its output", exec.Spec{}, "sleep 60 & echo tok", "", agent.Transient},
	} {
		t.Run(c.name, func(t *testing.T) {
			at, err := shell(t, c.spec, c.script).Prepare(t.Context(), agent.StepLogin, agent.Session{})
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			g, err := at.Send(t.Context())
			if time.Since(begin) > 20*time.Second {
				t.Errorf("took %v", time.Since(begin))
			}
			if c.kind == "" {
				if err != nil || g.Token.Reveal() != c.want {
					t.Fatalf("got %v, %v", g, err)
				}
				return
			}
			e, ok := errors.AsType[*agent.Error](err)
			if !ok || e.Kind != c.kind || e.Unsent || strings.Contains(e.Error()+e.Hint, "hunter2") {
				t.Fatalf("got %v; want %s", err, c.kind)
			}
		})
	}
}

func TestMissingProgram(t *testing.T) {
	src, _ := exec.New(&exec.Spec{Command: []string{"/nonexistent/program"}}, clock)
	at, err := src.Prepare(t.Context(), agent.StepLogin, agent.Session{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = at.Send(t.Context())
	if e, ok := errors.AsType[*agent.Error](err); !ok || e.Kind != agent.Misconfigured || !e.Unsent {
		t.Errorf("got %v", err)
	}
	src, _ = exec.New(&exec.Spec{Command: []string{"true"}, Env: map[string]secret.Ref{"A": {Env: "RENEWD_NOT_SET"}}}, clock)
	_, err = src.Prepare(t.Context(), agent.StepLogin, agent.Session{})
	if e, ok := errors.AsType[*agent.Error](err); !ok || e.Kind != agent.Misconfigured || !e.Unsent {
		t.Errorf("an unreadable secret: %v", err)
	}
}

func TestNew(t *testing.T) {
	for want, s := range map[string]exec.Spec{
		"command":          {},
		"format":           {Command: []string{"x"}, Format: "jsn"},
		"timeout":          {Command: []string{"x"}, Timeout: "5m"},
		`env["A=B"]`:       {Command: []string{"x"}, Env: map[string]secret.Ref{"A=B": {}}},
		"errors[0].means":  {Command: []string{"x"}, Errors: []exec.Rule{{Status: exec.Exit{1}, Means: "session_over"}}},
		"errors[0].status": {Command: []string{"x"}, Errors: []exec.Rule{{Means: "transient"}}},
		"errors[0].wait":   {Command: []string{"x"}, Errors: []exec.Rule{{Status: exec.Exit{1}, Means: "locked", Wait: "5"}}},
		"rejected.tries":   {Command: []string{"x"}, Rejected: &spec.Rejected{Tries: new(int)}},
		"lifetime.max":     {Command: []string{"x"}, Lifetime: &spec.Lifetime{Max: "5"}},
		"present.value":    {Command: []string{"x"}, Present: &spec.Present{Value: "x"}},
	} {
		if src, problems := exec.New(&s, clock); src != nil || len(problems) != 1 || problems[0].Path != want {
			t.Errorf("%s: %v", want, problems)
		}
	}
	if _, problems := exec.New(&exec.Spec{Command: []string{"./x"}}, clock); len(problems) != 1 {
		t.Errorf("a relative program: %v", problems)
	}
}

// Each command line is an account of its own: scripts of one shell are not, nor is
// what is in their arguments told to anyone.
func TestEachCommandLineIsAnAccount(t *testing.T) {
	who := func(script string) agent.Credential {
		at, err := shell(t, exec.Spec{}, script).Prepare(t.Context(), agent.StepLogin, agent.Session{})
		if err != nil {
			t.Fatal(err)
		}
		return at.Credential
	}
	a, b := who("echo one"), who("echo two")
	if a.Principal == b.Principal || a.Principal != who("echo one").Principal || !strings.HasPrefix(a.Principal, "sh ") || strings.Contains(a.Principal, "one") {
		t.Errorf("%q, %q", a.Principal, b.Principal)
	}
}

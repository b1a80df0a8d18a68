package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"renewd/agent/config"
)

// A config that would unfold without end is refused like any other that is
// wrong, in little memory: a reload must not end the agent.
func TestConfigsThatUnfoldWithoutEnd(t *testing.T) {
	token := func(json string) string {
		return "tokens:\n  a: {source: {type: http, login: {request: {url: 'http://127.0.0.1/', json: " + json + "}}}}\n"
	}
	bomb := "hosts:\n  h: {x: &a0 [1,1,1,1,1,1,1,1,1,1]}\n"
	for i := 1; i < 12; i++ {
		bomb += fmt.Sprintf("  h%d: {x: &a%d [%s*a%d]}\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), i-1)
	}
	var keys strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&keys, "k%d: 1\n", i)
	}
	for _, c := range []struct{ name, text, want string }{
		{"bomb", bomb + token("*a11"), ":1:1: its aliases unfold to too much (write the values out)"},
		{"an alias of itself", token("&a [*a]"), ":2:82: the alias leads to itself"},
		{"an alias of what it is in", "tokens: &all\n" + token("{x: *all}")[len("tokens:\n"):], ": the alias leads to itself"},
		{"deep", token(strings.Repeat("[", 9000) + strings.Repeat("]", 9000)), ":1:1: is nested deeper than 100 levels"},
		{"deeper than the library reads", token(strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000)), "is not YAML"},
		{"deep by aliases", "hosts: {a: {b: &a " + strings.Repeat("[", 90) + strings.Repeat("]", 90) + "}}\n" + token(strings.Repeat("[", 90)+"*a"+strings.Repeat("]", 90)), "is nested deeper than 100 levels"},
		{"a hundred thousand errors", keys.String(), "k0: unknown key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "renewd.yaml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, problems, err := config.Load(path)
			runtime.ReadMemStats(&after)
			if err != nil || len(problems) == 0 || !problems.Fatal() || !strings.Contains(problems[0].String(), c.want) {
				t.Errorf("got %v, %.300v; want %q", err, problems, c.want)
			}
			if len(problems) > 501 {
				t.Errorf("%d problems told", len(problems))
			}
			if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 400 {
				t.Errorf("%d MB were allocated", mb)
			}
		})
	}
}

// Aliases as people use them are read.
func TestAliases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "renewd.yaml")
	var b strings.Builder
	b.WriteString("defaults: {tls: &tls {min_version: '1.3'}}\ntokens:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "  t%d: {source: {type: exec, command: [x], lifetime: {max: 1h}}, sinks: [&s%d {type: file, path: f%d}]}\n", i, i, i)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, problems, err := config.Load(path); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", err, problems)
	}
}

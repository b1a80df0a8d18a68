package spec_test

import (
	"fmt"
	"testing"
	"time"

	"renewd/agent/secret"
	"renewd/agent/source/spec"
)

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "15m": 15 * time.Minute, "7d": 7 * 24 * time.Hour, "1d12h": 36 * time.Hour, "0s": 0, "1.5h": 90 * time.Minute, "500ms": 500 * time.Millisecond,
	} {
		if got, err := spec.ParseDuration(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "90", "-5s", "d", "xd", "-1d", "99999999d", "NaNd", "infd", "1h1d", "1e300h"} {
		if got, err := spec.ParseDuration(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestRate(t *testing.T) {
	var r spec.Rate
	if err := r.UnmarshalText([]byte("60/5m")); err != nil || r.N != 60 || r.Per != 5*time.Minute {
		t.Errorf("%+v, %v", r, err)
	}
	for _, s := range []string{"", "60", "0/5m", "60/0s", "x/5m", "60/5"} {
		if err := r.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

func TestPaths(t *testing.T) {
	p := spec.Index(spec.Key(spec.Key(spec.Key(spec.Key("", "login"), "json"), `es"c.app]`), "x"), 3)
	if p != `login.json["es\"c.app]"].x[3]` {
		t.Errorf("got %s", p)
	}
	if got := fmt.Sprintf("%q", spec.SplitPath(p)); got != `["login" "json" "es\"c.app]" "x" '\x03']` {
		t.Errorf("got %s", got)
	}
	if got := spec.SplitPath(""); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"token", "refresh_token", "password", "sha1_hex"}
	for name, want := range map[string]string{"tokn": "token", "refreshtoken": "refresh_token", "Password": "password", "zzz": "", "x": ""} {
		if got := spec.Nearest(name, names); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestValue(t *testing.T) {
	var v spec.Value
	if err := v.SetTree(map[string]any{"file": "x"}, func(s string) string { return "/d/" + s }); err != nil || v.V.(secret.Ref).File != "/d/x" {
		t.Errorf("%v, %v", v, err)
	}
	if err := v.SetTree(map[string]any{"a": "x", "b": "y"}, nil); err == nil {
		t.Error("a mapping that is no secret was taken")
	}
	var tree spec.Tree
	if err := tree.SetTree(map[string]any{"file": "x"}, nil); err != nil || tree.V.(map[string]any)["file"] != "x" {
		t.Error("a tree's mapping is no secret")
	}
}

func TestPlainPresent(t *testing.T) {
	p, err := (&spec.Present{Header: "X", Value: "Token ${token}"}).Plain()
	if err != nil || p.Value("abc", nil) != "Token abc" {
		t.Errorf("%v", err)
	}
	for _, v := range []string{"x", "${extra.a}", "${token} ${x}"} {
		if _, err := (&spec.Present{Value: v}).Plain(); err == nil {
			t.Errorf("%q was taken", v)
		}
	}
	if p, err := (*spec.Present)(nil).Plain(); p != nil || err != nil {
		t.Error("none is none")
	}
}

// A presentation without the http source's expressions.
func TestPlainPresentations(t *testing.T) {
	for _, c := range []struct {
		p            spec.Present
		header, want string // want "": refused
	}{
		{spec.Present{Header: "X-Auth", Value: "T ${token}"}, "X-Auth", "T abc"},
		{spec.Present{Cookie: "SID"}, "Cookie", "SID=abc"},
		{spec.Present{Cookie: "SID", Value: "<${token}>"}, "Cookie", "SID=<abc>"},
		{spec.Present{Basic: &spec.BasicPair{Username: "${token}", Password: "x"}}, "", "Basic YWJjOng="},
		{spec.Present{Query: "key", Value: "T ${token}"}, "", "T abc"},
		{spec.Present{Query: "a b", Value: "${token}"}, "", ""}, {spec.Present{Query: "a", Cookie: "b"}, "", ""},
		{spec.Present{Value: "T"}, "", ""}, {spec.Present{Value: "${tokn}"}, "", ""}, {spec.Present{Header: "a b"}, "", ""},
		{spec.Present{Header: "X", Cookie: "SID"}, "", ""}, {spec.Present{Basic: &spec.BasicPair{Username: "u", Password: "x"}}, "", ""},
	} {
		p, err := c.p.Plain()
		if c.want == "" {
			if err == nil {
				t.Errorf("%+v was taken", c.p)
			}
			continue
		}
		if err != nil || p.Header != c.header || p.Value("abc", nil) != c.want {
			t.Errorf("%+v: %v, %+v", c.p, err, p)
		}
	}
}

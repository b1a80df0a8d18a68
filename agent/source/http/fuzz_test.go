package http

import (
	nethttp "net/http"
	"strings"
	"testing"
	"time"

	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// FuzzTemplate: whatever is written, parsing ends, and a text without ${ stands
// for itself.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"", "a", "${a}", "$${a}", "$$${a}", "${f(a, \"b\")}", "${f(g(h('x')))}", "${", "${a", "${'", "x${a}y${b}", "${a.b}", "${f(}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tpl, err := parseTemplate(s)
		if err != nil {
			if strings.Contains(s, "${") {
				return
			}
			t.Fatalf("%q: %v", s, err)
		}
		if text, ok := tpl.constant(); ok && strings.ReplaceAll(s, "$${", "${") != text {
			t.Errorf("%q stands for %q", s, text)
		}
		for i, p := range tpl.parts {
			if p.ex == nil && p.lit == "" || i > 0 && p.ex == nil && tpl.parts[i-1].ex == nil {
				t.Errorf("%q has parts %v", s, tpl.parts)
			}
		}
	})
}

// FuzzAnswer: whatever a server answers, it is judged without a panic, no token
// that may not be published is taken, and no error quotes it.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{"", `{"token":"t","e":60}`, `{"token":"t","e":"1e999"}`, `[`, `"x"`, "<html>", `{"token":"a b"}`, `{"token":"t","e":{"e":1}}`} {
		f.Add(200, body, "text/plain", "Sun, 01 Nov 2026 12:00:00 GMT")
	}
	st := &step{name: "login", kind: "login", readsJSON: true, extracts: []extract{
		{name: "token", ptrs: []spec.Pointer{{"token"}}}, {name: "expires_in", ptrs: []spec.Pointer{{"e"}, {"i"}}, optional: true},
		{name: "expires_at", ptrs: []spec.Pointer{{"a"}}, optional: true}, {name: "at", extra: true, header: "Retry-After", url: true, optional: true}, {name: "sid", extra: true, cookie: "sid", optional: true}}}
	rules := []rule{{path: "errors[0]", ptr: spec.Pointer{"c"}, hasPtr: true, equals: []string{"1"}, means: "locked"}}
	f.Fuzz(func(t *testing.T, status int, body, ct, cookie string) {
		h := nethttp.Header{"Content-Type": {ct}, "Set-Cookie": {cookie}, "Retry-After": {cookie}}
		a := &answer{Answer: &wire.Answer{Status: status, Header: h, Body: []byte(body)}}
		got, err := st.judge(a, &scope{now: time.Now()}, rules)
		if (got == nil) == (err == nil) {
			t.Fatal("neither or both")
		}
		if err != nil {
			if len(body) > 30 && strings.Contains(err.Error()+err.Hint, body) {
				t.Errorf("the error quotes the server: %v", err)
			}
			return
		}
		if !LegalToken(got.token) || status/100 != 2 {
			t.Errorf("took %q of a %d", got.token, status)
		}
	})
}

// A challenge is read to its end, whatever is in it, and quotes are no end of it.
func TestBearerChallenge(t *testing.T) {
	for _, c := range []struct{ lines, realm, service string }{
		{`Bearer realm="https://a/t",service="s",scope="a:b,c d"`, "https://a/t", "s"},
		{`bearer  Realm = "a\"b" , service=s`, `a"b`, "s"},
		{`Basic realm="x, Bearer realm=y", Bearer realm="z"`, "z", ""},
		{"Negotiate\nBearer realm=q", "q", ""},
		{`Bearer realm="a", Basic realm="b"`, "a", ""},
		{`Basic realm="b"`, "", ""}, {`Bearer`, "", ""}, {`Bearer realm="open`, "", ""}, {``, "", ""}, {`=,"`, "", ""},
	} {
		if got := bearerChallenge(strings.Split(c.lines, "\n")); got["realm"] != c.realm || got["service"] != c.service {
			t.Errorf("%q: %v", c.lines, got)
		}
	}
}

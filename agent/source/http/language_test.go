package http_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/http"
)

// simple is a login that needs nothing but its own lines.
const simple = `
lifetime: {max: 60s}
login:
  request: {url: "https://a.example/login", json: {u: x}}
  extract: {token: {pointer: /token}}
`

// problemsOf gives what Compile says of a Spec.
func problemsOf(t *testing.T, yaml string) string {
	t.Helper()
	_, problems := http.Compile("http", decode(t, yaml))
	return fmt.Sprint(problems)
}

func TestProblemsNameThePlace(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"unknown name", strings.Replace(simple, "u: x", `u: "${usr}"`, 1) + "inputs: {user: {}}", `login.request.json.u: unknown name "usr" (did you mean user?)`},
		{"unknown function", strings.Replace(simple, "u: x", `u: "${sha1hex(user)}"`, 1) + "inputs: {user: {}}", `login.request.json.u: unknown function "sha1hex" (did you mean sha1_hex?)`},
		{"unclosed", strings.Replace(simple, "u: x", `u: "${user"`, 1) + "inputs: {user: {}}", `login.request.json.u: an expression has no end`},
		{"operator", strings.Replace(simple, "u: x", `u: "${user + 1}"`, 1) + "inputs: {user: {}}", `login.request.json.u: an expression is a name`},
		{"arguments", strings.Replace(simple, "u: x", `u: "${join(user)}"`, 1) + "inputs: {user: {}}", `login.request.json.u: join takes two arguments`},
		{"now's unit", strings.Replace(simple, "u: x", `u: "${now('h')}"`, 1), `login.request.json.u: now: want "s"`},
		{"dotted key", strings.Replace(simple, "u: x", `esc.app: "${usr}"`, 1), `login.request.json["esc.app"]: unknown name "usr"`},
		{"key as expression", strings.Replace(simple, "u: x", `"${u}": 1`, 1), `a key cannot be an expression`},
		{"token in a login", strings.Replace(simple, "u: x", `u: "${token}"`, 1), `login.request.json.u: a login comes before there is a session`},
		{"cycle", simple + `vars: {a: "${b}", b: "${a}"}`, `vars.a: "a" needs itself`},
		{"input cycle", simple + `inputs: {a: {default: "${b}"}, b: {default: "${a}"}}`, `inputs.a.default: "a" needs itself`},
		{"secret in a default", simple + `inputs: {a: {default: "${b}"}, b: {secret: true}}`, `a default names inputs that are no secrets`},
		{"reserved", simple + `inputs: {token: {}}`, `inputs.token: "token" is a word of the language`},
		{"input and var", simple + "inputs: {a: {}}\nvars: {a: x}", `vars.a: "a" is an input already`},
		{"one_of", simple + "inputs: {aa: {}}\none_of: [[ab]]", `one_of[0]: "ab" is no input`},
		{"type", simple + `inputs: {a: {type: int}}`, `inputs.a.type: unknown type "int"`},
		{"means", simple + "errors: [{status: 401, means: reject}]", `errors[0].means: unknown kind "reject" (did you mean rejected?)`},
		{"ambiguous", simple + "errors: [{status: 401, means: ambiguous}]", `errors[0].means: unknown kind`},
		{"a test that always holds", simple + "errors: [{present: [\"\"], means: rejected}]", `errors[0].present: the empty pointer is the whole answer`},
		{"no test", simple + "errors: [{means: rejected}]", `errors[0]: the rule tests nothing`},
		{"step", simple + "errors: [{step: signin, status: 401, means: rejected}]", `errors[0].step: unknown step "signin"`},
		{"session_over in login", simple + "errors: [{step: login, status: 401, means: session_over}]", `errors[0].means: a login has no session`},
		{"pointer", simple + "errors: [{pointer: a/b, equals: x, means: rejected}]", `errors[0].pointer: a pointer begins with /`},
		{"tilde", simple + "errors: [{pointer: /a~2, equals: x, means: rejected}]", `errors[0].pointer: in a pointer ~`},
		{"regexp", simple + "errors: [{pointer: /a, matches: '(', means: rejected}]", `errors[0].matches: is no regular expression`},
		{"algorithm", simple + "vars: {j: {sign: {algorithm: HS257, key: x}}}", `vars.j.sign.algorithm: unknown algorithm "HS257" (did you mean HS256?)`},
		{"extract", strings.Replace(simple, "token: {", "tokn: {", 1), `login.extract.tokn: unknown name "tokn" (did you mean token?)`},
		{"no token", strings.Replace(simple, "extract: {token: {pointer: /token}}", "extract: {type: {pointer: /t}}", 1), `login.extract: a login must say where the token is`},
		{"two places", strings.Replace(simple, "{pointer: /token}", "{pointer: /token, header: x}", 1), `login.extract.token: say where it is`},
		{"method", strings.Replace(simple, "{url:", "{method: PUSH, url:", 1), `login.request.method: unknown method "PUSH"`},
		{"body of GET", strings.Replace(simple, "{url:", "{method: GET, url:", 1), `login.request.method: GET has no body`},
		{"two bodies", strings.Replace(simple, "{url:", "{form: {}, url:", 1), `login.request: json, form and raw exclude each other`},
		{"bearer in login", strings.Replace(simple, "{url:", "{bearer: true, url:", 1), `login.request.bearer`},
		{"timeout", strings.Replace(simple, "{url:", "{timeout: 5m, url:", 1), `login.request.timeout: is above 30s`},
		{"header", strings.Replace(simple, "{url:", `{headers: {"a b": x}, url:`, 1), `login.request.headers["a b"]: is no header name`},
		{"unreachable alternative", "lifetime: {max: 1m}\nlogin: [{request: {url: 'https://a.example'}, extract: {token: {body: text}}}, {request: {url: 'https://a.example'}, extract: {token: {body: text}}}]", `login[0]: holds always`},
		{"when", "lifetime: {max: 1m}\nlogin: {when: {given: usr}, request: {url: 'https://a.example'}, extract: {token: {body: text}}}\ninputs: {user: {}}", `login.when.given: "usr" is no input (did you mean user?)`},
		{"refresh and extend", simple + "refresh: {request: {url: 'https://a.example'}, extract: {token: {body: text}}}\nextend: {request: {url: 'https://a.example'}}", `extend: refresh and extend exclude each other`},
		{"redirect as success", strings.Replace(simple, "  extract", "  success: {status: 302}\n  extract", 1), `login.success.status: a redirect is never a success`},
		{"duration", strings.Replace(simple, "60s", "60", 1), `lifetime.max: "60" is no duration`},
		{"overlap", simple + "session: {overlap: nones}", `session.overlap`},
		{"present", simple + "present: {value: '${usr}'}", `present.value: unknown name "usr"`},
		{"present twice", simple + "present: {header: X, cookie: y}", `present: header, cookie, query and basic exclude each other`},
		{"present nothing", simple + "present: {basic: {username: u}}", `present.basic: a user name is needed`},
		{"present's cookie", simple + "present: {cookie: 'a b'}", `present.cookie: is no name of a cookie`},
		{"present's parameter", simple + "present: {query: 'a&b'}", `present.query: is no name of a query parameter`},
		{"present's pair", simple + "present: {basic: {username: '${usr}', password: x}}", `present.basic.username: unknown name "usr"`},
		{"algorithm of an input", simple + "inputs: {a: {choices: {x: RS256, y: RS2}}}\nvars: {j: {sign: {algorithm: '${a}', key: k}}}", `vars.j.sign.algorithm: unknown algorithm "RS2"`},
		{"algorithm of any text", simple + "inputs: {a: {}}\nvars: {j: {sign: {algorithm: '${a}', key: k}}}", `vars.j.sign.algorithm: want an algorithm, or an input with choices`},
		{"a made token sent", simple + "  token: '${j}'\nvars: {j: {sign: {algorithm: HS256, key: k}}}", `login.request: a token that is signed here is sent nowhere`},
		{"a made token unsigned", "lifetime: {max: 1m}\nlogin: {token: '${j}'}\nvars: {j: x}", `login.token: names no var that is signed`},
		{"a made token and text", "lifetime: {max: 1m}\nlogin: {token: 'x${j}'}\nvars: {j: {sign: {algorithm: HS256, key: k}}}", `login.token: names no var that is signed`},
		{"a made token refreshed", simple + "refresh: {token: '${j}'}\nvars: {j: {sign: {algorithm: HS256, key: k}}}", `refresh.token: is for login`},
		{"min_age of nothing", simple + "  min_age: 5m", `login.min_age: is for a token that is signed here`},
		{"value as a token", strings.Replace(simple, "{pointer: /token}", "{value: x}", 1), `login.extract.token.value: what is known beforehand`},
		{"value's name", strings.Replace(simple, "/token}", "/token}, expires_in: {value: '${tll}'}", 1) + "inputs: {ttl: {}}", `login.extract.expires_in.value: unknown name "tll" (did you mean ttl?)`},
		{"value's session", strings.Replace(simple, "/token}", "/token}, expires_in: {value: '${token}'}", 1), `a login comes before there is a session`},
		{"as", strings.Replace(simple, "/token}", "/token}, extra.u: {header: Location, as: uri}", 1), `login.extract["extra.u"].as: unknown word "uri" (url)`},
		{"challenge's names", strings.Replace(simple, "u: x", `u: "${challenge.realm}"`, 1), `login.request.json.u: unknown name "challenge.realm"`},
		{"challenge with a secret", simple + "  challenge: {url: 'https://a.example/${p}'}\ninputs: {p: {secret: true}}", `login.challenge.url: a challenge is asked for without credentials`},
		{"challenge of a refresh", simple + "refresh: {challenge: {url: 'https://a.example'}, request: {url: 'https://a.example'}, extract: {token: {body: text}}}", `refresh.challenge: is for a login`},
		{"challenge of nothing", simple + "  challenge: {hosts: [a.example]}", `login.challenge.url: a URL is needed`},
		{"principal", simple + "principal: '${token}'", `principal: a login comes before there is a session`},
		{"a loose place", strings.Replace(simple, "/token}", "/token}, extra.u: {header: Location}", 1) + "logout: {request: {method: DELETE, url: '${extra.u}', bearer: true}}", `logout.request.url: begins with what a server names`},
		{"as of a token", strings.Replace(simple, "/token}", "/token, as: url}", 1), `login.extract.token.as: is for extra.NAME`},
		{"json's pointer", strings.Replace(simple, "u: x", `u: "${json(s, 'a')}"`, 1) + "inputs: {s: {}}", `login.request.json.u: a pointer begins with /`},
	} {
		if got := problemsOf(t, c.yaml); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %s; want %s", c.name, got, c.want)
		}
	}
	all := problemsOf(t, strings.Replace(simple, "u: x", `u: "${a}", v: "${b}"`, 1)+"errors: [{status: 401, means: nope}]")
	if strings.Count(all, "unknown") != 3 {
		t.Errorf("not all problems at once: %s", all)
	}
}

// Rule 2, 3, 4: inputs.
func TestInputs(t *testing.T) {
	const decl = simple + `
inputs:
  s: {}
  r: {required: true, help: "what it is for"}
  p: {secret: true}
  u: {type: url}
  i: {type: integer, min: 1, max: 5}
  b: {type: boolean}
  d: {type: duration, min: 1m, max: 1h}
  l: {type: list}
  c: {choices: {one: 1, two: 2}}
  m: {type: [list, string]}
`
	p := compile(t, "http", decode(t, decl))
	for _, c := range []struct {
		key  string
		v    any
		want string // of the problem; "": none
	}{
		{"s", "text", ""}, {"s", "", ""}, {"s", int64(5), "s: want a text: write it in quotes"}, {"s", []any{"x"}, "s: want a text"},
		{"s", secret.Ref{Env: "X"}, "s: is no secret"},
		{"r", "", `r: r is missing (what it is for)`},
		{"p", "", "p: the secret is empty"}, {"p", nil, "p: the secret is empty"}, {"p", "hunter2", ""}, {"p", secret.Ref{Env: "X"}, ""},
		{"p", int64(12345), "p: want a secret"}, {"p", secret.Ref{Keyring: "a/b"}, ""}, {"p", secret.Ref{Keyring: "ab"}, "p: keyring"},
		{"u", "https://a.example/x", ""}, {"u", "a.example", "u: is no URL"}, {"u", "https://u:hunter2@a.example", "u: credentials do not belong"},
		{"u", "https://a.example?x=1", "u: the URL has a query"},
		{"i", int64(3), ""}, {"i", int64(6), "i: is above 5"}, {"i", int64(0), "i: is below 1"}, {"i", "3", "i: want an integer"},
		{"b", true, ""}, {"b", "yes", "b: want true or false"},
		{"d", "30m", ""}, {"d", "2h", "d: is above 1h"}, {"d", "1s", "d: is below 1m"}, {"d", "30", "d: want a duration"},
		{"l", []any{"a", int64(1)}, ""}, {"l", "a", "l: want a list"}, {"l", []any{[]any{}}, "l: want a list of scalars"},
		{"c", "one", ""}, {"c", "oen", `c: "oen" is not one of one, two; did you mean one?`},
		{"m", "a", ""}, {"m", []any{"a"}, ""}, {"m", true, "m: want one of list, string"},
		{"lifetme", "x", `lifetme: unknown key "lifetme" (did you mean lifetime?)`},
	} {
		in := values{"r": "x", c.key: c.v}
		_, problems := tryBind(p, &script{}, in, nil)
		got := fmt.Sprint(problems)
		if c.want == "" && len(problems) > 0 || !strings.Contains(got, c.want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s=%v: got %s; want %q", c.key, c.v, got, c.want)
		}
	}
	if _, problems := tryBind(p, &script{}, values{}, nil); len(problems) != 1 || problems[0].Path != "" || problems[0].Hint != "what it is for" {
		t.Errorf("a missing input: %v", problems)
	}
}

func TestOneOf(t *testing.T) {
	p := compile(t, "http", decode(t, simple+"inputs: {a: {}, b: {}, c: {}}\none_of: [[a], [b, c]]"))
	for _, c := range []struct {
		in   values
		good bool
	}{
		{values{"a": "x"}, true}, {values{"b": "x", "c": "x"}, true}, {values{}, false}, {values{"b": "x"}, false},
		{values{"a": "x", "b": "x"}, false}, {values{"a": "x", "b": "x", "c": "x"}, false}, {values{"a": "x", "b": ""}, true},
	} {
		src, problems := tryBind(p, &script{}, c.in, nil)
		if (src != nil) != c.good || !c.good && !strings.Contains(fmt.Sprint(problems), "give exactly one of: a; or b and c") {
			t.Errorf("%v: %v", c.in, problems)
		}
	}
}

// Rules 5 to 9 and 12: what is sent.
func TestExpressions(t *testing.T) {
	src, s := only(t, `
lifetime: {max: 60s}
inputs: {i: {type: integer}, l: {type: list}, o: {}, s: {}, p: {secret: true}, d: {type: duration}, u: {type: url}, tricky: {}}
vars: {v: "<${s}>", w: "${v}!", literal: 5, once: "${uuid()}"}
login:
  request:
    method: PUT
    url: "${u}/x/${s}/y?q=${s}&t=${tricky}"
    query: {a: [1, "${o}", two], b: "${o}", c: true}
    headers: {X-One: "${s}", X-Two: "${o}", Host: h.example, Content-Type: application/x-own}
    json:
      integer: "${i}"
      list: "${l}"
      gone: "${o}"
      gone_too: "a${o}b"
      text: "i=${i}"
      null: null
      nested: [{x: "${w}"}, "${o}", "$${not}", "$", "${literal}"]
      duration: "${d}"
      once: ["${once}", "${once}"]
      fun: ["${sha1_hex(p)}", "${sha256_hex('')}", "${hmac_sha256_hex('key', \"The quick brown fox jumps over the lazy dog\")}",
        "${base64(s)}", "${base64url('>>>')}", "${urlencode(s)}", "${upper(lower('aB'))}", "${trim('  x ')}", "${trim('xax', 'x')}",
        "${join(l, ',')}", "${trim(o)}"]
      again: "${tricky}"
  extract: {token: {pointer: /token}}
`, values{"i": int64(7), "l": []any{"a", int64(2)}, "s": "a/b c&d", "p": "The quick brown fox jumps over the lazy dog", "d": "90s",
		"u": "https://a.example/base/", "o": "", "tricky": "${s}"})
	mustLogin(t, src)
	a := s.last()
	wantURL := "https://a.example/base/x/a%2Fb%20c&d/y?q=a%2Fb+c%26d&t=%24%7Bs%7D&a=1&a=two&c=true"
	if a.method != "PUT" || a.url != wantURL {
		t.Errorf("asked %s %s", a.method, a.url)
	}
	if a.host != "h.example" || a.header.Get("X-One") != "a/b c&d" || a.header["X-Two"] != nil || a.header.Get("Content-Type") != "application/x-own" {
		t.Errorf("host %q headers %v", a.host, a.header)
	}
	var once string
	if _, rest, ok := strings.Cut(a.body, `"once":["`); ok {
		once, _, _ = strings.Cut(rest, `"`)
	}
	want := `{"again":"${s}","duration":90,"fun":["2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",` +
		`"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8",` +
		`"YS9iIGMmZA==","Pj4-","a%2Fb%20c%26d","AB","x","a","a,2"],"integer":7,"list":["a",2],"nested":[{"x":"<a/b c&d>!"},"${not}","$",5],` +
		`"null":null,"once":["` + once + `","` + once + `"],"text":"i=7"}`
	if a.body != want || len(once) != 36 {
		t.Errorf("body\n%s\nwant\n%s", a.body, want)
	}
	mustLogin(t, src)
	if strings.Contains(s.last().body, once) {
		t.Error("uuid() is the same in another attempt")
	}
}

func TestBodies(t *testing.T) {
	for _, c := range []struct{ yaml, method, body, ct string }{
		{`form: {a: "x y", b: [1, 2], c: "${o}"}`, "POST", "a=x+y&b=1&b=2", "application/x-www-form-urlencoded"},
		{`raw: "a ${s} b"`, "POST", `a "q" b`, "text/plain; charset=utf-8"},
		{`json: "${s}"`, "POST", `"\"q\""`, "application/json"},
		{`method: GET`, "GET", "", ""},
		{`basic: {username: bob, password: "${s}"}`, "GET", "", ""},
	} {
		src, s := only(t, "lifetime: {max: 60s}\ninputs: {o: {}, s: {}}\nlogin:\n  request: {url: 'https://a.example', "+c.yaml+"}\n  extract: {token: {pointer: /token}}", values{"s": `"q"`})
		mustLogin(t, src)
		a := s.last()
		if a.method != c.method || a.body != c.body || a.header.Get("Content-Type") != c.ct {
			t.Errorf("%s: asked %s %q %q", c.yaml, a.method, a.body, a.header.Get("Content-Type"))
		}
		if strings.HasPrefix(c.yaml, "basic") && a.header.Get("Authorization") != "Basic Ym9iOiJxIg==" {
			t.Errorf("basic: %q", a.header.Get("Authorization"))
		}
	}
}

// What cannot be sent is said, was never sent, and quotes no value.
func TestWhatCannotBeSent(t *testing.T) {
	const decl = "lifetime: {max: 60s}\ninputs: {s: {}, l: {type: list}}\nlogin:\n  request: {%s}\n  extract: {token: {pointer: /token}}"
	for _, c := range []struct {
		request string
		s       string
		want    string
	}{
		{`url: "https://a.example", headers: {X: "${s}"}`, "hunter2\r\nEvil: 1", "header X would hold a line end"},
		{`url: "https://a.example", headers: {X: "${s}"}`, "hunter2\x00", "header X would hold"},
		{`url: "https://a.example/${s}/x"`, "..", "a segment of dots"},
		{`url: "https://${s}/x"`, "a.example/../hunter2", "a host that is no name"},
		{`url: "https://a.example", json: {x: "-${l}-"}`, "", "a list or a mapping cannot be part of a text"},
		{`url: "https://a.example", basic: {username: "${s}", password: x}`, "hun:ter2", "cannot hold a colon"},
		{`url: "http://${s}/x"`, "a.example", "without encryption"},
	} {
		p := compile(t, "http", decode(t, fmt.Sprintf(decl, c.request)))
		rt := &script{}
		src, problems := tryBind(p, rt, values{"s": c.s, "l": []any{"x"}}, nil)
		if src == nil {
			if text := fmt.Sprint(problems); !strings.Contains(text, c.want) || strings.Contains(text, "hunter2") {
				t.Errorf("%s: %s", c.request, text)
			}
			continue
		}
		_, err := call(t, src, agent.StepLogin, agent.Session{})
		if e := wantKind(t, err, agent.Misconfigured); !e.Unsent || !strings.Contains(e.Detail, c.want) || len(rt.asked) > 0 {
			t.Errorf("%s: %v, asked %v", c.request, e, rt.asked)
		}
	}
}

// Rule 10, 16: alternatives, and what they may have of their own.
func TestAlternatives(t *testing.T) {
	const decl = `
lifetime: {max: 60s}
inputs: {a: {}, b: {}, mode: {choices: {x: used-x, y: used-y}}}
login:
  - {when: {given: a, missing: b}, request: {url: "https://a.example/a"}, extract: {token: {pointer: /token}}, rejected: {tries: 5}}
  - {when: {is: {mode: x}}, request: {url: "https://a.example/${mode}"}, extract: {token: {pointer: /token}}}
rejected: {tries: 3, probe: 1h}
`
	p := compile(t, "http", decode(t, decl))
	for _, c := range []struct {
		in    values
		over  *http.Overrides
		url   string
		tries int
	}{
		{values{"a": "1"}, nil, "https://a.example/a", 5},
		{values{"a": "1", "b": "2", "mode": "x"}, nil, "https://a.example/used-x", 3},
		{values{"a": "1"}, &http.Overrides{Rejected: &http.Rejected{Tries: new(7)}}, "https://a.example/a", 7},
		{values{"mode": "y"}, nil, "", 3},
	} {
		rt := &script{}
		src := bind(t, p, rt, c.in, c.over)
		if tr := src.Traits(); tr.Rejected.Tries != c.tries || tr.Rejected.Probe != time.Hour || tr.NeedsPerson != (c.url == "") {
			t.Errorf("%v: %+v", c.in, tr)
		}
		_, err := call(t, src, agent.StepLogin, agent.Session{})
		if c.url == "" {
			if e := wantKind(t, err, agent.NeedsHuman); !e.Unsent {
				t.Error("sent")
			}
			continue
		}
		if err != nil || rt.last().url != c.url {
			t.Errorf("%v: asked %v, %v", c.in, rt.asked, err)
		}
	}
}

// Rule 16: what stands beside the inputs goes over a preset, key by key.
func TestOverrides(t *testing.T) {
	p := compile(t, "commander", preset(t, "commander"))
	in := values{"url": base, "username": "u", "password": "p"}
	tr := bind(t, p, &script{}, in, nil).Traits()
	if tr.Life != time.Minute || tr.Session.MaxAge != 15*time.Minute || tr.OverlapNone || tr.Type != "commander" || !tr.CanRefresh || tr.CanLogout {
		t.Errorf("%+v", tr)
	}
	no := false
	over := &http.Overrides{Lifetime: &http.Lifetime{JWT: &no}, Session: &http.Session{Overlap: "none", MaxRefreshes: new(9)},
		Present: &http.Present{Header: "X-Auth", Value: "T ${upper(token)}"}, Limits: &http.Limits{Concurrency: new(2)}}
	src := bind(t, p, &script{answers: []answer{{status: 201, body: `{"token":"abc"}`}}}, in, over)
	tr = src.Traits()
	if tr.Life != time.Minute || tr.Session.MaxAge != 15*time.Minute || tr.Session.MaxRefreshes != 9 || !tr.OverlapNone || tr.Limits.Concurrency != 2 {
		t.Errorf("%+v", tr)
	}
	if tr.Presentation.Header != "X-Auth" || tr.Presentation.Value("abc", nil) != "T ABC" {
		t.Errorf("presentation %+v", tr.Presentation)
	}
	if g := mustLogin(t, src); g.Life != time.Minute {
		t.Errorf("life %v", g.Life)
	}
	if _, problems := tryBind(p, &script{}, in, &http.Overrides{Lifetime: &http.Lifetime{Max: "soon"}}); len(problems) != 1 || problems[0].Path != "lifetime.max" {
		t.Errorf("%v", problems)
	}
}

// The fingerprint tells sessions apart: by who and where, not by secrets nor by
// how failures are read.
func TestFingerprint(t *testing.T) {
	p := compile(t, "commander", preset(t, "commander"))
	print := func(p *http.Program, in values, over *http.Overrides) string {
		all := values{"url": base, "username": "u", "password": "p"}
		for k, v := range in {
			all[k] = v
		}
		return bind(t, p, &script{}, all, over).Traits().Fingerprint
	}
	first := print(p, nil, nil)
	for name, same := range map[string]string{
		"password": print(p, values{"password": "other"}, nil), "slash": print(p, values{"url": base + "/"}, nil),
		"lifetime": print(p, nil, &http.Overrides{Lifetime: &http.Lifetime{Max: "5s"}}),
	} {
		if same != first {
			t.Errorf("another %s is another session", name)
		}
	}
	for name, other := range map[string]string{
		"user": print(p, values{"username": "v"}, nil), "url": print(p, values{"url": "https://b.example"}, nil),
		"organization": print(p, values{"organization": "o"}, nil),
		"type":         print(compile(t, "mine", preset(t, "commander")), nil, nil),
	} {
		if other == first {
			t.Errorf("another %s is the same session", name)
		}
	}
}

func TestCredential(t *testing.T) {
	p := compile(t, "cylance", preset(t, "cylance"))
	cred := func(in values) agent.Credential {
		all := values{"region": "na", "tenant_id": tenant, "app_id": app, "app_secret": key}
		for k, v := range in {
			all[k] = v
		}
		at, err := bind(t, p, &script{}, all, nil).Prepare(t.Context(), agent.StepLogin, agent.Session{})
		if err != nil {
			t.Fatal(err)
		}
		return at.Credential
	}
	a := cred(nil)
	if a.Origin != "https://protectapi.cylance.com:443" || !strings.Contains(a.Principal, app) || strings.Contains(a.Principal, key) {
		t.Errorf("%+v", a)
	}
	if a != cred(values{"scopes": []any{"x"}}) {
		t.Error("other scopes are another credential: the vendor locks both at once")
	}
	b := cred(values{"app_secret": "other"})
	if b.Digest == a.Digest || b.Principal != a.Principal {
		t.Error("another secret is another digest of the same principal")
	}
}

// Who logs in may be told by a key file: two files of one account are one
// principal, and nothing of them is in it.
func TestPrincipalOfASecret(t *testing.T) {
	yaml := simple + "inputs: {f: {secret: true}}\nprincipal: \"${json(f, '/who')}\""
	of := func(f string) agent.Credential {
		in := values{"f": f}
		if f == "" {
			in = nil
		}
		src, _ := only(t, strings.Replace(yaml, "u: x", `u: "${f}"`, 1), in)
		at, err := src.Prepare(t.Context(), agent.StepLogin, agent.Session{})
		if err != nil {
			t.Fatal(err)
		}
		return at.Credential
	}
	a, b, c, none := of(`{"who":"hunter2","k":1}`), of(`{"who":"hunter2","k":2}`), of(`{"who":"eve"}`), of("")
	if a.Principal != b.Principal || a.Digest == b.Digest || a.Principal == c.Principal || none.Principal != "" || strings.Contains(a.Principal, "hunter2") {
		t.Errorf("%q %q %q %q", a.Principal, b.Principal, c.Principal, none.Principal)
	}
}

func TestExpiryMustBeKnowable(t *testing.T) {
	yaml := strings.Replace(simple, "{max: 60s}", "{jwt: false}", 1)
	_, problems := tryBind(compile(t, "http", decode(t, yaml)), &script{}, nil, nil)
	if len(problems) != 1 || problems[0].Path != "lifetime" {
		t.Errorf("got %v", problems)
	}
	src, _ := only(t, strings.Replace(simple, "lifetime: {max: 60s}", "", 1), nil)
	_, err := call(t, src, agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.Misconfigured)
}

func TestSchemaCoversEveryKey(t *testing.T) {
	keys := map[string]bool{}
	for i := range reflect.TypeFor[http.Overrides]().NumField() {
		keys[reflect.TypeFor[http.Overrides]().Field(i).Tag.Get("yaml")] = true
	}
	for _, k := range http.OverrideKeys() {
		if !keys[k] {
			t.Errorf("%s is no override", k)
		}
		delete(keys, k)
	}
	if len(keys) > 0 {
		t.Errorf("not listed: %v", keys)
	}
}

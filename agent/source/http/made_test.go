package http_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/source/http"
	"renewd/agent/source/signer"
	"renewd/agent/source/sourcetest"
)

const madeHere = `
inputs: {key: {secret: true, required: true}, who: {required: true}, life: {type: duration, default: 20m}}
vars: {j: {sign: {algorithm: HS256, key: "${key}", key_id: k1, lifetime: "${life}", backdate: 1m, claims: {iss: "${who}", jti: "${uuid()}"}}}}
`

func TestMadeConforms(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) *sourcetest.Harness {
		src, _ := only(t, madeHere+"login: {token: '${j}'}", values{"key": "hunter2", "who": "me"})
		return &sourcetest.Harness{Source: src, Clock: clock, Secrets: []string{"hunter2"}}
	})
}

// A token that is signed here lives as long as it says, and nothing is sent.
func TestMade(t *testing.T) {
	bubble(t, func(t *testing.T) {
		src, s := only(t, madeHere+"login: {token: '${j}'}", values{"key": "k", "who": "me"})
		g := mustLogin(t, src)
		claims, err := signer.Verify(g.Token.Reveal(), "HS256", []byte("k"))
		if err != nil || claims["iss"] != "me" || g.Life != 19*time.Minute-time.Second-700*time.Millisecond && g.Life != 19*time.Minute-time.Second {
			t.Errorf("%v %v, the life is %v", claims, err, g.Life)
		}
		if tr := src.Traits(); tr.Life != 19*time.Minute || len(tr.Hosts) > 0 || tr.CanRefresh || len(s.asked) > 0 {
			t.Errorf("%+v, asked %v", tr, s.asked)
		}
		if again := mustLogin(t, src); again.Token.Equal(g.Token) {
			t.Error("not signed anew")
		}
	})
	for _, c := range []struct {
		yaml string
		over *http.Overrides
		in   values
		want string // of the problem at bind, or of the error at login
	}{
		{strings.Replace(madeHere, `lifetime: "${life}", `, "", 1), nil, nil, "nothing says how long"},
		{strings.Replace(madeHere, "{iss:", "{exp: null, iss:", 1), nil, nil, "nothing says how long"},
		{madeHere, &http.Overrides{Lifetime: &http.Lifetime{JWT: new(false)}}, nil, "nothing says how long"},
		{madeHere, nil, values{"life": "30s"}, "dated back for longer than it lives"},
		{strings.Replace(madeHere, "{iss:", `{exp: 5000000, iss:`, 1), nil, nil, "had expired when it was signed"},
		{strings.Replace(madeHere, "HS256", "RS256", 1), nil, nil, "no private key in PEM"},
	} {
		in := values{"key": "hunter2", "who": "me"}
		for k, v := range c.in {
			in[k] = v
		}
		src, problems := tryBind(compile(t, "http", decode(t, c.yaml+"login: {token: '${j}'}")), &script{}, in, c.over)
		if src == nil {
			if !strings.Contains(fmt.Sprint(problems), c.want) {
				t.Errorf("%s: %v", c.yaml, problems)
			}
			continue
		}
		_, err := call(t, src, agent.StepLogin, agent.Session{})
		if e := wantKind(t, err, agent.Misconfigured); !e.Unsent || !strings.Contains(e.Detail, c.want) {
			t.Errorf("%s: %v", c.yaml, e)
		}
	}
}

// Where an API wants its tokens to stay for a while, a young one is given again,
// whoever asks; unless it says something else than a new one would.
func TestMadeNotTooOften(t *testing.T) {
	const yaml = `
inputs: {key: {secret: true, required: true}, who: {required: true}}
vars: {j: {sign: {algorithm: HS256, key: "${key}", claims: {iss: "${who}"}}}}
login: {token: "${j}", min_age: 20m}
lifetime: {max: 55m}
`
	bubble(t, func(t *testing.T) {
		p := compile(t, "http", decode(t, yaml))
		src := bind(t, p, &script{}, values{"key": "k", "who": "me"}, nil)
		g := mustLogin(t, src)
		if g.Life != 55*time.Minute {
			t.Errorf("the life is %v", g.Life)
		}
		for range 19 {
			time.Sleep(time.Minute)
			again, err := call(t, src, agent.StepLogin, sessionOf(g))
			if err != nil || !again.Token.Equal(g.Token) {
				t.Fatalf("signed again too early: %v", err)
			}
			if end := again.Sent.Wall.Add(again.Life).Sub(g.Sent.Wall.Add(g.Life)); end > 0 || end < -time.Second {
				t.Errorf("its end moved by %v", end)
			}
		}
		if other, err := call(t, bind(t, p, &script{}, values{"key": "k", "who": "you"}, nil), agent.StepLogin, sessionOf(g)); err != nil || other.Token.Equal(g.Token) {
			t.Errorf("another's token: %v", err)
		}
		time.Sleep(time.Minute)
		if again, err := call(t, src, agent.StepLogin, sessionOf(g)); err != nil || again.Token.Equal(g.Token) {
			t.Errorf("not signed again: %v", err)
		}
	})
}

// Functions that read a key file and make a mapping.
func TestMemberAndPairs(t *testing.T) {
	const yaml = `
lifetime: {max: 60s}
inputs: {f: {secret: true}, l: {type: list}}
login:
  request: {url: "https://a.example", json: {id: "${json(f, '/client/id')}", n: "${json(f, '/n')}", p: "${pairs(l, ':')}"}}
  extract: {token: {pointer: /token}}
`
	src, s := only(t, yaml, values{"f": `{"client":{"id":"me"},"n":5}`, "l": []any{"a:read", "b:x:y"}})
	mustLogin(t, src)
	if got := s.last().body; got != `{"id":"me","n":5,"p":{"a":"read","b":"x:y"}}` {
		t.Errorf("sent %s", got)
	}
	for _, in := range []values{{"f": "hunter2"}, {"f": `{"client":{"id":"hunter2"}}`}, {"f": `{"client":{"id":"x"},"n":5}`, "l": []any{"hunter"}}} {
		src, s := only(t, yaml, in)
		_, err := call(t, src, agent.StepLogin, agent.Session{})
		if e := wantKind(t, err, agent.Misconfigured); !e.Unsent || len(s.asked) > 0 {
			t.Errorf("%v", e)
		}
	}
}

// What an answer does not say, what it says in one of two places, and a place
// that it names.
func TestExtractsOfOtherKinds(t *testing.T) {
	const yaml = `
inputs: {url: {type: url, required: true}, ttl: {type: duration, default: 10m}}
login:
  request: {url: "${url}/a/login", json: {}}
  extract: {token: {pointer: [/token, /access_token]}, expires_in: {value: "${ttl}"}, extra.session: {header: Location, as: url}}
logout: {request: {method: DELETE, url: "${extra.session}", bearer: true}}
`
	for location, want := range map[string]string{
		"/s/1":                         "https://api.example/s/1",
		"2?x=1":                        "https://api.example/a/2?x=1",
		"https://evil.example/s/3":     "https://api.example/s/3", // a token never goes to another host
		"//evil.example/s%2F4":         "https://api.example/s%2F4",
		"https://api.example:8443/s/5": "https://api.example/s/5",
	} {
		src, s := only(t, yaml, values{"url": "https://api.example"}, answer{201, map[string]string{"Location": location}, `{"access_token":"t"}`}, answer{204, nil, ""})
		g := mustLogin(t, src)
		if g.Token.Reveal() != "t" || g.Life != 10*time.Minute-time.Second || g.Extra["session"] != want {
			t.Errorf("%s: %+v", location, g)
		}
		if _, err := call(t, src, agent.StepLogout, sessionOf(g)); err != nil || s.last().url != want {
			t.Errorf("%s: asked %s, %v", location, s.last().url, err)
		}
	}
	src, _ := only(t, yaml, values{"url": "https://api.example"}, answer{201, nil, `{"token":"","access_token":"t"}`}, answer{201, map[string]string{"Location": "mailto:x"}, `{"token":"t"}`})
	for range 2 {
		_, err := call(t, src, agent.StepLogin, agent.Session{})
		wantKind(t, err, agent.Misconfigured)
	}
	if hosts := src.Traits().Hosts; len(hosts) != 1 || !src.Traits().CanLogout {
		t.Errorf("hosts %v", hosts)
	}
}

// Ways to present a token, and how one set beside the inputs goes over a preset's.
func TestPresentations(t *testing.T) {
	const decl = simple + "present: %s"
	for _, c := range []struct {
		present      string
		over         *http.Present
		header, want string
	}{
		{"{header: X-Auth, value: '${token}'}", nil, "X-Auth", "abc"},
		{"{header: X-Auth}", nil, "X-Auth", "Bearer abc"},
		{"{cookie: SID}", nil, "Cookie", "SID=abc"},
		{"{cookie: SID, value: '<${token}>'}", nil, "Cookie", "SID=<abc>"},
		{"{basic: {username: '${token}', password: session}}", nil, "Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("abc:session"))},
		{"{cookie: SID}", &http.Present{Cookie: "OTHER"}, "Cookie", "OTHER=abc"},
		{"{cookie: SID, value: 'x${token}'}", &http.Present{Cookie: "OTHER"}, "Cookie", "OTHER=xabc"},
		{"{header: X-Auth, value: '${token}'}", &http.Present{Header: "X-Other"}, "X-Other", "abc"},
		{"{header: X-Auth, value: '${token}'}", &http.Present{Cookie: "SID"}, "Cookie", "SID=abc"},
		{"{cookie: SID}", &http.Present{Header: "Authorization", Value: "T ${token}"}, "Authorization", "T abc"},
		{"{cookie: SID}", &http.Present{Basic: &http.BasicPair{Username: "u", Password: "${token}"}}, "Authorization", "Basic dTphYmM="},
		{"{query: key}", nil, "", "key=abc"},
		{"{query: key, value: '<${token}>'}", nil, "", "key=<abc>"},
		{"{query: key, value: 'x${token}'}", &http.Present{Query: "token"}, "", "token=xabc"},
		{"{header: X-Auth, value: 'x${token}'}", &http.Present{Query: "token"}, "", "token=abc"},
		{"{query: key}", &http.Present{Header: "X-Auth"}, "X-Auth", "Bearer abc"},
	} {
		var over *http.Overrides
		if c.over != nil {
			over = &http.Overrides{Present: c.over}
		}
		src := bind(t, compile(t, "http", decode(t, fmt.Sprintf(decl, c.present))), &script{}, nil, over)
		p := &agent.Publication{Token: agent.NewSecret("abc"), Presentation: src.Traits().Presentation}
		name, value := p.Header()
		if query, v := p.Query(); query != "" {
			value = name + value + query + "=" + v
		}
		if name != c.header || value != c.want {
			t.Errorf("%s: %s: %s", c.present, name, value)
		}
	}
	if _, problems := tryBind(compile(t, "http", decode(t, fmt.Sprintf(decl, "{cookie: SID}"))), &script{}, nil, &http.Overrides{Present: &http.Present{Cookie: "a", Header: "b"}}); len(problems) != 1 || problems[0].Path != "present" {
		t.Errorf("%v", problems)
	}
}

// Where a secret is all that says who logs in, two of them are two accounts:
// neither waits for what the other did.
func TestSecretsThatAreAccounts(t *testing.T) {
	of := func(name string, in values) agent.Credential {
		at, err := bind(t, compile(t, name, preset(t, name)), &script{}, in, nil).Prepare(t.Context(), agent.StepLogin, agent.Session{})
		if err != nil {
			t.Fatal(err)
		}
		return at.Credential
	}
	cred := func(in values) agent.Credential { return of("emnify", in) }
	for i, other := range []string{"hunter1", "hunter2"} {
		key := func(k string) string {
			return of("check-point", values{"url": "https://mgmt.example.com", "api_key": k}).Principal
		}
		if (key("hunter1") == key(other)) != (i == 0) {
			t.Errorf("check-point: %q and %q", key("hunter1"), key(other))
		}
	}
	a, b := cred(values{"application_token": "hunter1"}), cred(values{"application_token": "hunter2"})
	if a.Principal == b.Principal || a.Principal == "" || strings.Contains(a.Principal, "hunter") || a != cred(values{"application_token": "hunter1"}) {
		t.Errorf("%+v and %+v", a, b)
	}
	u, w := cred(values{"username": "bob", "password": "hunter1"}), cred(values{"username": "bob", "password": "hunter2"})
	if u.Principal != "bob" || u.Principal != w.Principal || u.Digest == w.Digest {
		t.Errorf("a user's passwords: %+v and %+v", u, w)
	}
}

// Nothing is a page for people if there is nothing in it.
func TestEmptyPage(t *testing.T) {
	html := map[string]string{"Content-Type": "text/html", "X-Token": "t"}
	if g, err := one(t, "  extract: {token: {header: X-Token}}", answer{204, html, ""}); err != nil || g.Token.Reveal() != "t" {
		t.Error(err)
	}
	_, err := one(t, "  extract: {token: {header: X-Token}}", answer{200, html, "<p>"})
	wantKind(t, err, agent.Misconfigured)
}

package http_test

import (
	"fmt"
	nethttp "net/http"
	"strings"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/source/http"
	"renewd/agent/source/standin"
	"renewd/agent/source/wire"
)

// one makes a login with this success, extract and errors, answered once.
func one(t *testing.T, rest string, a answer) (*agent.Grant, error) {
	t.Helper()
	src, _ := only(t, "lifetime: {default: 60s}\nlogin:\n  request: {url: 'https://a.example', json: {}}\n"+rest, nil, a)
	return call(t, src, agent.StepLogin, agent.Session{})
}

// Rule 13: what is a success.
func TestSuccess(t *testing.T) {
	const tok = "  extract: {token: {pointer: /token}}\n"
	for _, c := range []struct {
		rest string
		a    answer
		good bool
	}{
		{tok, answer{200, nil, `{"token":"t"}`}, true},
		{tok, answer{204, nil, `{"token":"t"}`}, true},
		{tok + "  success: {status: [201, 202]}", answer{200, nil, `{"token":"t"}`}, false},
		{tok + "  success: {status: 4xx}", answer{418, nil, `{"token":"t"}`}, true},
		{tok, answer{200, nil, `{"token":""}`}, false},
		{tok, answer{200, nil, `{"token":null}`}, false},
		{tok, answer{200, nil, `{"token":5}`}, false},
		{tok, answer{200, nil, `{"token":{"a":1}}`}, false},
		{tok, answer{200, nil, `{"token":"t"} trailing`}, false},
		{tok, answer{200, nil, `{"token":"t"`}, false},
		{tok, answer{200, nil, `token`}, false},
		{tok, answer{200, map[string]string{"Content-Type": "text/html"}, `{"token":"t"}`}, false},
		{tok, answer{302, map[string]string{"Location": "/x"}, `{"token":"t"}`}, false},
		{tok + "  success: {absent: /error}", answer{200, nil, `{"token":"t","error":{}}`}, false},
		{tok + "  success: {absent: [/error]}", answer{200, nil, `{"token":"t","error":null}`}, true},
		{tok + "  success: {present: /ok}", answer{200, nil, `{"token":"t"}`}, false},
		{tok + "  success: {equals: {/status/code: 0}}", answer{200, nil, `{"token":"t","status":{"code":0}}`}, true},
		{tok + "  success: {equals: {/status/code: 0}}", answer{200, nil, `{"token":"t","status":{"code":7}}`}, false},
		{tok + "  success: {equals: {/s: [a, b]}}", answer{200, nil, `{"token":"t","s":"b"}`}, true},
	} {
		g, err := one(t, c.rest, c.a)
		if c.good && (err != nil || g.Token.Reveal() != "t") {
			t.Errorf("%s %v: %v", c.rest, c.a, err)
		} else if !c.good && err == nil {
			t.Errorf("%s %v is a success", c.rest, c.a)
		} else if !c.good {
			wantKind(t, err, agent.Misconfigured)
		}
	}
}

// Rule 14: where things are found.
func TestExtract(t *testing.T) {
	deep := `{"imdata":[{"a/b":{"esc.app":"tok","~":"x"}}],"n":5}`
	for _, c := range []struct {
		extract, want string
		a             answer
	}{
		{"{pointer: /imdata/0/a~1b/esc.app}", "tok", answer{200, nil, deep}},
		{"{pointer: /imdata/0/a~1b/~0}", "x", answer{200, nil, deep}},
		{"{pointer: /imdata/00/a~1b/~0}", "", answer{200, nil, deep}},
		{"{pointer: /imdata/-1}", "", answer{200, nil, deep}},
		{"{header: X-Subject-Token}", "tok", answer{201, map[string]string{"X-Subject-Token": "tok"}, ""}},
		{"{cookie: JSESSIONID}", "tok", answer{200, map[string]string{"Set-Cookie": "JSESSIONID=tok; Path=/; HttpOnly"}, ""}},
		{"{cookie: other}", "", answer{200, map[string]string{"Set-Cookie": "JSESSIONID=tok"}, ""}},
		{"{body: text}", "tok", answer{200, nil, "tok\n"}},
		{"{body: json}", "tok", answer{200, nil, `"tok"`}},
		{"{body: json}", "", answer{200, nil, `{"a":"tok"}`}},
		{`{body: text, trim: '"'}`, "tok", answer{200, nil, `"tok"`}},
		{"{body: text}", "", answer{200, nil, "to ken"}},
		{"{body: text}", "", answer{200, nil, "to\r\nken"}},
		{"{body: text}", "", answer{200, nil, "tökén"}},
		{"{body: text}", "", answer{200, nil, strings.Repeat("x", 64<<10+1)}},
		{"{pointer: /token}", "", answer{200, nil, `{"token":"a\u0000b"}`}},
	} {
		g, err := one(t, "  extract: {token: "+c.extract+"}", c.a)
		if c.want == "" {
			wantKind(t, err, agent.Misconfigured)
		} else if err != nil || g.Token.Reveal() != c.want {
			t.Errorf("%s: %v", c.extract, err)
		}
	}
	g, err := one(t, "  extract: {token: {pointer: /t}, refresh_token: {pointer: /r, optional: true}, type: {pointer: /ty}, extra.url: {pointer: /u}, extra.gone: {pointer: /g, optional: true}}",
		answer{200, nil, `{"t":"t","ty":"MAC","u":"https://x.example"}`})
	if err != nil || g.Type != "MAC" || g.Extra["url"] != "https://x.example" || len(g.Extra) != 1 || !g.RefreshToken.IsZero() {
		t.Errorf("%+v, %v", g, err)
	}
	_, err = one(t, "  extract: {token: {pointer: /t}, extra.url: {pointer: /u}}", answer{200, nil, `{"t":"t","u":"a\r\nEvil: 1"}`})
	wantKind(t, err, agent.Misconfigured)
}

// Rule 15 and the contract: the odd ways in which servers tell of time.
func TestExpiry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		now := time.Now()
		date := map[string]string{"Date": now.UTC().Format(nethttp.TimeFormat)}
		iso := now.UTC().Truncate(time.Second).Add(time.Hour)
		for _, c := range []struct {
			extract, body string
			want          time.Duration // 0: misconfigured
		}{
			{"expires_in: {pointer: /e}", `"e":1799`, 1798 * time.Second},
			{"expires_in: {pointer: /e}", `"e":"1799"`, 1798 * time.Second},
			{"expires_in: {pointer: /e}", `"e":1799.5`, 1799500 * time.Millisecond},
			{"expires_in: {pointer: /e, unit: min}", `"e":5`, 299 * time.Second},
			{"expires_in: {pointer: /e, unit: ms}", `"e":90000`, 89 * time.Second},
			{"expires_in: {pointer: /e}", `"e":1e300`, 100*365*24*time.Hour - time.Second},
			{"expires_in: {pointer: /e}", `"e":0`, 0},
			{"expires_in: {pointer: /e}", `"e":-5`, 0},
			{"expires_in: {pointer: /e}", `"e":"soon"`, 0},
			{"expires_in: {pointer: /e}", `"x":1`, 0},
			{"expires_in: {pointer: /e, optional: true}", `"x":1`, time.Minute},
			{"expires_in: {pointer: /e, optional: true}", `"e":null`, time.Minute},
			{"expires_in: {pointer: /e, optional: true}", `"e":"soon"`, time.Minute},
			{"expires_at: {pointer: /e}", fmt.Sprintf(`"e":%d`, iso.Unix()), time.Hour - time.Second},
			{"expires_at: {pointer: /e}", fmt.Sprintf(`"e":"%d"`, iso.UnixMilli()), time.Hour - time.Second},
			{"expires_at: {pointer: /e, unit: us}", fmt.Sprintf(`"e":%d`, iso.UnixMicro()), time.Hour - time.Second},
			{"expires_at: {pointer: /e}", fmt.Sprintf(`"e":%q`, iso.Format(time.RFC3339)), time.Hour - time.Second},
			{"expires_at: {pointer: /e}", fmt.Sprintf(`"e":%q`, iso.Format("2006-01-02T15:04:05.000-0700")), time.Hour - time.Second},
			{"expires_at: {pointer: /e, layout: rfc1123z}", fmt.Sprintf(`"e":%q`, iso.Format(time.RFC1123Z)), time.Hour - time.Second},
			{"expires_at: {pointer: /e}", `"e":"9999-12-31T23:59:59Z"`, 100 * 365 * 24 * time.Hour},
			{"expires_at: {pointer: /e}", fmt.Sprintf(`"e":%d`, now.Unix()-5), 0},
			{"expires_in: {pointer: /a}, expires_at: {pointer: /e}", fmt.Sprintf(`"a":60,"e":%d`, iso.Unix()), 59 * time.Second},
		} {
			g, err := one(t, "  extract: {token: {pointer: /token}, "+c.extract+"}", answer{200, date, `{"token":"t",` + c.body + `}`})
			if c.want == 0 {
				wantKind(t, err, agent.Misconfigured)
			} else if err != nil || g.Life != c.want {
				t.Errorf("%s of %s: got %v, %v; want %v", c.extract, c.body, g, err, c.want)
			}
		}
	})
}

func TestOtherClocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		now := time.Now()
		date := map[string]string{"Date": now.UTC().Format(nethttp.TimeFormat)}
		g, err := one(t, "  extract: {token: {pointer: /t}, refresh_token: {pointer: /r}, refresh_expires_in: {pointer: /re}, session_expires_at: {pointer: /se}}",
			answer{200, date, fmt.Sprintf(`{"t":"t","r":"r","re":600,"se":%d}`, now.Unix()+900)})
		if err != nil || g.RefreshLife != 599*time.Second || g.SessionLife != 899*time.Second {
			t.Errorf("%+v, %v", g, err)
		}
		far := map[string]string{"Date": now.Add(48 * time.Hour).UTC().Format(nethttp.TimeFormat)}
		g, err = one(t, "  extract: {token: {pointer: /t}}", answer{200, far, `{"t":"t"}`})
		if err != nil || g.HasSkew || g.Note == "" {
			t.Errorf("a Date two days off was believed: %+v, %v", g, err)
		}
		g, err = one(t, "  extract: {token: {pointer: /t}}", answer{200, nil, `{"t":"t"}`})
		if err != nil || !g.IatLife || g.Note != "" {
			t.Errorf("nothing ties a declared life to this answer: %+v, %v", g, err)
		}
	})
}

// Rule 18: rules, before success, first match wins.
func TestRules(t *testing.T) {
	const head = "  extract: {token: {pointer: /token}}\n  errors:\n"
	bubble(t, func(t *testing.T) {
		off := map[string]string{"Date": time.Now().Add(2 * time.Minute).UTC().Format(nethttp.TimeFormat)}
		for _, c := range []struct {
			rule string
			a    answer
			want agent.Kind // "": a token
			wait time.Duration
		}{
			{"{present: /mfa_token, means: needs_human}", answer{200, nil, `{"token":"t","mfa_token":"hunter2"}`}, agent.NeedsHuman, 0},
			{"{present: /mfa_token, means: needs_human}", answer{200, nil, `{"token":"t","mfa_token":null}`}, "", 0},
			{"{status: 401, pointer: /code, equals: LOCKED, means: locked, wait: 5m}", answer{401, nil, `{"code":"LOCKED"}`}, agent.Locked, 5 * time.Minute},
			{"{status: 401, pointer: /code, equals: LOCKED, means: locked, wait: 5m}", answer{401, nil, `{"code":"X"}`}, agent.Rejected, 0},
			{"{status: 401, pointer: /code, equals: [A, 17], means: locked}", answer{401, nil, `{"code":17.0}`}, agent.Locked, 0},
			{"{status: 4xx, pointer: /m, matches: '(?i)locked', means: locked}", answer{403, nil, `{"m":"Account LOCKED, hunter2"}`}, agent.Locked, 0},
			{"{status: 4xx, pointer: /m, matches: '^x$', means: locked}", answer{403, nil, `not json`}, agent.Rejected, 0},
			{"{status: [401, 403], empty: true, means: transient}", answer{403, nil, " \n"}, agent.Transient, 0},
			{"{status: 401, empty: true, means: transient}", answer{401, nil, "{}"}, agent.Rejected, 0},
			{"{status: 401, empty: false, means: transient}", answer{401, nil, "{}"}, agent.Transient, 0},
			{"{header: X-Err, means: misconfigured}", answer{401, map[string]string{"X-Err": "a"}, ""}, agent.Misconfigured, 0},
			{"{header: X-Err, equals: b, means: misconfigured}", answer{401, map[string]string{"X-Err": "a"}, ""}, agent.Rejected, 0},
			{"{header: X-Err, matches: '^a', means: misconfigured}", answer{401, map[string]string{"X-Err": "ab"}, ""}, agent.Misconfigured, 0},
			{"{status: 401, skew: 1m, means: transient}", answer{401, off, ""}, agent.Transient, 0},
			{"{status: 401, skew: 3m, means: transient}", answer{401, off, ""}, agent.Rejected, 0},
			{"{status: 401, skew: 1m, means: transient}", answer{401, nil, ""}, agent.Rejected, 0},
			{"{step: refresh, status: 401, means: transient}", answer{401, nil, ""}, agent.Rejected, 0},
			{"{step: [login, refresh], status: 401, means: transient}", answer{401, nil, ""}, agent.Transient, 0},
			{"{status: 302, means: rejected}", answer{302, nil, ""}, agent.Rejected, 0},
			{"{status: 429, means: throttled, wait: 1m}", answer{429, map[string]string{"Retry-After": "90"}, ""}, agent.Throttled, 90 * time.Second},
			{"{status: 429, means: throttled, wait: 1m}", answer{429, map[string]string{"Retry-After": "9"}, ""}, agent.Throttled, time.Minute},
			{"{status: 429, means: throttled, wait_max: 5s}", answer{429, map[string]string{"Retry-After": "90"}, ""}, agent.Throttled, 5 * time.Second},
			{"{status: 401, means: clock}", answer{401, nil, ""}, agent.Misconfigured, 0}, // nothing is signed
		} {
			_, err := one(t, head+"    - "+c.rule+"\n    - {status: 401, means: rejected}", c.a)
			if c.want == "" {
				if err != nil {
					t.Errorf("%s: %v", c.rule, err)
				}
				continue
			}
			if e := wantKind(t, err, c.want); e.Wait != c.wait {
				t.Errorf("%s: wait %v; want %v", c.rule, e.Wait, c.wait)
			}
		}
	})
	src, _ := only(t, simple+"errors: [{status: 401, means: locked, hint: ours}]", nil, answer{401, nil, `{"m":"hunter2"}`})
	_, err := call(t, src, agent.StepLogin, agent.Session{})
	if e := wantKind(t, err, agent.Locked); e.Detail != "server answered 401 (errors[0])" || e.Hint != "ours" {
		t.Errorf("%q %q", e.Detail, e.Hint)
	}
}

// Rule 19: what no rule knows.
func TestUnmatched(t *testing.T) {
	const html = "<!doctype html>"
	for _, c := range []struct {
		a              answer
		login, refresh agent.Kind
	}{
		{answer{400, nil, ""}, agent.Rejected, agent.SessionOver},
		{answer{401, nil, ""}, agent.Rejected, agent.SessionOver},
		{answer{403, nil, ""}, agent.Rejected, agent.SessionOver},
		{answer{422, nil, ""}, agent.Rejected, agent.SessionOver},
		{answer{404, nil, ""}, agent.Misconfigured, agent.Misconfigured},
		{answer{405, nil, ""}, agent.Misconfigured, agent.Misconfigured},
		{answer{401, nil, html}, agent.Misconfigured, agent.Misconfigured},
		{answer{200, nil, html}, agent.Misconfigured, agent.Misconfigured},
		{answer{511, nil, html}, agent.Misconfigured, agent.Misconfigured},
		{answer{302, nil, ""}, agent.Misconfigured, agent.Misconfigured},
		{answer{204, nil, ""}, agent.Misconfigured, agent.Misconfigured},
		{answer{408, nil, ""}, agent.Transient, agent.Transient},
		{answer{425, nil, ""}, agent.Transient, agent.Transient},
		{answer{500, nil, ""}, agent.Transient, agent.Transient},
		{answer{502, nil, html}, agent.Transient, agent.Transient},
		{answer{503, nil, ""}, agent.Transient, agent.Transient},
		{answer{503, map[string]string{"Retry-After": "3"}, ""}, agent.Throttled, agent.Throttled},
		{answer{429, nil, ""}, agent.Throttled, agent.Throttled},
	} {
		src, _ := only(t, simple+"refresh: {request: {url: 'https://a.example/r', bearer: true}, extract: {token: {pointer: /token}}}", nil, c.a)
		_, err := call(t, src, agent.StepLogin, agent.Session{})
		wantKind(t, err, c.login)
		_, err = call(t, src, agent.StepRefresh, agent.Session{Token: agent.NewSecret("hunter2"), Valid: true})
		wantKind(t, err, c.refresh)
	}
}

// Rule 17 and the contract: what a refresh spends.
func TestRefreshTokens(t *testing.T) {
	const yaml = simple + `
refresh:
  request: {url: "https://a.example/r", json: {r: "${refresh_token}"}}
  extract: {token: {pointer: /token}, refresh_token: {pointer: /r, optional: true}}
session: {rotates: true}
`
	src, s := only(t, yaml, nil)
	if _, err := src.Prepare(t.Context(), agent.StepRefresh, agent.Session{Token: agent.NewSecret("t"), Valid: true}); err != agent.ErrPassedOver {
		t.Errorf("an unset refresh token: %v", err)
	}
	session := agent.Session{Token: agent.NewSecret("t"), RefreshToken: agent.NewSecret("r1")}
	at, err := src.Prepare(t.Context(), agent.StepRefresh, session)
	if err != nil || !at.Spends || !src.Traits().Rotates {
		t.Fatalf("it spends: %v", err)
	}
	if _, err := at.Send(t.Context()); err != nil || s.last().body != `{"r":"r1"}` {
		t.Errorf("%v, %q", err, s.last().body)
	}
	broken := bind(t, compile(t, "http", decode(t, yaml)), refusing{}, nil, nil)
	_, err = call(t, broken, agent.StepRefresh, session)
	wantKind(t, err, agent.Ambiguous)
	_, err = call(t, broken, agent.StepLogin, session)
	wantKind(t, err, agent.Transient)
	src, _ = only(t, yaml, nil, answer{503, nil, ""})
	_, err = call(t, src, agent.StepRefresh, session)
	wantKind(t, err, agent.Transient) // a whole answer came
}

type refusing struct{}

func (refusing) RoundTrip(*nethttp.Request) (*nethttp.Response, error) {
	return nil, fmt.Errorf("hunter2 broke")
}

func TestExtendAndLogout(t *testing.T) {
	src, s := only(t, `
lifetime: {max: 20m}
login:
  request: {url: "https://a.example/s", json: {}}
  extract: {token: {pointer: /token}, extra.id: {pointer: /id}}
extend: {request: {method: PATCH, url: "https://a.example/s/${token}", headers: {X-Id: "${extra.id}"}}, extract: {expires_in: {pointer: /timeout}}}
logout: {request: {method: DELETE, url: "https://a.example/s/${extra.id}", bearer: true}}
`, nil, answer{200, nil, `{"token":"to/ken","id":"7"}`}, answer{200, nil, `{"timeout":600}`}, answer{204, nil, ""}, answer{401, nil, ""})
	if tr := src.Traits(); !tr.CanRefresh || !tr.CanLogout {
		t.Errorf("%+v", tr)
	}
	g := mustLogin(t, src)
	next, err := call(t, src, agent.StepRefresh, sessionOf(g))
	if err != nil || !next.Token.IsZero() || next.Life != 599*time.Second {
		t.Errorf("%+v, %v", next, err)
	}
	if a := s.last(); a.method != "PATCH" || a.url != "https://a.example/s/to%2Fken" || a.header.Get("X-Id") != "7" {
		t.Errorf("asked %+v", a)
	}
	if _, err = call(t, src, agent.StepLogout, sessionOf(g)); err != nil {
		t.Error(err)
	}
	if a := s.last(); a.method != "DELETE" || a.header.Get("Authorization") != "Bearer to/ken" {
		t.Errorf("asked %+v", a)
	}
	_, err = call(t, src, agent.StepLogout, sessionOf(g))
	wantKind(t, err, agent.SessionOver)
	for _, step := range []agent.Step{agent.StepRefresh, agent.StepLogout} {
		if _, err := src.Prepare(t.Context(), step, agent.Session{}); err != agent.ErrPassedOver {
			t.Errorf("%s of nothing: %v", step, err)
		}
	}
}

// A request that holds something of the moment is made when it is sent, not
// when it was prepared: it may have waited for its turn.
func TestSignedWhenSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		api, src := cylance(t, standin.CylanceOptions{}, nil)
		at, err := src.Prepare(t.Context(), agent.StepLogin, agent.Session{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if _, err := at.Send(t.Context()); err != nil {
			t.Error(err)
		}
		if n := api.Counts(); n.Tries != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// A signed login that is refused by a server whose clock is off is signed again
// by that clock, without a rule that says so; a right clock makes it a refusal.
func TestClockWithoutARule(t *testing.T) {
	const yaml = `
lifetime: {max: 60s}
vars: {j: {sign: {algorithm: HS256, key: k, lifetime: 1m, claims: {jti: "${uuid()}"}}}}
login: {request: {url: "https://a.example", json: {j: "${j}"}}, extract: {token: {pointer: /token}}}
`
	bubble(t, func(t *testing.T) {
		for off, tries := range map[time.Duration]int{5 * time.Minute: 2, 5 * time.Second: 1} {
			date := map[string]string{"Date": time.Now().Add(off).UTC().Format(nethttp.TimeFormat)}
			src, s := only(t, yaml, nil, answer{401, date, ""}, answer{200, date, `{"token":"t"}`})
			_, err := call(t, src, agent.StepLogin, agent.Session{})
			if len(s.asked) != tries || (err == nil) != (tries == 2) {
				t.Errorf("%v off: %d tries, %v", off, len(s.asked), err)
			}
			if tries == 2 && s.asked[0].body == s.asked[1].body {
				t.Error("sent again as it was")
			}
		}
	})
}

// The example of the contract.
func TestInhouse(t *testing.T) {
	t.Setenv("INHOUSE_PASSWORD", "hunter2")
	src, s := only(t, `
vars: {url: https://api.example.com, user: bob, password: {env: INHOUSE_PASSWORD}}
login:
  request: {method: POST, url: "${url}/session", json: {user: "${user}", pass: "${password}"}}
  success: {status: [200, 201], absent: [/error]}
  extract: {token: {pointer: /data/token}, refresh_token: {pointer: /data/refresh}, expires_in: {pointer: /data/ttl, unit: s}}
  errors: [{status: 401, pointer: /code, equals: LOCKED, means: locked, wait: 5m}, {status: 401, means: rejected}]
refresh:
  request: {method: POST, url: "${url}/session/refresh", bearer: true, json: {refresh: "${refresh_token}"}}
  extract: {token: {pointer: /data/token}}
logout: {request: {method: DELETE, url: "${url}/session", bearer: true}}
lifetime: {max: 60s}
session: {max_age: 15m, max_refreshes: 20}
present: {header: X-Auth-Token, value: "${token}"}
`, nil, answer{201, nil, `{"data":{"token":"t","refresh":"r","ttl":40}}`})
	g := mustLogin(t, src)
	if a := s.last(); a.url != "https://api.example.com/session" || a.body != `{"pass":"hunter2","user":"bob"}` {
		t.Errorf("asked %+v", a)
	}
	if g.Life != 39*time.Second || g.RefreshToken.Reveal() != "r" {
		t.Errorf("%+v", g)
	}
	if _, err := call(t, src, agent.StepRefresh, sessionOf(g)); err != nil {
		t.Error(err)
	}
	if a := s.last(); a.body != `{"refresh":"r"}` || a.header.Get("Authorization") != "Bearer t" {
		t.Errorf("asked %+v", a)
	}
}

func TestTransportsArePassedThrough(t *testing.T) {
	if _, problems := tryBind(compile(t, "commander", preset(t, "commander")), nil,
		values{"url": base, "username": "u", "password": "p"}, &http.Overrides{TLS: &wire.TLS{CAFile: "/nonexistent"}}); len(problems) != 1 || problems[0].Path != "tls.ca_file" {
		t.Errorf("%v", problems)
	}
	if _, problems := tryBind(compile(t, "commander", preset(t, "commander")), nil,
		values{"url": "http://vendor.example/rest/v3", "username": "u", "password": "p"}, nil); len(problems) != 1 || problems[0].Path != "url" || !strings.Contains(problems[0].Msg, "without encryption") {
		t.Errorf("%v", problems)
	}
}

package sink

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"renewd/agent"
)

func publication(token string) *agent.Publication {
	berlin := time.FixedZone("CET", 3600)
	return &agent.Publication{
		Name: "4-commander.x", Token: agent.NewSecret(token), Type: "Bearer", Generation: 12, Revision: 3,
		IssuedAt:  time.Date(2026, 11, 21, 10, 0, 0, 999, berlin),
		ExpiresAt: time.Date(2026, 11, 21, 11, 0, 0, 999_999_999, berlin),
	}
}

func render(t *testing.T, o Options, p *agent.Publication) string {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Render(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFormats(t *testing.T) {
	odd := publication(`a"b\c'd$e`)
	odd.Extra = map[string]string{"tenant": "t <1>\n"}
	odd.SessionExpiresAt = odd.ExpiresAt.Add(time.Hour)
	odd.Presentation = &agent.Presentation{Header: "X-Auth", Value: func(tok string, _ map[string]string) string { return tok }}
	inQuery := publication("a+b&c")
	inQuery.Presentation = &agent.Presentation{Query: "api_key"}
	tests := []struct {
		name string
		o    Options
		p    *agent.Publication
		want string
	}{
		{"raw, in the query", Options{}, inQuery, "a+b&c"},
		{"curl, in the query", Options{Format: "curl"}, inQuery, `url-query = "+api_key=a%2Bb%26c"` + "\n"},
		{"env, in the query", Options{Format: "env"}, inQuery, `_4_COMMANDER_X_TOKEN='a+b&c'
_4_COMMANDER_X_EXPIRES_AT=2026-11-21T10:00:00Z
_4_COMMANDER_X_EXPIRES_UNIX=1795255200
_4_COMMANDER_X_QUERY='api_key=a%2Bb%26c'
`},
		{"json, in the query", Options{Format: "json"}, inQuery, `{"token":"a+b&c","type":"Bearer","generation":12,` +
			`"issued_at":"2026-11-21T09:00:00Z","expires_at":"2026-11-21T10:00:00Z","session_expires_at":null,"name":"4-commander.x",` +
			`"header":"","header_value":"","query":"api_key","query_value":"a+b&c","expires_at_unix":1795255200,"extra":{}}` + "\n"},
		{"template, in the query", Options{Template: `{{.query}} {{.query_value}}{{.header}}`}, inQuery, "api_key a+b&c"},
		{"raw", Options{}, publication("abc"), "abc"},
		{"raw, newline", Options{Format: "raw", Newline: true}, publication("abc"), "abc\n"},
		{"header", Options{Format: "header"}, publication("abc"), "Authorization: Bearer abc\n"},
		{"header, presented otherwise", Options{Format: "header"}, odd, `X-Auth: a"b\c'd$e` + "\n"},
		{"curl", Options{Format: "curl"}, odd, `header = "X-Auth: a\"b\\c'd$e"` + "\n"},
		{"netrc", Options{Format: "netrc", Machine: "h.example", Login: "bob"}, publication("abc"), "machine h.example login bob password abc\n"},
		{"env", Options{Format: "env"}, publication("a.b~c+/=:-_Z9"), `_4_COMMANDER_X_TOKEN=a.b~c+/=:-_Z9
_4_COMMANDER_X_EXPIRES_AT=2026-11-21T10:00:00Z
_4_COMMANDER_X_EXPIRES_UNIX=1795255200
_4_COMMANDER_X_HEADER='Authorization: Bearer a.b~c+/=:-_Z9'
`},
		{"json", Options{Format: "json"}, publication("a<b>&c"), `{"token":"a<b>&c","type":"Bearer","generation":12,` +
			`"issued_at":"2026-11-21T09:00:00Z","expires_at":"2026-11-21T10:00:00Z","session_expires_at":null,"name":"4-commander.x",` +
			`"header":"Authorization","header_value":"Bearer a<b>&c","expires_at_unix":1795255200,"extra":{}}` + "\n"},
		{"json, all fields", Options{Format: "json"}, odd, `{"token":"a\"b\\c'd$e","type":"Bearer","generation":12,` +
			`"issued_at":"2026-11-21T09:00:00Z","expires_at":"2026-11-21T10:00:00Z","session_expires_at":"2026-11-21T11:00:00Z","name":"4-commander.x",` +
			`"header":"X-Auth","header_value":"a\"b\\c'd$e","expires_at_unix":1795255200,"extra":{"tenant":"t <1>\n"}}` + "\n"},
		{"template", Options{Template: `{{.name}}={{.token}} {{with .extra}}{{.tenant}}{{end}}`}, odd, `4-commander.x=a"b\c'd$e t <1>` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, render(t, tt.o, tt.p)); d != "" {
				t.Fatal(d)
			}
		})
	}
}

func TestOptionsThatAreWrongAreErrorsThatNameThem(t *testing.T) {
	for want, o := range map[string]Options{
		`format: "jsn"`:               {Format: "jsn"},
		"newline: it belongs":         {Format: "json", Newline: true},
		"machine: format netrc needs": {Format: "netrc", Login: "x"},
		`login: "a b" holds`:          {Format: "netrc", Machine: "m", Login: "a b"},
		"template: format template":   {Format: "template"},
		"template: it belongs":        {Format: "raw", Template: "x"},
		`no entry for key "tokn"`:     {Template: "{{.tokn}}"},
		"unclosed action":             {Template: "{{.token"},
		"missing value for if":        {Template: "{{if}}"},
		"fields are those":            {Template: "{{.extra.ok}} {{.nope.deeper}}"},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", o, err, want)
		}
	}
}

func TestErrorsDoNotQuoteTheToken(t *testing.T) {
	const token = "top-secret-token"
	for _, tmpl := range []string{
		"{{.extra.missing}}",
		"{{index .token 99}}",
		`{{slice .token 5 99}}`,
		`{{if eq .name "name"}}ok{{else}}{{call .token}}{{end}}`,
		`{{if eq .name "name"}}ok{{else}}{{len 3}}{{end}}`,
	} {
		f, err := New(Options{Template: tmpl})
		if err != nil {
			if strings.Contains(tmpl, "99") {
				continue // refused at once, with a made-up token
			}
			t.Fatalf("%s: %v", tmpl, err)
		}
		if b, err := f.Render(publication(token)); err == nil || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %q, %v", tmpl, b, err)
		}
	}
}

// A reader that asks for a header gets none that is wrong.
func TestNoHeaderForAQuery(t *testing.T) {
	p := publication("abc")
	p.Presentation = &agent.Presentation{Query: "key"}
	f, _ := New(Options{Format: "header"})
	if b, err := f.Render(p); !errors.Is(err, ErrNoHeader) {
		t.Errorf("%q, %v", b, err)
	}
}

func TestAHeaderIsNeverTwo(t *testing.T) {
	p := publication("abc")
	p.Presentation = &agent.Presentation{Value: func(string, map[string]string) string { return "x\r\nEvil: 1" }}
	for _, format := range []string{"header", "curl", "env"} {
		f, _ := New(Options{Format: format})
		if b, err := f.Render(p); err == nil {
			t.Errorf("%s: %q", format, b)
		}
	}
}

// What a shell, a JSON reader and curl make of every byte that a token may hold.
func TestReadersGetEveryByteBack(t *testing.T) {
	var all strings.Builder
	for c := byte('!'); c <= '~'; c++ {
		all.WriteByte(c)
	}
	p := publication(all.String())
	p.Name = "x"
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte(render(t, Options{Format: "env"}, p)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `. "$1" && printf '%s\n%s' "$X_TOKEN" "$X_HEADER"`, "sh", file).Output()
	if err != nil {
		t.Skip("no shell: ", err)
	}
	if want := all.String() + "\nAuthorization: Bearer " + all.String(); string(out) != want {
		t.Fatalf("got  %s\nwant %s", out, want)
	}
	var back Fields
	if err := json.Unmarshal([]byte(render(t, Options{Format: "json"}, p)), &back); err != nil || back.Token != all.String() {
		t.Fatalf("json: %q, %v", back.Token, err)
	}
	got := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got <- r.Method + r.URL.Query().Get("own") + r.URL.Query().Get("key") + r.Header.Get("Authorization")
	}))
	defer srv.Close()
	for want, pr := range map[string]*agent.Presentation{"POST1Bearer " + all.String(): nil, "POST1" + all.String(): {Query: "key"}} {
		p.Presentation = pr
		cmd := exec.Command("curl", "--noproxy", "*", "-sS", "-K", "-", "-d", "body", srv.URL+"?own=1")
		cmd.Stdin = strings.NewReader(render(t, Options{Format: "curl"}, p))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("no curl, or one of before 7.87: %v %s", err, out)
		}
		if h := <-got; h != want {
			t.Fatalf("curl sent %q; want %q", h, want)
		}
	}
}

package sink

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"renewd/agent"
)

// What is written by hand is what encoding/json writes.
func FuzzAppendJSON(f *testing.F) {
	for _, s := range []string{"", "plain", `quo"te\`, "<&>", "tab\tnul\x00", "é\u2028", "\xff", "~\x7f"} {
		f.Add(s, s, s, uint64(7), int64(1_700_000_000))
		f.Add("token", s, s, uint64(0), int64(0))
	}
	f.Fuzz(func(t *testing.T, token, name, extra string, generation uint64, at int64) {
		at %= 1 << 33
		token = strings.Map(func(r rune) rune {
			if r < 0x21 || r > 0x7e {
				return -1 // is never published
			}
			return r
		}, token)
		p := &agent.Publication{Token: agent.NewSecret(token), Type: name, Name: name, Generation: generation,
			IssuedAt: time.Unix(at, 5), ExpiresAt: time.Unix(at+60, 999)}
		for i := range 4 {
			var want bytes.Buffer
			enc := json.NewEncoder(&want)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(FieldsOf(p)); err != nil {
				t.Fatal(err)
			}
			if got := appendJSON([]byte("x"), p); string(got[1:]) != want.String() {
				t.Fatalf("got  %s\nwant %s", got[1:], want.String())
			}
			p.Extra = map[string]string{extra: name, "b": extra, "a": token}
			p.SessionExpiresAt = time.Unix(at, 0)
			if i == 2 {
				p.Presentation = &agent.Presentation{Query: name}
				continue
			}
			if i > 0 {
				p.Presentation = &agent.Presentation{Value: func(token string, _ map[string]string) string { return token + "<" }}
				continue
			}
			p.Presentation = &agent.Presentation{Header: name}
		}
	})
}

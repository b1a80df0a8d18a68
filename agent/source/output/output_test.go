package output_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/source/output"
	"renewd/agent/source/spec"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		format, in string
		want       string // token
		err        error
	}{
		{"", "tok\n", "tok", nil}, {"raw", "tok\r\n", "tok", nil}, {"raw", "", "", output.ErrNone}, {"raw", "to ken", "", output.ErrIllegal},
		{"raw", "a\nb", "", output.ErrIllegal}, {"raw", strings.Repeat("x", 64<<10+1), "", output.ErrIllegal},
		{"json", `{"token":"t"}`, "t", nil}, {"json", `{"access_token":"t","expires_in":"60"}`, "t", nil}, {"json", `[]`, "", output.ErrNotJSON},
		{"json", `{"token":"t"}{}`, "", output.ErrNotJSON}, {"json", `null`, "", output.ErrNotJSON}, {"json", `{}`, "", output.ErrNone},
		{"json", `{"token":"t","expires_in":"x"}`, "", output.ErrExpiry}, {"json", `{"token":"t","expiry":"x"}`, "", output.ErrExpiry},
		{"exec_credential", `{"status":{"token":"t","expirationTimestamp":"2026-11-01T13:00:00Z"}}`, "t", nil},
		{"exec_credential", `{"token":"t"}`, "", output.ErrNone}, {"exec_credential", `{"status":5}`, "", output.ErrNone},
		{"aws", `{"Version":1,"AccessKeyId":"a","SecretAccessKey":"s","SessionToken":"t","Expiration":"2026-11-01T13:00:00Z"}`, "t", nil},
	} {
		got, err := output.Parse(c.format, []byte(c.in))
		if !errors.Is(err, c.err) || err == nil && got.Value != c.want {
			t.Errorf("%s %q: %v, %v", c.format, c.in, got, err)
		}
	}
	got, _ := output.Parse("aws", []byte(`{"AccessKeyId":"a","SecretAccessKey":"s","SessionToken":"t"}`))
	if got.Extra["access_key_id"] != "a" || got.Extra["secret_access_key"] != "s" {
		t.Errorf("%v", got.Extra)
	}
}

func TestGrant(t *testing.T) {
	jwt := "e30." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"iat":%d,"exp":%d}`, now.Unix()-3000, now.Unix()+600)) + ".x"
	in := 100 * time.Second
	no := false
	for _, c := range []struct {
		name string
		t    output.Token
		age  time.Duration
		l    *spec.Lifetime
		want time.Duration // 0: expired, below: unknown
	}{
		{"nothing known", output.Token{Value: "t"}, 0, nil, -1},
		{"a cached JWT by our clock", output.Token{Value: jwt}, 0, nil, 599 * time.Second},
		{"a JWT not read", output.Token{Value: jwt}, 0, &spec.Lifetime{JWT: &no}, -1},
		{"default", output.Token{Value: "t"}, 0, &spec.Lifetime{Default: "1m"}, time.Minute},
		{"default gives way", output.Token{Value: jwt}, 0, &spec.Lifetime{Default: "1m"}, 599 * time.Second},
		{"max", output.Token{Value: jwt}, 0, &spec.Lifetime{Max: "1m"}, time.Minute},
		{"max from when it was made", output.Token{Value: jwt}, 40 * time.Second, &spec.Lifetime{Max: "1m"}, 20 * time.Second},
		{"too old", output.Token{Value: jwt}, time.Hour, &spec.Lifetime{Max: "1m"}, 0},
		{"expires_in from when it was made", output.Token{Value: "t", ExpiresIn: &in}, 40 * time.Second, nil, 59 * time.Second},
		{"expires_at", output.Token{Value: "t", ExpiresAt: now.Add(time.Hour)}, 0, nil, time.Hour - time.Second},
		{"expired", output.Token{Value: "t", ExpiresAt: now.Add(-time.Hour)}, 0, nil, 0},
	} {
		g, err := c.t.Grant(agent.Instant{Wall: now}, now.Add(-c.age), c.l)
		switch {
		case c.want > 0 && (err != nil || g.Life != c.want):
			t.Errorf("%s: %v, %v", c.name, g, err)
		case c.want == 0 && (err == nil || err.Kind != agent.Transient):
			t.Errorf("%s: %v, %v", c.name, g, err)
		case c.want < 0 && (err == nil || err.Kind != agent.Misconfigured):
			t.Errorf("%s: %v, %v", c.name, g, err)
		}
	}
}

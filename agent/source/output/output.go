// Package output reads what a program prints, or a file holds, as a token.
package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/source/life"
	"renewd/agent/source/signer"
	"renewd/agent/source/spec"
)

// Formats are the words for what Parse reads: the token alone, a JSON object
// (our own format, or token, access_token, expires_in, expires_at and expiry),
// a Kubernetes ExecCredential, and what an AWS credential_process prints.
func Formats() []string { return []string{"raw", "json", "exec_credential", "aws"} }

// Token is what was read.
type Token struct {
	Value     string
	Type      string
	Extra     map[string]string
	ExpiresIn *time.Duration
	ExpiresAt time.Time
}

// Errors of Parse and Grant; none quotes what was read.
var (
	ErrNotJSON = errors.New("it is not one JSON object")
	ErrNone    = errors.New("it holds no token")
	ErrIllegal = errors.New("its token holds a line end, a space or another byte that no token may hold")
	ErrExpiry  = errors.New("its expiry cannot be read")
)

// Parse reads b in a format ("" is raw).
func Parse(format string, b []byte) (*Token, error) {
	if format == "" || format == "raw" {
		return checked(&Token{Value: strings.TrimRight(string(b), "\r\n")})
	}
	var doc map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil || doc == nil || len(bytes.TrimSpace(b[d.InputOffset():])) != 0 {
		return nil, ErrNotJSON
	}
	t := &Token{}
	var at string
	switch format {
	case "json":
		t.Value = first(doc, "token", "access_token")
		t.Type = first(doc, "type", "token_type")
		at = first(doc, "expires_at", "expires_at_unix", "expiry", "expires_on")
		if in := first(doc, "expires_in"); in != "" {
			d, err := life.ReadSpan(in, "")
			if err != nil {
				return nil, ErrExpiry
			}
			t.ExpiresIn = &d
		}
	case "exec_credential": // client.authentication.k8s.io, ExecCredential
		status, _ := doc["status"].(map[string]any)
		t.Value, at = first(status, "token"), first(status, "expirationTimestamp")
	case "aws": // credential_process, version 1
		t.Value, at = first(doc, "SessionToken", "SecretAccessKey"), first(doc, "Expiration")
		t.Extra = map[string]string{"access_key_id": first(doc, "AccessKeyId"), "secret_access_key": first(doc, "SecretAccessKey")}
	}
	var err error
	if t.ExpiresAt, err = life.ReadTime(at, "", ""); err != nil {
		return nil, ErrExpiry
	}
	return checked(t)
}

func first(m map[string]any, keys ...string) string {
	for _, k := range keys {
		switch v := m[k].(type) {
		case string:
			if v != "" {
				return v
			}
		case json.Number:
			return v.String()
		}
	}
	return ""
}

func checked(t *Token) (*Token, error) {
	if t.Value == "" {
		return nil, ErrNone
	}
	if len(t.Value) > 64<<10 {
		return nil, ErrIllegal
	}
	for i := range len(t.Value) {
		if t.Value[i] < 0x21 || t.Value[i] > 0x7e {
			return nil, ErrIllegal
		}
	}
	for _, v := range t.Extra {
		if strings.ContainsAny(v, "\r\n\x00") {
			return nil, ErrIllegal
		}
	}
	return t, nil
}

// Grant makes of a token what the agent wants to know. What is local tells its
// times by our clock; max is counted from made, when the token was made as far
// as that is known.
func (t *Token) Grant(sent agent.Instant, made time.Time, l *spec.Lifetime) (*agent.Grant, *agent.Error) {
	f := life.Facts{Sent: sent.Wall, Date: sent.Wall, ExpiresAt: t.ExpiresAt, ExpiresIn: t.ExpiresIn}
	age := max(0, sent.Wall.Sub(made))
	if f.ExpiresIn != nil {
		left := *f.ExpiresIn - age
		f.ExpiresIn = &left
	}
	if l == nil || l.JWT == nil || *l.JWT {
		times := signer.Peek(t.Value)
		f.Exp, f.Iat = times.Exp, times.Iat
	}
	if l != nil {
		f.Max, _ = l.Max.Parse()
		f.Default, _ = l.Default.Parse()
		f.Max, f.Default = less(f.Max, age), less(f.Default, age)
	}
	v := life.Compute(f)
	if !v.Known {
		return nil, &agent.Error{Kind: agent.Misconfigured, Detail: "nothing says how long the token lives", Hint: "lifetime: {max: …} or {default: …}"}
	}
	if v.Life <= 1 { // 1: see less
		return nil, &agent.Error{Kind: agent.Transient, Detail: "the token has already expired"}
	}
	return &agent.Grant{Sent: sent, Token: agent.NewSecret(t.Value), Type: t.Type, Extra: t.Extra, Life: v.Life, IatLife: v.Unanchored}, nil
}

// less takes an age off a declared life; a declared one stays above zero, so
// that Compute still counts it.
func less(d, age time.Duration) time.Duration {
	if d == 0 || age == 0 {
		return d
	}
	return max(d-age, 1)
}

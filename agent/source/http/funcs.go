package http

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"renewd/agent/source/spec"
)

// function is a function of expressions. An unset argument makes the result
// unset, so none of them sees one.
type function struct {
	name     string
	min, max int
	call     func(sc *scope, args []any) (any, error)
	timed    bool // differs from attempt to attempt
	check    func(args []*node) error
}

func functions() []*function {
	text := func(name string, f func(string) string) *function {
		return &function{name: name, min: 1, max: 1, call: func(_ *scope, a []any) (any, error) {
			s, err := toText(a[0])
			if err != nil {
				return nil, err
			}
			return f(s), nil
		}}
	}
	return []*function{
		// SHA-1 because emnify asks for it; nothing rests on its strength.
		text("sha1_hex", func(s string) string { h := sha1.Sum([]byte(s)); return hex.EncodeToString(h[:]) }),
		text("sha256_hex", func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }),
		text("base64", func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }),
		text("base64url", func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }),
		text("urlencode", percent),
		text("lower", strings.ToLower),
		text("upper", strings.ToUpper),
		{name: "trim", min: 1, max: 2, call: trim},
		{name: "hmac_sha256_hex", min: 2, max: 2, call: hmacHex},
		{name: "join", min: 2, max: 2, call: join},
		{name: "pairs", min: 2, max: 2, call: pairsOf},
		{name: "json", min: 2, max: 2, call: member, check: checkMember},
		{name: "uuid", timed: true, call: func(*scope, []any) (any, error) { return uuid(), nil }},
		{name: "now", timed: true, min: 1, max: 2, call: now, check: checkNow},
	}
}

// percent encodes all but the unreserved characters (RFC 3986 §2.3).
func percent(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func trim(_ *scope, a []any) (any, error) {
	s, err := toText(a[0])
	if err != nil || len(a) == 1 {
		return strings.TrimSpace(s), err
	}
	cut, err := toText(a[1])
	return strings.Trim(s, cut), err
}

// hmacHex takes the key first, then the text.
func hmacHex(_ *scope, a []any) (any, error) {
	key, err := toText(a[0])
	if err != nil {
		return nil, err
	}
	text, err := toText(a[1])
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil)), nil
}

// join takes a list and what goes between its elements; a scalar is a list of
// one.
func join(_ *scope, a []any) (any, error) {
	list, ok := a[0].([]any)
	if !ok {
		list = []any{a[0]}
	}
	sep, err := toText(a[1])
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(list))
	for i, e := range list {
		if texts[i], err = toText(e); err != nil {
			return nil, err
		}
	}
	return strings.Join(texts, sep), nil
}

// pairsOf makes a mapping of a list of texts, each a key and a value with sep
// between them.
func pairsOf(_ *scope, a []any) (any, error) {
	list, ok := a[0].([]any)
	if !ok {
		list = []any{a[0]}
	}
	sep, err := toText(a[1])
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(list))
	for _, e := range list {
		text, err := toText(e)
		if err != nil {
			return nil, err
		}
		k, v, ok := strings.Cut(text, sep)
		if !ok || k == "" {
			return nil, fmt.Errorf("pairs: want each as NAME%sVALUE", sep)
		}
		out[k] = v
	}
	return out, nil
}

// member gives one value of a text that is JSON, such as a key file. Errors never
// quote the text.
func member(sc *scope, a []any) (any, error) {
	if sc.static {
		return placeholder, nil
	}
	text, err := toText(a[0])
	if err != nil {
		return nil, err
	}
	path, err := toText(a[1])
	if err != nil {
		return nil, err
	}
	p, err := spec.ParsePointer(path)
	if err != nil {
		return nil, err
	}
	var doc any
	if json.Unmarshal([]byte(text), &doc) != nil {
		return nil, errors.New("json: the text is no JSON")
	}
	if v, ok := p.Get(doc); ok && v != nil {
		return v, nil
	}
	return nil, fmt.Errorf("json: the text has no %s", path)
}

func checkMember(args []*node) error {
	if args[1].kind != nodeLiteral {
		return nil
	}
	_, err := spec.ParsePointer(args[1].text)
	return err
}

// uuid is a random UUID (RFC 9562 §5.4).
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// now gives the server's time, as far as it is known, in a unit; its offset is a
// duration, with - before it for the past.
func now(sc *scope, a []any) (any, error) {
	unit, _ := a[0].(string)
	t := sc.now
	if len(a) == 2 {
		text, err := toText(a[1])
		if err != nil {
			return nil, err
		}
		d, err := offset(text)
		if err != nil {
			return nil, err
		}
		t = t.Add(d)
	}
	switch unit {
	case "s":
		return t.Unix(), nil
	case "ms":
		return t.UnixMilli(), nil
	case "us":
		return t.UnixMicro(), nil
	case "rfc3339":
		return t.UTC().Format(time.RFC3339), nil
	}
	return nil, errNowUnit
}

var errNowUnit = errors.New(`now: want "s", "ms", "us" or "rfc3339"`)

func offset(text string) (time.Duration, error) {
	rest, neg := strings.CutPrefix(text, "-")
	d, err := spec.ParseDuration(strings.TrimPrefix(rest, "+"))
	if neg {
		d = -d
	}
	return d, err
}

func checkNow(args []*node) error {
	if args[0].kind == nodeLiteral {
		if _, err := now(&scope{}, []any{args[0].text}); err != nil {
			return err
		}
	}
	if len(args) == 2 && args[1].kind == nodeLiteral {
		_, err := offset(args[1].text)
		return err
	}
	return nil
}

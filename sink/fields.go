package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"renewd/agent"
)

// Fields are what json shows and a template sees, under the same names.
type Fields struct {
	Token            string            `json:"token"`
	Type             string            `json:"type"`
	Generation       uint64            `json:"generation"`
	IssuedAt         string            `json:"issued_at"`
	ExpiresAt        string            `json:"expires_at"`
	SessionExpiresAt *string           `json:"session_expires_at"` // null: none known
	Name             string            `json:"name"`
	Header           string            `json:"header"`
	HeaderValue      string            `json:"header_value"`
	Query            string            `json:"query,omitempty"` // in place of a header, which is empty then
	QueryValue       string            `json:"query_value,omitempty"`
	ExpiresAtUnix    int64             `json:"expires_at_unix"`
	Extra            map[string]string `json:"extra"`
}

// FieldsOf reads a publication's fields; the result holds the token in clear.
func FieldsOf(p *agent.Publication) *Fields {
	f := &Fields{
		Token:         p.Token.Reveal(),
		Type:          p.Type,
		Generation:    p.Generation,
		IssuedAt:      stamp(p.IssuedAt),
		ExpiresAt:     stamp(p.ExpiresAt),
		Name:          p.Name,
		ExpiresAtUnix: p.ExpiresAt.Unix(),
		Extra:         p.Extra,
	}
	f.Header, f.HeaderValue = p.Header()
	f.Query, f.QueryValue = p.Query()
	if f.Extra == nil {
		f.Extra = map[string]string{}
	}
	if !p.SessionExpiresAt.IsZero() {
		s := stamp(p.SessionExpiresAt)
		f.SessionExpiresAt = &s
	}
	return f
}

// renderJSON gives one object on one line. Nothing is escaped for HTML: a token
// shall look as it is.
func renderJSON(b []byte, p *agent.Publication) ([]byte, error) {
	if b == nil {
		b = make([]byte, 0, 512+2*len(p.Token.Reveal()))
	}
	return appendJSON(b, p), nil
}

// appendJSON writes what encoding/json makes of FieldsOf(p), in a fifth of the
// time: a token that is read seldom is laid out for each read.
func appendJSON(b []byte, p *agent.Publication) []byte {
	b = append(b, `{"token":`...)
	from := len(b)
	if text, plain := p.Text(); plain {
		b = append(append(append(b, '"'), text...), '"')
	} else {
		b = appendString(b, text)
	}
	quoted := b[from+1 : len(b)-1]
	b = appendString(append(b, `,"type":`...), p.Type)
	b = strconv.AppendUint(append(b, `,"generation":`...), p.Generation, 10)
	b = appendStamp(append(b, `,"issued_at":`...), p.IssuedAt)
	b = appendStamp(append(b, `,"expires_at":`...), p.ExpiresAt)
	b = append(b, `,"session_expires_at":`...)
	if p.SessionExpiresAt.IsZero() {
		b = append(b, "null"...)
	} else {
		b = appendStamp(b, p.SessionExpiresAt)
	}
	b = appendString(append(b, `,"name":`...), p.Name)
	if name, ok := p.Bearer(); ok { // the usual case, without a second look at each byte
		b = appendString(append(b, `,"header":`...), name)
		b = append(append(append(b, `,"header_value":"Bearer `...), quoted...), '"')
	} else {
		name, value := p.Header()
		b = appendString(append(b, `,"header":`...), name)
		b = appendString(append(b, `,"header_value":`...), value)
		b = appendQuery(b, p)
	}
	b = strconv.AppendInt(append(b, `,"expires_at_unix":`...), p.ExpiresAt.Unix(), 10)
	b = append(b, `,"extra":{`...)
	if len(p.Extra) > 0 { // most have none, and an iterator costs more than that
		b = appendExtra(b, p.Extra)
	}
	return append(b, "}}\n"...)
}

func appendQuery(b []byte, p *agent.Publication) []byte {
	name, value := p.Query()
	if name == "" {
		return b
	}
	b = appendString(append(b, `,"query":`...), name)
	if value == "" {
		return b
	}
	return appendString(append(b, `,"query_value":`...), value)
}

func appendExtra(b []byte, extra map[string]string) []byte {
	for i, k := range slices.Sorted(maps.Keys(extra)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(appendString(b, k), ':'), extra[k])
	}
	return b
}

func appendStamp(b []byte, t time.Time) []byte {
	return append(t.UTC().Truncate(time.Second).AppendFormat(append(b, '"'), time.RFC3339), '"')
}

// appendString writes a JSON string; what needs escaping is left to encoding/json.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			var quoted bytes.Buffer
			enc := json.NewEncoder(&quoted)
			enc.SetEscapeHTML(false)
			_ = enc.Encode(s) // a string never fails
			return append(b, bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// scope is what a template's dot is: the fields by their JSON names.
func (f *Fields) scope() map[string]any {
	session := ""
	if f.SessionExpiresAt != nil {
		session = *f.SessionExpiresAt
	}
	return map[string]any{
		"token": f.Token, "type": f.Type, "generation": f.Generation, "issued_at": f.IssuedAt,
		"expires_at": f.ExpiresAt, "session_expires_at": session, "name": f.Name,
		"header": f.Header, "header_value": f.HeaderValue, "query": f.Query, "query_value": f.QueryValue, "expires_at_unix": f.ExpiresAtUnix, "extra": f.Extra,
	}
}

// template compiles text and tries it once, so that a misspelt field is an error
// of the config and not of the first token.
func (f *Format) template(text string) (*Format, error) {
	if text == "" {
		return nil, errors.New("template: format template needs it")
	}
	t, err := template.New("template").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	if err := try(t); err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	f.render = func(b []byte, p *agent.Publication) ([]byte, error) {
		out := bytes.NewBuffer(b)
		if err := t.Execute(out, FieldsOf(p).scope()); err != nil {
			return nil, censor(err, p)
		}
		return out.Bytes(), nil
	}
	return f, nil
}

// missing finds the key that a template asked for in vain. Package
// text/template tells it in the text alone; the tests would notice another one.
func missing(err error) (key string, ok bool) {
	_, after, _ := strings.Cut(err.Error(), `map has no entry for key "`)
	return strings.CutSuffix(after, `"`)
}

// try executes t on a token made up for it. Which extras a source brings is not
// known here, so every key that is missed is given to extra, once: a key that is
// missed again was looked for elsewhere.
func try(t *template.Template) error {
	extra := map[string]string{}
	p := &agent.Publication{
		Name: "name", Token: agent.NewSecret(strings.Repeat("t", 32)), Type: "Bearer", Generation: 1, Extra: extra,
		IssuedAt: time.Unix(1, 0), ExpiresAt: time.Unix(3601, 0), SessionExpiresAt: time.Unix(7201, 0),
	}
	for {
		err := t.Execute(io.Discard, FieldsOf(p).scope())
		if err == nil {
			return nil
		}
		key, ok := missing(err)
		if !ok {
			return err
		}
		if _, again := extra[key]; again {
			return fmt.Errorf("%w; fields are those of format json", err)
		}
		extra[key] = "x"
	}
}

// censor keeps the text of a template's error only where it is known not to quote
// what the template worked on.
func censor(err error, p *agent.Publication) error {
	if key, ok := missing(err); ok && !strings.Contains(key, p.Token.Reveal()) {
		return fmt.Errorf("the token has no extra %q", key)
	}
	return errors.New("the template failed on this token")
}

package http

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	nethttp "net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// request is a compiled Request.
type request struct {
	method  string
	url     *template
	query   mapValue
	headers mapValue
	timeout time.Duration
	json    evaler // nil: none
	form    *mapValue
	raw     *template
	bearer  bool
	user    *template // Basic; nil: none
	pass    *template
}

func (c *compiler) request(path string, r *Request) *request {
	if r == nil {
		c.add(path, "a request is needed")
		return &request{}
	}
	path = spec.Key(path, "request")
	out := &request{method: strings.ToUpper(r.Method), bearer: r.Bearer,
		query:   c.trees(spec.Key(path, "query"), r.Query),
		headers: c.trees(spec.Key(path, "headers"), r.Headers)}
	c.requestURL(path, r, out)
	c.body(path, r, out)
	for name, v := range r.Headers {
		c.header(spec.Key(spec.Key(path, "headers"), name), name, v.V)
	}
	var err error
	if out.timeout, err = r.Timeout.Parse(); err != nil {
		c.add(spec.Key(path, "timeout"), "%v", err)
	} else if out.timeout > wire.Timeout {
		c.add(spec.Key(path, "timeout"), "is above %v, which bounds each attempt", wire.Timeout)
	}
	if r.Bearer && r.Basic != nil {
		c.add(path, "bearer and basic exclude each other")
	}
	if r.Basic != nil {
		at := spec.Key(path, "basic")
		out.user = c.text(spec.Key(at, "username"), r.Basic.Username)
		out.pass = c.text(spec.Key(at, "password"), r.Basic.Password)
	}
	return out
}

func (c *compiler) requestURL(path string, r *Request, out *request) {
	at := spec.Key(path, "url")
	if r.URL == "" {
		c.add(at, "a URL is needed")
		return
	}
	if strings.Contains(r.URL, "#") {
		c.add(at, "a request's URL has no fragment (#)")
	}
	out.url = c.text(at, r.URL)
	if out.url.fromAnswer() && out.url.parts[0].ex.kind == nodeExtra && c.loose[out.url.parts[0].ex.text] {
		c.add(at, "begins with what a server names, so a token could go to another host").Hint = "extract it with as: url"
	}
	if s, ok := literal(out.url); ok {
		if u, err := url.Parse(s); err != nil || u.Host == "" {
			c.add(at, "is no URL")
		}
	}
	methods := []string{"", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"}
	if !slices.Contains(methods, out.method) {
		c.add(spec.Key(path, "method"), "unknown method %q", r.Method).Hint = spec.Meant(out.method, methods[1:])
	}
}

func literal(t *template) (string, bool) {
	if t == nil {
		return "", false
	}
	return t.constant()
}

func (c *compiler) body(path string, r *Request, out *request) {
	n := 0
	if r.JSON != nil {
		n++
		out.json = c.tree(spec.Key(path, "json"), r.JSON.V)
	}
	if r.Form != nil {
		n++
		m := c.trees(spec.Key(path, "form"), r.Form)
		for k, v := range r.Form {
			if _, ok := v.V.(map[string]any); ok {
				c.add(spec.Key(spec.Key(path, "form"), k), "a form has no mappings")
			}
		}
		out.form = &m
	}
	if r.Raw != nil {
		n++
		out.raw = c.text(spec.Key(path, "raw"), *r.Raw)
	}
	if n > 1 {
		c.add(path, "json, form and raw exclude each other")
	}
	if out.method == "" {
		out.method = "GET"
		if n > 0 {
			out.method = "POST"
		}
	}
	if n > 0 && (out.method == "GET" || out.method == "HEAD") {
		c.add(spec.Key(path, "method"), "%s has no body", out.method)
	}
}

func (c *compiler) header(path, name string, v any) {
	switch canonical := nethttp.CanonicalHeaderKey(name); {
	case !headerName(name):
		c.add(path, "is no header name")
	case slices.Contains([]string{"Content-Length", "Transfer-Encoding", "Connection", "Accept-Encoding", "Trailer", "Te"}, canonical):
		c.add(path, "is set by the connection itself")
	}
	switch v.(type) {
	case []any, map[string]any:
		c.add(path, "a header is one text")
	}
}

// Headers that nearly every request has, shared by all: nobody changes them.
var (
	acceptJSON = []string{"application/json, */*;q=0.5"}
	typeJSON   = []string{"application/json"}
)

// build makes the request of one try.
func (r *request) build(sc *scope) (*wire.Request, error) {
	u, err := r.buildURL(sc)
	if err != nil {
		return nil, err
	}
	out := &wire.Request{Method: r.method, URL: u, Header: nethttp.Header{}, Timeout: r.timeout}
	out.Header["Accept"] = acceptJSON
	if err := r.buildBody(sc, out); err != nil {
		return nil, err
	}
	if err := r.buildAuth(sc, out); err != nil {
		return nil, err
	}
	for i, name := range r.headers.keys {
		v, err := r.headers.vals[i].eval(sc)
		if err != nil {
			return nil, err
		}
		if isUnset(v) || v == nil {
			continue
		}
		text, err := toText(v)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		out.Header.Set(name, text)
	}
	for name, vs := range out.Header {
		if !headerValue(vs[0]) {
			return nil, fmt.Errorf("header %s would hold a line end, a NUL or another control character", name)
		}
	}
	return out, nil
}

func (r *request) buildAuth(sc *scope, out *wire.Request) error {
	if r.bearer {
		t, _ := (&node{kind: nodeToken}).eval(sc)
		if s, ok := t.(string); ok {
			out.Header.Set("Authorization", "Bearer "+s)
		}
	}
	if r.user == nil {
		return nil
	}
	var pair [2]string
	for i, t := range []*template{r.user, r.pass} {
		v, err := t.eval(sc)
		if err != nil {
			return err
		}
		if isUnset(v) {
			v = ""
		}
		if pair[i], err = toText(v); err != nil {
			return err
		}
	}
	if strings.Contains(pair[0], ":") {
		return errors.New("basic: a user name cannot hold a colon (RFC 7617)")
	}
	out.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair[0]+":"+pair[1])))
	return nil
}

func (r *request) buildBody(sc *scope, out *wire.Request) error {
	switch {
	case r.json != nil:
		v, err := r.json.eval(sc)
		if err != nil || isUnset(v) {
			return err
		}
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(plain(v)); err != nil {
			return errors.New("the body cannot be written as JSON")
		}
		out.Body = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
		out.Header["Content-Type"] = typeJSON
	case r.form != nil:
		v, err := pairs(sc, *r.form)
		if err != nil {
			return err
		}
		out.Body = []byte(v.Encode())
		out.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	case r.raw != nil:
		v, err := r.raw.eval(sc)
		if err != nil || isUnset(v) {
			return err
		}
		s, err := toText(v)
		if err != nil {
			return err
		}
		out.Body = []byte(s)
		out.Header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	return nil
}

// pairs evaluates a form or a query; a list repeats its key.
func pairs(sc *scope, m mapValue) (url.Values, error) {
	out := url.Values{}
	for i, k := range m.keys {
		v, err := m.vals[i].eval(sc)
		if err != nil {
			return nil, err
		}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, e := range list {
			if isUnset(e) || e == nil {
				continue
			}
			s, err := toText(e)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
			out.Add(k, s)
		}
	}
	return out, nil
}

// headerName reports whether s is a token (RFC 9110 §5.6.2).
func headerName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// headerValue reports whether s can stand in a header (RFC 9110 §5.5).
func headerValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

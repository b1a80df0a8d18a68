package http

import (
	"errors"
	"net/url"
	"strings"
)

// buildURL puts a URL together; what an expression gives is encoded by where it
// stands: as it is at the front (a base URL), as a host's name, as one segment
// of the path, or in the query.
func (r *request) buildURL(sc *scope) (*url.URL, error) {
	var b strings.Builder
	for _, p := range r.url.parts {
		if p.ex == nil {
			b.WriteString(p.lit)
			continue
		}
		v, err := p.ex.eval(sc)
		if err != nil {
			return nil, err
		}
		if isUnset(v) {
			return nil, errURLUnset
		}
		s, err := toText(v)
		if err != nil {
			return nil, err
		}
		if s, err = encodeAt(b.String(), s); err != nil {
			return nil, err
		}
		b.WriteString(s)
	}
	u, err := url.Parse(b.String())
	if err != nil || u.Host == "" || u.User != nil {
		return nil, errors.New("the request's URL is no URL") // url.Error quotes it
	}
	q, err := pairs(sc, r.query)
	if err != nil {
		return nil, err
	}
	if len(q) > 0 {
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += q.Encode()
	}
	return u, nil
}

// fromAnswer says that the whole front of a URL comes from an earlier answer.
func (t *template) fromAnswer() bool {
	return t != nil && len(t.parts) > 0 && t.parts[0].ex != nil && (t.parts[0].ex.kind == nodeExtra || t.parts[0].ex.kind == nodeChallenge)
}

var errURLUnset = errors.New("the request's URL names something that is unset")

// encodeAt encodes s for standing behind what is already written.
func encodeAt(before, s string) (string, error) {
	_, rest, hasScheme := strings.Cut(before, "://")
	switch {
	case before == "":
		return s, nil
	case strings.Contains(before, "?"):
		return url.QueryEscape(s), nil
	case hasScheme && !strings.Contains(rest, "/"):
		for _, r := range s {
			if !strings.ContainsRune("-._:[]", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
				return "", errors.New("the request's URL would have a host that is no name")
			}
		}
		return s, nil
	case s == "." || s == "..":
		return "", errors.New("the request's URL would have a segment of dots")
	}
	return url.PathEscape(s), nil
}

package http

import (
	"errors"
	"strconv"
	"strings"
)

// pointer is a JSON Pointer (RFC 6901): keys are literal, dots and all.
type pointer []string

func parsePointer(s string) (pointer, error) {
	if s == "" {
		return pointer{}, nil
	}
	if s[0] != '/' {
		return nil, errors.New("a pointer begins with / (RFC 6901)")
	}
	tokens := strings.Split(s[1:], "/")
	for i, t := range tokens {
		for j := 0; j < len(t); j++ {
			if t[j] == '~' && (j+1 == len(t) || t[j+1] != '0' && t[j+1] != '1') {
				return nil, errors.New("in a pointer ~ is written ~0, and / is written ~1 (RFC 6901)")
			}
		}
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(t, "~1", "/"), "~0", "~")
	}
	return tokens, nil
}

// get finds the value, ok false where there is none.
func (p pointer) get(doc any) (v any, ok bool) {
	for _, t := range p {
		switch d := doc.(type) {
		case map[string]any:
			if doc, ok = d[t]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(t)
			if err != nil || i < 0 || i >= len(d) || t != strconv.Itoa(i) {
				return nil, false
			}
			doc = d[i]
		default:
			return nil, false
		}
	}
	return doc, true
}

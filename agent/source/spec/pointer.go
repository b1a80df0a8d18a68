package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Pointer is a JSON Pointer (RFC 6901): keys are literal, dots and all.
type Pointer []string

// WholeAnswer is why a rule may not ask whether the empty pointer is present.
const WholeAnswer = "the empty pointer is the whole answer, which is there in every one, with a token too"

// ParsePointer reads one; the empty text is the whole document.
func ParsePointer(s string) (Pointer, error) {
	if s == "" {
		return Pointer{}, nil
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

// Get finds the value, ok false where there is none.
func (p Pointer) Get(doc any) (v any, ok bool) {
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

// Scalar is the text of a JSON scalar, ok false for null, lists and objects.
func Scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	}
	return "", false
}

// Wanted are the texts of a declared scalar or list of them.
func Wanted(v any) []string {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	out := []string{}
	for _, e := range list {
		out = append(out, fmt.Sprint(e))
	}
	return out
}

// Same compares what an answer holds with what is declared; numbers by value.
func Same(got, want string) bool {
	if got == want {
		return true
	}
	a, errA := strconv.ParseFloat(got, 64)
	b, errB := strconv.ParseFloat(want, 64)
	return errA == nil && errB == nil && a == b
}

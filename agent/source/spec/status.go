package spec

import (
	"fmt"
	"strconv"
	"strings"
)

// Status is a set of HTTP statuses: 401, [200, 201], 4xx.
type Status struct{ ranges [][2]int }

// SetTree takes one status, a class ("4xx") or a list of them.
func (s *Status) SetTree(tree any, _ func(string) string) error {
	list, ok := tree.([]any)
	if !ok {
		list = []any{tree}
	}
	s.ranges = nil
	for _, e := range list {
		text := fmt.Sprint(e)
		if c, ok := strings.CutSuffix(text, "xx"); ok && len(c) == 1 && c >= "1" && c <= "5" {
			n := int(c[0]-'0') * 100
			s.ranges = append(s.ranges, [2]int{n, n + 99})
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 100 || n > 599 {
			return fmt.Errorf("want a status such as 401 or 4xx, or a list of them")
		}
		s.ranges = append(s.ranges, [2]int{n, n})
	}
	if len(s.ranges) == 0 {
		return fmt.Errorf("want at least one status")
	}
	return nil
}

// Has reports whether code is in the set; a nil set has none.
func (s *Status) Has(code int) bool {
	if s == nil {
		return false
	}
	for _, r := range s.ranges {
		if code >= r[0] && code <= r[1] {
			return true
		}
	}
	return false
}

// JSONSchema describes every way to write a Status.
func (Status) JSONSchema() map[string]any {
	one := map[string]any{"anyOf": []any{
		map[string]any{"type": "integer", "minimum": 100, "maximum": 599},
		map[string]any{"type": "string", "pattern": "^[1-5]xx$"},
	}}
	return map[string]any{"anyOf": []any{one, map[string]any{"type": "array", "items": one, "minItems": 1}}}
}

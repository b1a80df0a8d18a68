package http

import (
	"strings"

	"renewd/agent/secret"
)

const (
	mostTogether = 64      // sources of one Program that stand in one piece of memory
	textTogether = 4 << 10 // bytes of their texts that do
)

// room is where the sources of one Program stand. One by one they would stand
// wherever the reading of a large config left a gap, and each would keep the page
// around its gap from being given back. A reload makes all sources anew, so those
// of one piece also go together.
type room struct {
	sources []Source
	values  []any
	strings []string
	text    strings.Builder
	handle  any // the last secret.Handle: tokens often share one
}

// place gives a copy of s that stands beside others; own are the inputs whose text
// it shares with nobody. Pieces double up to their most, since a program mostly has
// a token or two.
func (r *room) place(s *Source, own []int) *Source {
	if len(r.sources) == cap(r.sources) {
		r.sources = make([]Source, 0, min(max(1, 2*cap(r.sources)), mostTogether))
		r.values = make([]any, 0, cap(r.sources)*len(s.values))
	}
	r.sources = append(r.sources, *s)
	placed := &r.sources[len(r.sources)-1]
	from := len(r.values)
	r.values = append(r.values, s.values...)
	placed.values = r.values[from:len(r.values):len(r.values)]
	for _, i := range own {
		if len(r.strings) == cap(r.strings) {
			r.strings = make([]string, 0, cap(r.sources)*len(own))
		}
		r.strings = append(r.strings, r.keep(placed.values[i].(string)))
		placed.values[i] = &r.strings[len(r.strings)-1]
	}
	for i, v := range placed.values {
		if h, ok := v.(secret.Handle); ok {
			if last, ok := r.handle.(secret.Handle); !ok || !h.Equal(last) {
				r.handle = v
			}
			placed.values[i] = r.handle
		}
	}
	placed.traits.Fingerprint = r.keep(s.traits.Fingerprint)
	return placed
}

// keep gives a copy of text that stands beside others.
func (r *room) keep(text string) string {
	if r.text.Cap()-r.text.Len() < len(text) {
		size := max(len(text), min(2*r.text.Cap(), textTogether))
		r.text = strings.Builder{} // what has parts of the full one keeps it
		r.text.Grow(size)
	}
	from := r.text.Len()
	r.text.WriteString(text)
	return r.text.String()[from:]
}

// value is that of an input, nil where it is unset.
func (s *Source) value(i int) any {
	if text, ok := s.values[i].(*string); ok {
		return *text
	}
	return s.values[i]
}

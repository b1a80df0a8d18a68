package config

import (
	"reflect"
	"strings"
	"sync"
)

// field is one key of a struct.
type field struct {
	index []int
	one   bool
}

// keysOf are the keys of a struct type, with the places of its `else` and `rest`
// fields.
type keysOf struct {
	byKey           map[string]field
	otherwise, rest []int
}

// keysByType has the *keysOf of each reflect.Type that was met.
var keysByType sync.Map

// fields gives the keys of a struct type.
func fields(t reflect.Type) *keysOf {
	if k, ok := keysByType.Load(t); ok {
		return k.(*keysOf)
	}
	k := &keysOf{byKey: map[string]field{}}
	var add func(t reflect.Type, at []int)
	add = func(t reflect.Type, at []int) {
		for i := range t.NumField() {
			f := t.Field(i)
			tag, ok := f.Tag.Lookup("yaml")
			if !ok || tag == "-" {
				continue
			}
			name, opts, _ := strings.Cut(tag, ",")
			index := append(append([]int(nil), at...), i)
			switch {
			case opts == "inline":
				add(f.Type, index)
			case opts == "else":
				k.otherwise = index
			case opts == "rest":
				k.rest = index
			default:
				k.byKey[name] = field{index, opts == "one"}
			}
		}
	}
	add(t, nil)
	keysByType.Store(t, k)
	return k
}

func names(byKey map[string]field) []string {
	var out []string
	for k := range byKey {
		out = append(out, k)
	}
	return out
}

// Package spec holds what the declarations of all sources share: the types that
// stand for more than one YAML shape, problems with the place they are at, and
// the words of durations and rates. It knows no YAML library: agent/config
// decodes by the struct tags and the few conventions below.
//
//   - A type with UnmarshalText takes a scalar.
//   - A type with SetTree takes any node, as the tree that Tree describes.
//   - A slice whose tag has the option "one" may be written as one element.
//   - A struct with a field tagged `yaml:",else"` is decoded as itself where the
//     node is a mapping of its own keys only, and otherwise whole into that field.
//   - A field tagged `yaml:",inline"` has its keys beside the others.
//   - A map field tagged `yaml:",rest"` takes the keys that no other field has.
//   - A pointer is optional; a Path is made absolute, relative to its file.
package spec

import (
	"fmt"

	"renewd/agent/secret"
)

// Tree is any YAML value: nil, bool, int64, float64, string, []any or
// map[string]any. A mapping in it is never a secret, so a JSON body may have a
// key named "file".
type Tree struct{ V any }

// SetTree takes the node as it is.
func (t *Tree) SetTree(v any, _ func(string) string) error { t.V = v; return nil }

// IsZero reports whether nothing (or null) was written.
func (t Tree) IsZero() bool { return t.V == nil }

// JSONSchema allows anything.
func (Tree) JSONSchema() map[string]any { return map[string]any{} }

// Value is a Tree or, where the node is a mapping of one key that names a
// place of secrets, a secret.Ref. A secret given as a plain string is a string.
type Value struct{ V any }

// SetTree makes a secret.Ref of a mapping that says where a secret is. abs makes
// paths absolute.
func (v *Value) SetTree(tree any, abs func(string) string) error {
	m, ok := tree.(map[string]any)
	if !ok {
		v.V = tree
		return nil
	}
	ref, err := secret.FromTree(m, abs)
	if err != nil {
		return err
	}
	v.V = ref
	return nil
}

// IsZero reports whether nothing (or null) was written.
func (v Value) IsZero() bool { return v.V == nil }

// JSONSchema allows a scalar, a list or a secret.
func (Value) JSONSchema() map[string]any {
	return map[string]any{"anyOf": []any{
		map[string]any{"type": []any{"string", "number", "boolean", "array", "null"}},
		secret.Ref{}.JSONSchema(),
	}}
}

// Strings is one string or a list of strings.
type Strings []string

// SetTree takes one scalar or a list of scalars.
func (s *Strings) SetTree(tree any, _ func(string) string) error {
	list, ok := tree.([]any)
	if !ok {
		list = []any{tree}
	}
	*s = nil
	for _, e := range list {
		switch e := e.(type) {
		case string:
			*s = append(*s, e)
		case bool, int64, float64:
			*s = append(*s, fmt.Sprint(e))
		default:
			return fmt.Errorf("want a string or a list of strings")
		}
	}
	return nil
}

// JSONSchema allows a string or a list of them.
func (Strings) JSONSchema() map[string]any {
	return map[string]any{"anyOf": []any{
		map[string]any{"type": "string"},
		map[string]any{"type": "array", "items": map[string]any{"type": "string"}},
	}}
}

package config

import (
	"encoding"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"renewd/agent/secret"
	"renewd/agent/source/spec"
)

// decoder walks YAML nodes into Go values, strictly: it knows the place and the
// key path of everything and gathers all problems. What Go types stand for is
// said in package spec.
type decoder struct {
	file     string
	dir      string // of file: relative paths start there
	read     *text  // the file, for places
	paths    map[string]string
	problems Problems
}

// nodeDecoder is a type of this package that reads a node itself.
type nodeDecoder interface {
	decodeNode(d *decoder, n *yaml.Node, path string)
}

type treeSetter interface {
	SetTree(tree any, abs func(string) string) error
}

var pathType = reflect.TypeFor[secret.Path]()

func (d *decoder) problem(n *yaml.Node, path, format string, args ...any) *Problem {
	p := Problem{File: d.file, Path: path, Msg: fmt.Sprintf(format, args...)}
	if n != nil {
		p.Line, p.Column = n.Line, n.Column
	}
	d.problems = append(d.problems, p)
	return &d.problems[len(d.problems)-1]
}

func (d *decoder) place(n *yaml.Node, path string) Place {
	return Place{text: d.read, path: path, line: n.Line}
}

func (d *decoder) abs(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	if d.paths[p] == "" {
		if d.paths == nil {
			d.paths = map[string]string{}
		}
		d.paths[p] = filepath.Join(d.dir, p)
	}
	return d.paths[p] // one for all tokens that name it
}

// decode fills v from n.
func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	n = resolve(n)
	if v.Kind() == reflect.Pointer {
		if isNull(n) {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, v.Elem(), path)
		return
	}
	if v.CanAddr() {
		switch t := v.Addr().Interface().(type) {
		case nodeDecoder:
			t.decodeNode(d, n, path)
			return
		case treeSetter:
			if err := t.SetTree(d.tree(n, path), d.abs); err != nil {
				d.problem(n, path, "%v", err)
			}
			return
		case encoding.TextUnmarshaler:
			if n.Kind == yaml.ScalarNode {
				d.text(n, t, path)
				return
			}
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
		if c, ok := v.Interface().(interface{ Check() error }); ok && n.Kind == yaml.MappingNode && len(n.Content) > 0 {
			if err := c.Check(); err != nil {
				d.problem(n, path, "%v", err)
			}
		}
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path, false)
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) text(n *yaml.Node, t encoding.TextUnmarshaler, path string) {
	if isNull(n) {
		d.problem(n, path, "has no value")
		return
	}
	if err := t.UnmarshalText([]byte(n.Value)); err != nil {
		d.problem(n, path, "%v", err)
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.problem(n, path, "want %s, not %s", typeName(v.Type()), nodeName(n))
		return
	}
	tag := n.ShortTag()
	switch v.Kind() {
	case reflect.String:
		switch tag {
		case "!!null":
			d.problem(n, path, "has no value")
		case "!!bool":
			d.problem(n, path, "want a string, not a boolean").Hint = "put it in quotes"
		default:
			// A number keeps its spelling: a user name may be 007.
			s := n.Value
			if v.Type() == pathType {
				s = d.abs(s)
			}
			v.SetString(s)
		}
	case reflect.Bool:
		if tag != "!!bool" {
			d.problem(n, path, "want true or false, not %s", nodeName(n))
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 0, 64)
		if tag != "!!int" || err != nil {
			d.problem(n, path, "want a whole number, not %s", nodeName(n))
			return
		}
		v.SetInt(i)
	case reflect.Float64:
		f, err := strconv.ParseFloat(n.Value, 64)
		if tag != "!!int" && tag != "!!float" || err != nil {
			d.problem(n, path, "want a number, not %s", nodeName(n))
			return
		}
		v.SetFloat(f)
	default:
		d.problem(n, path, "cannot be set")
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, one bool) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		if !one {
			d.problem(n, path, "want a list, not %s", nodeName(n))
			return
		}
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(n, e, path)
		v.Set(reflect.Append(reflect.MakeSlice(v.Type(), 0, 1), e))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, c := range n.Content {
		d.decode(c, out.Index(i), spec.Index(path, i))
	}
	v.Set(out)
}

// keys calls f for every key of a mapping, telling doubled and odd ones itself.
func (d *decoder) keys(n *yaml.Node, path string, f func(key string, k, v *yaml.Node)) {
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := resolve(n.Content[i])
		switch {
		case k.Kind != yaml.ScalarNode:
			d.problem(k, path, "a key must be a plain word")
			continue
		case k.ShortTag() == "!!merge":
			d.problem(k, path, "merge keys (<<) are not supported").Hint = "write the keys out, or use `defaults`"
			continue
		}
		if first := seen[k.Value]; first != nil {
			d.problem(k, spec.Key(path, k.Value), "the key is given twice").Hint = fmt.Sprintf("the first is in line %d", first.Line)
			continue
		}
		seen[k.Value] = k
		f(k.Value, k, n.Content[i+1])
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.problem(n, path, "want a mapping, not %s", nodeName(n))
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(n.Content)/2)
	d.keys(n, path, func(key string, _, val *yaml.Node) {
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(val, e, spec.Key(path, key))
		out.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), e)
	})
	v.Set(out)
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	own := fields(v.Type())
	if own.otherwise != nil && !ownKeysOnly(n, own.byKey) {
		d.decode(n, v.FieldByIndex(own.otherwise), path)
		return
	}
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.problem(n, path, "want a mapping, not %s", nodeName(n))
		return
	}
	var left reflect.Value
	if own.rest != nil {
		left = v.FieldByIndex(own.rest)
		left.Set(reflect.MakeMap(left.Type()))
	}
	d.keys(n, path, func(key string, k, val *yaml.Node) {
		at := spec.Key(path, key)
		f, ok := own.byKey[key]
		switch {
		case ok && f.one:
			d.list(resolve(val), v.FieldByIndex(f.index), at, true)
		case ok:
			d.decode(val, v.FieldByIndex(f.index), at)
		case own.rest != nil:
			e := reflect.New(left.Type().Elem()).Elem()
			before := len(d.problems)
			d.decode(val, e, at)
			if len(d.problems) > before {
				if near := spec.Nearest(key, names(own.byKey)); near != "" {
					d.problems = d.problems[:before] // a misspelt key of our own, not a value
					d.problem(k, at, "unknown key").Hint = "did you mean " + near + "?"
				}
			}
			left.SetMapIndex(reflect.ValueOf(key), e)
		default:
			d.problem(k, at, "unknown key").Hint = spec.Meant(key, names(own.byKey))
		}
	})
}

func ownKeysOnly(n *yaml.Node, byKey map[string]field) bool {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		return false
	}
	for i := 0; i < len(n.Content); i += 2 {
		if _, ok := byKey[n.Content[i].Value]; !ok {
			return false
		}
	}
	return true
}

// tree turns a node into nil, bool, int64, float64, string, []any and
// map[string]any.
func (d *decoder) tree(n *yaml.Node, path string) any {
	n = resolve(n)
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		d.keys(n, path, func(key string, _, v *yaml.Node) { m[key] = d.tree(v, spec.Key(path, key)) })
		return m
	case yaml.SequenceNode:
		l := make([]any, len(n.Content))
		for i, c := range n.Content {
			l[i] = d.tree(c, spec.Index(path, i))
		}
		return l
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int":
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil && canonical(n.Value) {
			return i
		}
		return n.Value // 007 and 0x10 keep their spelling
	case "!!float":
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f
		}
	}
	return n.Value
}

// canonical says that a decimal is spelt as a number would print.
func canonical(s string) bool {
	i, err := strconv.ParseInt(s, 10, 64)
	return err == nil && strconv.FormatInt(i, 10) == s
}

func isNull(n *yaml.Node) bool {
	return n == nil || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func nodeName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!bool":
		return "a boolean"
	case "!!int", "!!float":
		return "a number"
	}
	return "a string"
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	}
	return "a number"
}

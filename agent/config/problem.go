package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"

	"renewd/agent/source/spec"
)

// Problem is one thing wrong with a config, with its place. It never quotes the
// file: a neighbouring line may hold a secret.
type Problem struct {
	File         string
	Line, Column int    // 0: the whole file
	Path         string // tokens.commander.source.url
	Msg          string
	Hint         string
	Warn         bool // it works, but an admin should know
}

// String is "file:line:column: path: message (hint)".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Msg)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Problems are all that is wrong, in the order of the files.
type Problems []Problem

// Fatal reports whether one of them is more than a warning.
func (p Problems) Fatal() bool {
	return slices.ContainsFunc(p, func(p Problem) bool { return !p.Warn })
}

// Sorted gives the problems in reading order.
func (p Problems) Sorted() Problems {
	p = slices.Clone(p)
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return p
}

// With adds problems that were found later, but for those of keys that p names
// already: what follows from a mistake is no news.
func (p Problems) With(later Problems) Problems {
	out := slices.Clone(p)
	for _, l := range later {
		if !slices.ContainsFunc(p, func(e Problem) bool { return !e.Warn && e.File == l.File && e.Path == l.Path && e.Line == l.Line }) {
			out = append(out, l)
		}
	}
	return out
}

// mostProblems is how many are told: who reads more of them has another file in
// mind than a config.
const mostProblems = 500

func (p Problems) most(file string) Problems {
	if len(p) <= mostProblems {
		return p
	}
	rest := Problem{File: file, Msg: fmt.Sprintf("and %d more", len(p)-mostProblems), Warn: !p.Fatal()}
	return append(p[:mostProblems:mostProblems], rest)
}

// Place finds where things of one mapping stand in its file.
type Place struct {
	text *text
	path string // of the mapping
	line int
}

// text is a file as it was read. What stands where in it is found by reading it
// again, once something is wrong: the nodes of YAML weigh thirty times their
// text, and most of a config has no problem.
type text struct {
	file string
	data []byte
	once sync.Once
	root *yaml.Node
}

func (t *text) node() *yaml.Node {
	t.once.Do(func() { t.root = newDecoder(t.file).parse(t.data) })
	return t.root
}

// File is the place's file.
func (pl Place) File() string {
	if pl.text == nil {
		return ""
	}
	return pl.text.file
}

func (pl Place) node() *yaml.Node {
	if pl.text == nil {
		return nil
	}
	n := pl.text.node()
	for _, e := range spec.SplitPath(pl.path) {
		n = child(n, e)
	}
	return n
}

// Problem makes a problem of a source, whose path is relative to the place, one
// of the config.
func (pl Place) Problem(p spec.Problem) Problem {
	n, path := pl.node(), pl.path
	for _, e := range spec.SplitPath(p.Path) {
		switch e := e.(type) {
		case string:
			path = spec.Key(path, e)
		case int:
			path = spec.Index(path, e)
		}
		if next := child(n, e); next != nil {
			n = next
		}
	}
	out := Problem{File: pl.File(), Path: path, Msg: p.Msg, Hint: p.Hint, Warn: p.Warn}
	if n != nil {
		out.Line, out.Column = n.Line, n.Column
	}
	return out
}

// child finds the node of a key or of a place in a list. For a key that a
// problem is about, the key itself is the better place where its value is a
// mapping or absent; the value's place is used as editors jump there.
func child(n *yaml.Node, e any) *yaml.Node {
	n = resolve(n)
	if n == nil {
		return nil
	}
	switch e := e.(type) {
	case string:
		if n.Kind != yaml.MappingNode {
			return nil
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == e {
				return n.Content[i+1]
			}
		}
	case int:
		if n.Kind == yaml.SequenceNode && e >= 0 && e < len(n.Content) {
			return n.Content[e]
		}
	}
	return nil
}

func resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

package http

import (
	"errors"
	"fmt"
	"strings"
)

// A template is a compiled string: literal text and expressions in turn.
type template struct{ parts []part }

type part struct {
	lit string
	ex  *node // nil: lit
}

// whole gives the only expression of a template that is nothing else, so that a
// value keeps its type.
func (t *template) whole() *node {
	if len(t.parts) == 1 {
		return t.parts[0].ex
	}
	return nil
}

// constant reports whether t has no expression, and its text.
func (t *template) constant() (string, bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].ex == nil:
		return t.parts[0].lit, true
	}
	return "", false
}

type nodeKind uint8

const (
	nodeName nodeKind = iota // not yet looked up
	nodeLiteral
	nodeCall
	nodeInput
	nodeVar
	nodeToken
	nodeRefresh
	nodeExtra
	nodeChallenge
)

// node is one place of an expression.
type node struct {
	kind  nodeKind
	text  string // a literal's text, or the name
	index int    // of an input or a var
	fn    *function
	args  []*node
}

// maxDepth bounds nesting: nobody writes it, and a parser must not recurse for
// ever.
const maxDepth = 20

// parseTemplate takes a string apart. `$${` is a literal `${`; nothing that an
// expression gives is looked at again.
func parseTemplate(s string) (*template, error) {
	t := &template{}
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			t.parts = append(t.parts, part{lit: lit.String()})
			lit.Reset()
		}
	}
	for s != "" {
		i := strings.Index(s, "${")
		if i < 0 {
			lit.WriteString(s)
			break
		}
		if i > 0 && s[i-1] == '$' {
			lit.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		lit.WriteString(s[:i])
		flush()
		p := &parser{s: s[i+2:]}
		n, err := p.expr(0)
		if err == nil {
			err = p.end()
		}
		if err != nil {
			return nil, err
		}
		t.parts = append(t.parts, part{ex: n})
		s = p.s
	}
	flush()
	return t, nil
}

// parser eats an expression from the front of s.
type parser struct{ s string }

func (p *parser) space() { p.s = strings.TrimLeft(p.s, " \t\r\n") }

func (p *parser) take(c byte) bool {
	p.space()
	if p.s == "" || p.s[0] != c {
		return false
	}
	p.s = p.s[1:]
	return true
}

func (p *parser) end() error {
	if p.take('}') {
		return nil
	}
	if p.s == "" {
		return errors.New("an expression has no end: } is missing")
	}
	return fmt.Errorf("an expression is a name or a function of names and texts; %q does not belong there", p.s[:1])
}

func (p *parser) expr(depth int) (*node, error) {
	if depth > maxDepth {
		return nil, errors.New("an expression is nested too deep")
	}
	p.space()
	if p.s != "" && (p.s[0] == '"' || p.s[0] == '\'') {
		return p.literal()
	}
	name := p.name()
	if name == "" {
		return nil, errors.New("an expression needs a name; to write ${ itself, write $${")
	}
	if !p.take('(') {
		return &node{kind: nodeName, text: name}, nil
	}
	n := &node{kind: nodeCall, text: name}
	if p.take(')') {
		return n, nil
	}
	for {
		arg, err := p.expr(depth + 1)
		if err != nil {
			return nil, err
		}
		n.args = append(n.args, arg)
		if p.take(')') {
			return n, nil
		}
		if !p.take(',') {
			return nil, fmt.Errorf("the arguments of %s need , between them and ) at the end", name)
		}
	}
}

func (p *parser) name() string {
	i := 0
	for i < len(p.s) && nameByte(p.s[i], i == 0) {
		i++
	}
	name := p.s[:i]
	p.s = p.s[i:]
	return name
}

func nameByte(c byte, first bool) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || !first && (c >= '0' && c <= '9' || c == '.')
}

// literal reads a text in either kind of quotes; a backslash quotes the next
// byte.
func (p *parser) literal() (*node, error) {
	quote := p.s[0]
	var b strings.Builder
	for i := 1; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == quote:
			p.s = p.s[i+1:]
			return &node{kind: nodeLiteral, text: b.String()}, nil
		case c == '\\' && i+1 < len(p.s):
			i++
			b.WriteByte(p.s[i])
		default:
			b.WriteByte(c)
		}
	}
	return nil, errors.New("a text in an expression has no end: its quote is missing")
}

package config

import "go.yaml.in/yaml/v4"

const (
	mostDepth   = 100    // levels of nesting
	aliasGrowth = 10     // aliases may unfold a file to so many times its nodes,
	aliasSpare  = 10_000 // and these
)

// bounded refuses what would not end, or not fit in memory, when it is unfolded:
// aliases that lead to themselves, that multiply, or nesting without end.
func (d *decoder) bounded(root *yaml.Node) bool {
	b := bounds{known: map[*yaml.Node]extent{}}
	e := b.of(root)
	switch {
	case b.cycle != nil:
		d.problem(b.cycle, "", "the alias leads to itself")
	case e.nodes > aliasGrowth*b.seen+aliasSpare:
		d.problem(root, "", "its aliases unfold to too much").Hint = "write the values out"
	case e.depth > mostDepth:
		d.problem(root, "", "is nested deeper than %d levels", mostDepth)
	default:
		return true
	}
	return false
}

// extent is what a node unfolds to.
type extent struct{ nodes, depth int }

type bounds struct {
	known map[*yaml.Node]extent // of anchored nodes; zero while one is under way
	seen  int                   // nodes as they are written
	cycle *yaml.Node
}

func (b *bounds) of(n *yaml.Node) (e extent) {
	if n.Kind == yaml.AliasNode {
		known, ok := b.known[n.Alias]
		if ok && known.nodes == 0 {
			b.cycle = n
		}
		return known
	}
	b.seen++
	if n.Anchor != "" {
		b.known[n] = extent{}
		defer func() { b.known[n] = e }()
	}
	e.nodes = 1
	for _, c := range n.Content {
		in := b.of(c)
		e.nodes = min(e.nodes+in.nodes, 1<<40) // far above any bound, and no overflow
		e.depth = max(e.depth, in.depth)
	}
	e.depth++
	return e
}

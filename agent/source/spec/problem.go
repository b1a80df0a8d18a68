package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing wrong with a declaration. It never holds a secret.
type Problem struct {
	// Path is where: keys joined by dots, list places in brackets, a key that
	// is no plain word quoted in brackets: login.request.json["esc.app"].
	// SplitPath takes it apart. The place of the only element of a list that
	// may be written as one element has no number.
	Path string
	Msg  string // what is wrong, lower case
	Hint string // how to mend it, may be empty
	Warn bool   // it works, but an admin should know
}

func (p Problem) String() string {
	s := p.Path + ": " + p.Msg
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// Problems gathers problems.
type Problems []Problem

// Add appends a problem at path.
func (p *Problems) Add(path, format string, args ...any) *Problem {
	*p = append(*p, Problem{Path: path, Msg: fmt.Sprintf(format, args...)})
	return &(*p)[len(*p)-1]
}

// Fatal reports whether one of them is more than a warning.
func (p Problems) Fatal() bool {
	return slices.ContainsFunc(p, func(p Problem) bool { return !p.Warn })
}

// Key appends a mapping's key to a path.
func Key(path, key string) string {
	if !plainKey(key) {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// Index appends a place in a list to a path.
func Index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func plainKey(key string) bool {
	for _, r := range key {
		if r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return key != ""
}

// SplitPath gives the elements of a Problem's Path: a string for a key, an int
// for a place in a list.
func SplitPath(path string) []any {
	var out []any
	for path != "" {
		if path[0] != '[' {
			path = strings.TrimPrefix(path, ".")
			n := strings.IndexAny(path, ".[")
			if n < 0 {
				n = len(path)
			}
			out, path = append(out, path[:n]), path[n:]
			continue
		}
		path = path[1:]
		if q, err := strconv.QuotedPrefix(path); err == nil {
			key, _ := strconv.Unquote(q)
			out, path = append(out, key), strings.TrimPrefix(path[len(q):], "]")
			continue
		}
		num, rest, _ := strings.Cut(path, "]")
		n, _ := strconv.Atoi(num)
		out, path = append(out, n), rest
	}
	return out
}

// Nearest gives the name that name was probably meant to be, "" when none is
// near enough to be worth saying.
func Nearest(name string, names []string) string {
	best, bestAt := "", max(2, len(name)/3)+1
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d < bestAt && d < len(name) {
			best, bestAt = n, d
		}
	}
	return best
}

// Meant is a hint for an unknown name: the nearest one, or all there are.
func Meant(name string, names []string) string {
	if n := Nearest(name, names); n != "" {
		return "did you mean " + n + "?"
	}
	if len(names) == 0 || len(names) > 30 {
		return ""
	}
	s := slices.Sorted(slices.Values(names))
	return "there are: " + strings.Join(s, ", ")
}

// distance is Levenshtein's.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diag+cost)
		}
	}
	return row[len(b)]
}

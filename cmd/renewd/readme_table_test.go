package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"renewd/agent/config"
	"renewd/agent/source/http"
	"renewd/agent/source/oauth2"
	"renewd/platform/paths"
)

const (
	tableBegin = "<!-- made by: go test ./cmd/renewd -run ReadmeTable -update -->\n"
	tableEnd   = "<!-- end -->\n"
)

// The table of README says of every type and preset what must be given: of a
// preset what it declares, of the others what `check` misses in an empty one.
func TestReadmeTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("| type | must be given |\n| --- | --- |\n")
	row := func(name string, needs []string) {
		fmt.Fprintf(&b, "| %s | %s |\n", name, strings.Join(needs, ", "))
	}
	types := config.Types()
	slices.Sort(types)
	for _, name := range types {
		if name != "oauth2" {
			row("`"+name+"`", missing(t, "type: "+name))
			continue
		}
		for _, grant := range oauth2.Grants() {
			row("`oauth2`, grant `"+grant+"`", missing(t, "type: oauth2, grant: "+grant))
		}
	}
	for _, name := range http.Presets() {
		p, _ := embedded(name)
		needs := needed(p.Spec.Inputs)
		for i := range needs {
			needs[i] = "`" + needs[i] + "`"
		}
		var groups []string
		for _, group := range p.Spec.OneOf {
			groups = append(groups, "`"+strings.Join(group, "` + `")+"`")
		}
		if len(groups) > 0 {
			needs = append(needs, "one of: "+strings.Join(groups, "; "))
		}
		row("`"+name+"`", needs)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(readme), tableBegin)
	is, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatal("README has no table of types")
	}
	if is == b.String() {
		return
	}
	if !*update {
		t.Errorf("README's table is not what the code says; run with -update. It should be\n%s", b.String())
		return
	}
	if err := os.WriteFile("../../README.md", []byte(before+tableBegin+b.String()+tableEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// missing lists what a source that says no more than its type lacks.
func missing(t *testing.T, source string) (out []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "renewd.yaml")
	if err := os.WriteFile(path, []byte("tokens: {t: {source: {"+source+"}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, problems, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	_, more := newBuilder(newClock(), paths.Set{Config: path}, slog.New(slog.DiscardHandler)).build(c)
	hinted := regexp.MustCompile(`^(?:add|give) (\w+)(?: or (\w+))?$`)
	for _, p := range problems.With(more) {
		key := strings.TrimPrefix(strings.TrimPrefix(p.Path, "tokens.t.source"), ".")
		switch m := hinted.FindStringSubmatch(p.Hint); {
		case p.Warn:
			continue
		case m != nil && m[2] != "":
			key = "`" + m[1] + "` or `" + m[2] + "`"
		case m != nil:
			key = "`" + m[1] + "`"
		case key == "":
			t.Fatalf("%s: it is not told which key is missing: %s", source, p)
		default:
			key = "`" + key + "`"
		}
		if !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

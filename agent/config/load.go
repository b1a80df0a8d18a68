package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"

	"renewd/agent/source/http"
	"renewd/agent/source/spec"
)

// Preset is a declared source that stands in a file of its own.
type Preset struct {
	Name  string
	Spec  *http.Spec
	Place Place
}

// isTokenName says what a token may be called, [a-z0-9][a-z0-9._-]{0,63}: it
// becomes a file name, a metric label and a part of an environment variable.
func isTokenName(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return 0 < len(s) && len(s) <= 64
}

// ErrNoConfig says that there is no config file. An agent waits for one.
var ErrNoConfig = errors.New("there is no config")

// Load reads the config at path, conf.d and presets beside it. It returns an
// error only where the main file is absent (ErrNoConfig) or cannot be read; what
// is wrong with what it says comes as Problems. The Config is never nil.
func Load(path string) (*Config, Problems, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return &Config{}, nil, err
	}
	c := &Config{Tokens: map[string]*Token{}, Presets: map[string]*Preset{}}
	dir := filepath.Dir(path)
	c.Files, c.Dirs = []string{path}, []string{dir}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil, fmt.Errorf("%w at %s", ErrNoConfig, path)
	}
	if err != nil {
		return c, nil, fmt.Errorf("read the config: %w", err)
	}
	d := newDecoder(path)
	root := d.parse(data)
	if root != nil {
		d.decode(root, reflect.ValueOf(c).Elem(), "")
	}
	if c.Tokens == nil {
		c.Tokens = map[string]*Token{}
	}
	if root != nil {
		c.main = d.place(root, "")
	}
	c.Blank = root == nil && len(d.problems) == 0
	problems := d.problems
	for name, t := range c.Tokens {
		if t == nil {
			delete(c.Tokens, name)
		}
	}
	problems = append(problems, c.readMore(filepath.Join(dir, "conf.d"), c.addTokens)...)
	problems = append(problems, c.readMore(filepath.Join(dir, "presets"), c.addPreset)...)
	problems = append(problems, c.validate()...)
	return c, problems.Sorted().most(path), nil
}

// readMore reads the *.yaml files of a directory that may be absent, in the
// order of their names; what editors leave behind is passed over. decode runs for
// several files at once: it is a third of a start with a hundred thousand tokens.
// What it returns adds the file to the Config.
func (c *Config) readMore(dir string, decode func(path string, data []byte) (add func() Problems)) Problems {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return Problems{{File: dir, Msg: "cannot be read: " + cause(err)}}
	}
	c.Dirs = append(c.Dirs, dir)
	added := make([]func() Problems, len(entries))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var all sync.WaitGroup
	for i, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, ".yaml") || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") {
			continue
		}
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			added[i] = func() Problems { return Problems{{File: path, Msg: "cannot be read: " + cause(err)}} }
			continue
		}
		c.Files = append(c.Files, path)
		slots <- struct{}{}
		all.Go(func() {
			added[i] = decode(path, data)
			<-slots
		})
	}
	all.Wait()
	var out Problems
	for _, add := range added {
		if add != nil {
			out = append(out, add()...)
		}
	}
	return out
}

func cause(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

// more is what a file of conf.d may hold.
type more struct {
	Tokens map[string]*Token `yaml:"tokens"`
}

func (c *Config) addTokens(path string, data []byte) func() Problems {
	var m more
	problems := decodeFile(path, data, &m)
	return func() Problems { return c.merge(&m, problems) }
}

func (c *Config) merge(m *more, problems Problems) Problems {
	for _, name := range slices.Sorted(maps.Keys(m.Tokens)) {
		t := m.Tokens[name]
		if t == nil {
			continue
		}
		if first := c.Tokens[name]; first != nil {
			p := t.place.Problem(spec.Problem{Msg: "the token is declared twice"})
			p.Hint = fmt.Sprintf("it is also in %s:%d", first.place.text.file, first.place.line)
			problems = append(problems, p)
			continue
		}
		c.Tokens[name] = t
	}
	return problems
}

func (c *Config) addPreset(path string, data []byte) func() Problems {
	name := strings.TrimSuffix(filepath.Base(path), ".yaml")
	p, problems := DecodePreset(name, path, data)
	if slices.Contains(types, name) || slices.Contains(http.Presets(), name) {
		problems = append(problems, Problem{File: path, Msg: fmt.Sprintf("the name %q is taken by a built-in source", name), Hint: "rename the file"})
	}
	return func() Problems {
		c.Presets[name] = p
		return problems
	}
}

// DecodePreset reads a preset's file.
func DecodePreset(name, path string, data []byte) (*Preset, Problems) {
	p := &Preset{Name: name, Spec: &http.Spec{}}
	d := newDecoder(path)
	root := d.parse(data)
	p.Place = Place{text: d.read}
	if root == nil {
		return p, d.problems
	}
	d.decode(root, reflect.ValueOf(p.Spec).Elem(), "")
	switch l := p.Spec.Language; {
	case l == nil:
		d.problem(root, "language", "is missing").Hint = "begin the file with: language: 1"
	case *l != 1:
		d.problem(child(root, "language"), "language", "this renewd knows language 1")
	}
	for _, k := range slices.Sorted(maps.Keys(p.Spec.Values)) {
		d.problem(child(root, k), k, "unknown key").Hint = spec.Meant(k, names(fields(reflect.TypeFor[http.Spec]()).byKey))
	}
	return p, d.problems
}

func newDecoder(path string) *decoder {
	return &decoder{file: path, dir: filepath.Dir(path)}
}

// decodeFile decodes one file into v, a pointer to a struct.
func decodeFile(path string, data []byte, v any) Problems {
	d := newDecoder(path)
	if root := d.parse(data); root != nil {
		d.decode(root, reflect.ValueOf(v).Elem(), "")
	}
	return d.problems
}

func decodeInto[T any](d *decoder, n *yaml.Node, path string) *T {
	v := new(T)
	d.decode(n, reflect.ValueOf(v).Elem(), path)
	return v
}

func (t *Token) decodeNode(d *decoder, n *yaml.Node, path string) {
	t.place = d.place(n, path)
	d.structure(n, reflect.ValueOf(t).Elem(), path)
	if n.Kind == yaml.MappingNode && child(n, "source") == nil {
		d.problem(n, path, "has no source").Hint = "add source: {type: …}; `renewd presets` lists the vendors it knows"
	}
}

// parse gives the root mapping, nil for an empty file.
func (d *decoder) parse(data []byte) *yaml.Node {
	d.read = &text{file: d.file, data: data}
	if len(data) >= 2 && (data[0] == 0xff && data[1] == 0xfe || data[0] == 0xfe && data[1] == 0xff) {
		d.problems = append(d.problems, Problem{File: d.file, Msg: "is in UTF-16", Hint: "save it as UTF-8 (in PowerShell: -Encoding utf8)"})
		return nil
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		d.problems = append(d.problems, Problem{File: d.file, Line: 1 + bytes.Count(data[:i], []byte("\n")), Column: 1, Msg: "holds a NUL byte: it is no text"})
		return nil
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		d.problems = append(d.problems, syntaxProblem(d.file, err))
		return nil
	}
	root := &doc
	if root.Kind == yaml.DocumentNode {
		if len(root.Content) == 0 {
			return nil
		}
		root = root.Content[0]
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		d.problem(&second, "", "a second document (---) is not read").Hint = "put its tokens into the first, or into a file in conf.d"
	} else if !errors.Is(err, io.EOF) {
		d.problems = append(d.problems, syntaxProblem(d.file, err))
	}
	if isNull(root) || !d.bounded(root) {
		return nil
	}
	return root
}

// syntaxProblem tells where the YAML is broken. The library's own words are kept
// only as far as they quote nothing.
func syntaxProblem(file string, err error) Problem {
	p := Problem{File: file, Msg: "is not YAML", Hint: "often a tab, a missing space after a colon, or a value with : or # that wants quotes"}
	// Compiled here: every verb pays for what a package does at its start.
	if m := regexp.MustCompile(`line (\d+)(?:,? column (\d+))?`).FindStringSubmatch(err.Error()); m != nil {
		_, _ = fmt.Sscan(m[1], &p.Line)
		p.Column = 1
		if m[2] != "" {
			_, _ = fmt.Sscan(m[2], &p.Column)
		}
	}
	return p
}

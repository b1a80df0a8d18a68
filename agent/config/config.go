// Package config reads renewd.yaml, conf.d and presets. It is the one place that
// knows YAML: it decodes strictly, tells every problem with file, line, column
// and key path, and never quotes what it read.
//
// Load decodes and judges what can be judged from the text alone; what a source
// makes of its own keys is judged by that source, and Token.Place turns its
// problems into ones of the config.
package config

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"renewd/agent/secret"
	"renewd/agent/source/exec"
	"renewd/agent/source/file"
	"renewd/agent/source/http"
	"renewd/agent/source/jwt"
	"renewd/agent/source/oauth2"
	"renewd/agent/source/spec"
	"renewd/agent/source/wire"
)

// Config is everything that renewd.yaml and conf.d say.
type Config struct {
	Socket   Socket            `yaml:"socket"`
	State    State             `yaml:"state"`
	Log      Log               `yaml:"log"`
	Metrics  Metrics           `yaml:"metrics"`
	Defaults Defaults          `yaml:"defaults"`
	Policy   Policy            `yaml:"policy"`
	Landlock string            `yaml:"landlock"` // auto, none
	Hosts    map[string]Limits `yaml:"hosts"`
	Tokens   map[string]*Token `yaml:"tokens"`

	// Presets are the admin's own, by name; they stand in presets/ beside the
	// config.
	Presets map[string]*Preset `yaml:"-"`
	// Blank says that the main file holds nothing at all: a token-less config is
	// written `tokens: {}`, an empty one is mostly being written.
	Blank bool `yaml:"-"`
	// Files are all files and directories that were read, to be watched and to
	// be judged by whom they can be changed.
	Files []string `yaml:"-"`
	Dirs  []string `yaml:"-"`

	main Place // of the main file, for problems of settings
}

// Place says where the settings of the main file stand.
func (c *Config) Place() Place { return c.main }

// Socket is where the agent listens.
type Socket struct {
	Path  secret.Path `yaml:"path"`
	Mode  *Mode       `yaml:"mode"`
	Group string      `yaml:"group"`

	// UnixPath is a Unix socket beside Windows' named pipe. It cannot tell who asks.
	UnixPath secret.Path `yaml:"unix_path"`
}

// State is where what must survive is kept.
type State struct {
	Dir secret.Path `yaml:"dir"`
	Key *secret.Ref `yaml:"key"` // seals the state; default: a key file in dir
}

// Log is how the agent logs.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // auto, text, json
	Audit  bool   `yaml:"audit"`
}

// Metrics is an extra TCP listener for /metrics and /healthz.
type Metrics struct {
	Listen string `yaml:"listen"`
	Expose bool   `yaml:"expose"` // allow other addresses than loopback
}

// Defaults stand for what a token leaves out.
type Defaults struct {
	TLS     *wire.TLS `yaml:"tls"`
	Proxy   string    `yaml:"proxy"`
	NoProxy []string  `yaml:"no_proxy"`
}

// Policy refuses what is otherwise only warned of.
type Policy struct {
	Insecure     string `yaml:"insecure"`      // refuse
	PlainSecrets string `yaml:"plain_secrets"` // refuse
}

// Limits bound what one host is sent.
type Limits struct {
	Concurrency int        `yaml:"concurrency"`
	Requests    *spec.Rate `yaml:"requests"`
}

// Token is one token: where it comes from, where it goes, who may read it.
type Token struct {
	Source  Source   `yaml:"source"`
	Sinks   []Sink   `yaml:"sinks"`
	Allow   *Allow   `yaml:"allow"`
	Renew   Renew    `yaml:"renew"`
	Readers []string `yaml:"readers"`

	place Place // of the token's mapping
}

// Place says where the token's source stands.
func (t *Token) Place() Place { return t.Source.place }

// PlaceOf says where another key of the token stands: "sinks[0].path".
func (t *Token) PlaceOf() Place { return t.place }

// Allow names who else may read a token on the socket.
type Allow struct {
	Users  []string `yaml:"users"`
	Groups []string `yaml:"groups"`
}

// Renew is the schedule of renewals.
type Renew struct {
	Before      spec.Duration `yaml:"before"`
	Jitter      *Percent      `yaml:"jitter"`
	MinInterval spec.Duration `yaml:"min_interval"`
}

// Sink is one place where the token is published.
type Sink struct {
	Type     string `yaml:"type"`
	Path     string `yaml:"path"` // relative: below <runtime>/tokens
	Format   string `yaml:"format"`
	Newline  bool   `yaml:"newline"`
	Template string `yaml:"template"`
	Machine  string `yaml:"machine"`
	Login    string `yaml:"login"`
	Mode     *Mode  `yaml:"mode"`
	Owner    string `yaml:"owner"`
	Group    string `yaml:"group"`
	OnExpiry string `yaml:"on_expiry"`
	OnStop   string `yaml:"on_stop"`
}

// Source is one of the source types; the pointer of Type is set. A preset sets
// Use.
type Source struct {
	Type   string
	HTTP   *http.Spec
	Use    *http.Use
	Exec   *exec.Spec
	File   *file.Spec
	JWT    *jwt.Spec
	OAuth2 *oauth2.Spec

	place Place
}

// types are the sources that are not presets.
var types = []string{"http", "exec", "file", "jwt", "oauth2"}

// Types lists the source types that are not presets.
func Types() []string { return append([]string(nil), types...) }

func (s *Source) decodeNode(d *decoder, n *yaml.Node, path string) {
	s.place = d.place(n, path)
	if n.Kind != yaml.MappingNode {
		d.problem(n, path, "want a mapping with a type, not %s", nodeName(n))
		return
	}
	rest := *n
	rest.Content = nil
	var typ *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "type" && typ == nil {
			typ = resolve(n.Content[i+1])
			continue
		}
		rest.Content = append(rest.Content, n.Content[i], n.Content[i+1])
	}
	if typ == nil {
		d.problem(n, path, "has no type").Hint = "write a preset's name (`renewd presets` lists them), oauth2, http, exec, file or jwt"
		return
	}
	if typ.Kind != yaml.ScalarNode || typ.ShortTag() != "!!str" {
		d.problem(typ, spec.Key(path, "type"), "want a name, not %s", nodeName(typ))
		return
	}
	s.Type = typ.Value
	switch s.Type {
	case "http":
		s.HTTP = decodeInto[http.Spec](d, &rest, path)
	case "exec":
		s.Exec = decodeInto[exec.Spec](d, &rest, path)
	case "file":
		s.File = decodeInto[file.Spec](d, &rest, path)
	case "jwt":
		s.JWT = decodeInto[jwt.Spec](d, &rest, path)
	case "oauth2":
		s.OAuth2 = decodeInto[oauth2.Spec](d, &rest, path)
	default:
		s.Use = decodeInto[http.Use](d, &rest, path)
	}
}

// Mode is a file's permission bits, written in octal.
type Mode uint32

func (m *Mode) decodeNode(d *decoder, n *yaml.Node, path string) {
	s := n.Value
	bits, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimPrefix(s, "0o"), "0"), 8, 32)
	switch {
	case n.Kind != yaml.ScalarNode:
		d.problem(n, path, "want a mode, not %s", nodeName(n)).Hint = `write "0640"`
	case n.ShortTag() == "!!int" && !strings.HasPrefix(s, "0"):
		d.problem(n, path, "the mode is a decimal number").Hint = `write it in octal and in quotes: "0640"`
	case strings.Trim(s, "0o") == "" && s != "":
		*m = 0
	case err != nil || bits > 0o777:
		d.problem(n, path, "is no mode").Hint = `write it in octal: "0640"`
	default:
		*m = Mode(bits)
	}
}

// JSONSchema describes a Mode.
func (Mode) JSONSchema() map[string]any {
	return map[string]any{"type": "string", "pattern": "^0o?[0-7]{3,4}$", "examples": []any{"0600", "0640"}}
}

// Percent is a fraction, written "10%".
type Percent float64

// UnmarshalText reads 0% to 50%.
func (p *Percent) UnmarshalText(b []byte) error {
	s, ok := strings.CutSuffix(string(b), "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if !ok || err != nil || f < 0 || f > 50 {
		return fmt.Errorf("want a share from 0%% to 50%%")
	}
	*p = Percent(f / 100)
	return nil
}

// JSONSchema describes a Percent.
func (Percent) JSONSchema() map[string]any {
	return map[string]any{"type": "string", "pattern": "^[0-9.]+ ?%$", "examples": []any{"10%"}}
}

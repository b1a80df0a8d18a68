// Package secret reads secrets from where an admin keeps them: a file, the
// environment, a systemd credential, a command, or the config itself. What it
// reads is checked before it is ever sent, since a vendor counts every try.
package secret

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"renewd/agent"
)

// Path is a file's path as decoded from a config: absolute, or made so relative
// to the file it was written in.
type Path string

// Ref says where a secret is: exactly one field is set. As a plain scalar the
// config itself holds it.
type Ref struct {
	File       Path     `yaml:"file"`
	Env        string   `yaml:"env"`
	Credential string   `yaml:"credential"` // in systemd's $CREDENTIALS_DIRECTORY
	Command    []string `yaml:"command"`    // run without a shell
	Keyring    string   `yaml:"keyring"`    // SERVICE/ACCOUNT

	Plain agent.Secret `yaml:"-"`
}

// Plain is a secret that stands in the config itself.
func Plain(s string) Ref { return Ref{Plain: agent.NewSecret(s)} }

// UnmarshalText takes a plain scalar.
func (r *Ref) UnmarshalText(b []byte) error { *r = Plain(string(b)); return nil }

// places are the keys that a Ref may be written with.
func places() []string { return []string{"file", "env", "credential", "command", "keyring"} }

// FromTree reads a Ref from a decoded mapping of one key; abs makes paths
// absolute (nil leaves them).
func FromTree(m map[string]any, abs func(string) string) (Ref, error) {
	var r Ref
	if len(m) != 1 {
		return r, errPlaces(nil)
	}
	for key, v := range m {
		if key == "command" {
			var err error
			r.Command, err = stringList(v)
			return r, err
		}
		s, ok := v.(string)
		if !ok && slices.Contains(places(), key) {
			return r, fmt.Errorf("%s: want a string", key)
		}
		switch key {
		case "file":
			if abs != nil && s != "" {
				s = abs(s)
			}
			r.File = Path(s)
		case "env":
			r.Env = s
		case "credential":
			r.Credential = s
		case "keyring":
			r.Keyring = s
		default:
			return r, errPlaces(&key)
		}
	}
	return r, r.Check()
}

func errPlaces(key *string) error {
	all := strings.Join(places(), ", ")
	if key != nil {
		return fmt.Errorf("%q is no place of secrets (one of %s)", *key, all)
	}
	return fmt.Errorf("want a value, or where a secret is: one of %s", all)
}

func stringList(v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, errors.New("command: want a list, the program first")
	}
	out := make([]string, len(list))
	for i, e := range list {
		if out[i], ok = e.(string); !ok {
			return nil, errors.New("command: want a list of strings")
		}
	}
	return out, nil
}

// Check says what is wrong with how r is written; it reads nothing.
func (r Ref) Check() error {
	n := 0
	for _, set := range []bool{r.File != "", r.Env != "", r.Credential != "", len(r.Command) > 0, r.Keyring != "", !r.Plain.IsZero()} {
		if set {
			n++
		}
	}
	switch {
	case n == 0:
		return errors.New("the secret is empty")
	case n > 1:
		return errors.New("a secret is in one place only")
	case r.Keyring != "":
		_, _, err := keyringEntry(r.Keyring)
		return err
	case len(r.Command) > 0 && r.Command[0] == "":
		return errors.New("command: the program's name is empty")
	case strings.ContainsAny(r.Credential, `/\`) || r.Credential == "..":
		return errors.New("credential: want a name, not a path")
	}
	return nil
}

// keyringEntry takes SERVICE/ACCOUNT apart.
func keyringEntry(name string) (service, account string, err error) {
	service, account, ok := strings.Cut(name, "/")
	if !ok || service == "" || account == "" {
		return "", "", errors.New("keyring: want SERVICE/ACCOUNT")
	}
	return service, account, nil
}

// JSONSchema describes every way to write a Ref.
func (Ref) JSONSchema() map[string]any {
	one := func(key string, schema map[string]any) any {
		return map[string]any{"type": "object", "additionalProperties": false,
			"required": []any{key}, "properties": map[string]any{key: schema}}
	}
	str := map[string]any{"type": "string", "minLength": 1}
	return map[string]any{"anyOf": []any{
		str, one("file", str), one("env", str), one("credential", str), one("keyring", str),
		one("command", map[string]any{"type": "array", "minItems": 1, "items": str}),
	}}
}

package http

import (
	"iter"
	"regexp"
	"strings"
	"sync"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/spec"
)

// namedSecret is a secret that a Spec itself names, with the path of its key.
type namedSecret struct {
	path string
	h    secret.Handle
}

// Secrets are this source's secrets by the path of the key that names each. own
// says that the path is one of the mapping that `type` stands in, as against one
// of a preset's file.
func (s *Source) Secrets(own bool) iter.Seq2[string, secret.Handle] {
	return func(yield func(string, secret.Handle) bool) {
		for i, v := range s.values {
			h, ok := v.(secret.Handle)
			if plain, is := v.(agent.Secret); is {
				h, ok = secret.Ref{Plain: plain}.Handle(), true
			}
			if ok && own && !yield(spec.Key("", s.set.prog.inputs[i].name), h) {
				return
			}
		}
		if own != s.set.prog.inline() {
			return
		}
		for _, n := range s.set.prog.secrets {
			if !yield(n.path, n.h) {
				return
			}
		}
		for name, v := range s.set.prog.spec.Vars {
			// A literal is no secret by its type, but by its name it may be one.
			text, ok := v.Value.V.(string)
			if ok && secretName().MatchString(name) && !strings.Contains(text, "${") && text != "" &&
				!yield(spec.Key("vars", name), secret.Plain(text).Handle()) {
				return
			}
		}
	}
}

// Compiled at its first use: every verb pays for what a package does at its start.
var secretName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)passw|passphrase|secret|api_?key|private_?key|^pass$|^pwd$`)
})

// inline says that the Spec stands in the config, beside `type: http`.
func (p *Program) inline() bool { return p.name == "http" }

// Files are the files whose change may change a secret of this source.
func (s *Source) Files() (out []string) {
	for _, own := range []bool{true, false} {
		for _, h := range s.Secrets(own) {
			if f := h.File(); f != "" {
				out = append(out, f)
			}
		}
	}
	return out
}

package secret

import (
	"crypto/sha256"

	"renewd/agent"
)

type kind uint8

const (
	kindNone kind = iota
	kindPlain
	kindFile
	kindEnv
	kindCredential
	kindCommand
	kindKeyring
)

// Handle is a Ref in few bytes, for those who keep a hundred thousand of them.
// The zero Handle names no secret.
type Handle struct {
	kind kind
	text agent.Secret // the secret, a path or a name
	argv *[]string
}

// Handle packs r.
func (r Ref) Handle() Handle {
	switch {
	case !r.Plain.IsZero():
		return Handle{kind: kindPlain, text: r.Plain}
	case r.File != "":
		return Handle{kind: kindFile, text: agent.NewSecret(string(r.File))}
	case r.Env != "":
		return Handle{kind: kindEnv, text: agent.NewSecret(r.Env)}
	case r.Credential != "":
		return Handle{kind: kindCredential, text: agent.NewSecret(r.Credential)}
	case len(r.Command) > 0:
		argv := r.Command
		return Handle{kind: kindCommand, argv: &argv}
	case r.Keyring != "":
		return Handle{kind: kindKeyring, text: agent.NewSecret(r.Keyring)}
	}
	return Handle{}
}

// Equal reports whether both name the same secret, as far as that can be told
// without reading it.
func (h Handle) Equal(o Handle) bool {
	return h.kind == o.kind && h.text.Equal(o.text) && h.argv == o.argv
}

// File is the file to watch for changes of the secret, "" when there is none.
func (h Handle) File() string {
	if h.kind == kindFile {
		return h.text.Reveal()
	}
	return ""
}

// Inline reports whether the secret stands in the config itself.
func (h Handle) Inline() bool { return h.kind == kindPlain }

// Program is what is run to read the secret, "" where nothing is.
func (h Handle) Program() string {
	if h.kind == kindCommand {
		return (*h.argv)[0]
	}
	return ""
}

// Keyring reports whether the secret is in a keyring, which is one user's.
func (h Handle) Keyring() bool { return h.kind == kindKeyring }

// AtStart reports whether the secret is fixed until this process restarts.
func (h Handle) AtStart() bool { return h.kind == kindEnv || h.kind == kindCredential }

// digest tells two readings apart; it is kept in memory alone.
func digest(s agent.Secret) [16]byte {
	sum := sha256.Sum256([]byte(s.Reveal()))
	return [16]byte(sum[:16])
}

// Package seal wraps the key of a state in what this system keeps keys with, so
// that a copy of the state's directory alone opens nothing.
//
// The key stays in its file, wrapped. A [Sealer] is one way to wrap it; [Sealers]
// gives those of this system, the best first. The state seals a new key with the
// first that can, writes the sealer's name before what that gave, and has the
// sealer of that name open it again. So a way that is added later is one more
// Sealer in that list, and a key that another way has sealed still opens. One that
// keeps a secret of its own elsewhere seals with a key made from that secret: Seal
// makes it where there is none yet, Open must not.
package seal

import "io/fs"

// Sealer wraps a key of 32 bytes. Its methods may wait for the system, and may be
// called by many goroutines.
type Sealer struct {
	name string
	seal func(key []byte) ([]byte, error)
	open func(sealed []byte) ([]byte, error)
}

// Name says what keeps the key, for people and for the file: it never changes and
// is one line.
func (s *Sealer) Name() string { return s.name }

// Seal wraps a key. An error means that this way is not to be had here and now.
func (s *Sealer) Seal(key []byte) ([]byte, error) { return s.seal(key) }

// Open gives back what Seal was given. An error wrapping ErrOther says that
// waiting does not help: another machine, account or secret sealed it. It is an
// fs.ErrInvalid too, for who does not know this package.
func (s *Sealer) Open(sealed []byte) ([]byte, error) { return s.open(sealed) }

// ErrOther means that what is to be opened was sealed elsewhere or was changed.
var ErrOther error = otherError{}

type otherError struct{}

func (otherError) Error() string        { return "it was sealed elsewhere, or changed since" }
func (otherError) Is(target error) bool { return target == fs.ErrInvalid }

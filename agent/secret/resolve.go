package secret

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"renewd/agent"
	"renewd/agent/secret/child"
	"renewd/platform/keyring"
)

const (
	commandTimeout = 10 * time.Second
	settle         = 500 * time.Millisecond // between two reads of a changed file
	settleReads    = 10
	maxSize        = 1 << 20
)

// Resolver reads secrets. It remembers a digest of what each file held, so that
// a half-written change is never sent; the nil Resolver has no memory. It may be
// used by many goroutines at once.
type Resolver struct {
	keyring asker

	mu   sync.Mutex
	seen map[string][16]byte // by path
}

// NewResolver returns a Resolver that remembers.
func NewResolver() *Resolver {
	return &Resolver{keyring: asker{get: keyring.Get, turn: make(chan struct{}, 1)}, seen: map[string][16]byte{}}
}

// Resolve reads r. Errors say what to do and never hold any of the secret.
func (v *Resolver) Resolve(ctx context.Context, r Ref) (agent.Secret, error) {
	if err := r.Check(); err != nil {
		return agent.Secret{}, err
	}
	return v.Read(ctx, r.Handle())
}

// Read reads the secret that h names. For a file that changed since it was last
// read it waits until two readings half a second apart agree.
func (v *Resolver) Read(ctx context.Context, h Handle) (agent.Secret, error) {
	if h.kind == kindKeyring && v != nil {
		return readKeyring(ctx, h.text.Reveal(), v.keyring.ask)
	}
	if h.kind != kindFile || v == nil {
		return read(ctx, h)
	}
	path := h.text.Reveal()
	v.mu.Lock()
	known, changedBefore := v.seen[path]
	v.mu.Unlock()
	s, err := read(ctx, h)
	if changedBefore && (err != nil || digest(s) != known) {
		s, err = settled(ctx, h, s)
	}
	if err != nil {
		return agent.Secret{}, err
	}
	v.mu.Lock()
	v.seen[path] = digest(s)
	v.mu.Unlock()
	return s, nil
}

// settled reads until two readings in a row agree. last is unset where the first
// reading failed: an editor may have the file half written.
func settled(ctx context.Context, h Handle, last agent.Secret) (agent.Secret, error) {
	var err error
	for range settleReads {
		t := time.NewTimer(settle)
		select {
		case <-ctx.Done():
			t.Stop()
			return agent.Secret{}, ctx.Err()
		case <-t.C:
		}
		var s agent.Secret
		s, err = read(ctx, h)
		if err == nil && !last.IsZero() && s.Equal(last) {
			return s, nil
		}
		if err != nil && last.IsZero() {
			return agent.Secret{}, err // failed twice: it is not being written
		}
		last = s
	}
	if err == nil {
		err = fmt.Errorf("read secret file %q: it changes all the time", h.text.Reveal())
	}
	return agent.Secret{}, err
}

func read(ctx context.Context, h Handle) (agent.Secret, error) {
	name := h.text.Reveal()
	switch h.kind {
	case kindPlain:
		return clean("the secret in the config", []byte(name), false)
	case kindFile:
		b, err := readFile(name)
		if err != nil {
			return agent.Secret{}, fmt.Errorf("read secret file %q: %w", name, err)
		}
		return clean(fmt.Sprintf("secret file %q", name), b, true)
	case kindEnv:
		s, ok := os.LookupEnv(name)
		if !ok {
			return agent.Secret{}, fmt.Errorf("read secret: environment variable %q is not set (it is read when the agent starts)", name)
		}
		return clean(fmt.Sprintf("environment variable %q", name), []byte(s), false)
	case kindCredential:
		return readCredential(name)
	case kindCommand:
		return readCommand(ctx, *h.argv)
	case kindKeyring:
		return readKeyring(ctx, name, keyring.Get)
	}
	return agent.Secret{}, errors.New("no secret is given")
}

func readCredential(name string) (agent.Secret, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return agent.Secret{}, fmt.Errorf("read credential %q: $CREDENTIALS_DIRECTORY is not set: have the unit load it with LoadCredential=%s:/path/to/it", name, name)
	}
	b, err := readFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return agent.Secret{}, fmt.Errorf("read credential %q: the unit does not load it: add LoadCredential=%s:/path/to/it", name, name)
	}
	if err != nil {
		return agent.Secret{}, fmt.Errorf("read credential %q: %w", name, err)
	}
	return clean(fmt.Sprintf("credential %q", name), b, true)
}

func readCommand(ctx context.Context, argv []string) (agent.Secret, error) {
	b, err := child.Run(ctx, child.Command{Argv: argv, Timeout: commandTimeout})
	what := fmt.Sprintf("secret command %q", argv[0])
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return agent.Secret{}, fmt.Errorf("run %s: it ended with status %d", what, exit.ExitCode())
	}
	if err != nil {
		return agent.Secret{}, fmt.Errorf("run %s: %w", what, err)
	}
	return clean("what "+what+" printed", b, true)
}

// readFile reads a regular file; a FIFO or a device would hang or never end.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(b) > maxSize {
		return nil, fmt.Errorf("it is larger than %d bytes", maxSize)
	}
	return b, nil
}

// cause drops the path that an *fs.PathError repeats.
func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

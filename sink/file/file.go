// Package file publishes a token in a file, whole and durable, and keeps that
// file as it is configured: what someone else deletes, replaces or chmods is put
// right, ever more slowly where someone fights it.
package file

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"renewd/agent"
	"renewd/platform/atomicfile"
	"renewd/sink"
)

// Policy says what becomes of the file when its token is not published any more.
type Policy int

const (
	Keep Policy = iota
	Remove
)

// Options configure one file. Path, Format and Writer are required.
type Options struct {
	Path   string // absolute
	Format *sink.Format
	Writer *atomicfile.Writer // shared by all files of the process

	Access   atomicfile.Access // zero: mode 0600
	OnExpiry Policy
	OnStop   Policy

	// TokensDir is <runtime>/tokens, the one directory that is made (0711) when
	// it is missing.
	TokensDir string
	Log       *slog.Logger // says when the file was put right; nil: silent
}

// contents has room for what is written: a fleet writes thousands a second.
var contents = sync.Pool{New: func() any { return new([]byte) }}

// Sink keeps one file. It implements agent.Sink.
type Sink struct {
	o     Options
	fight fight

	placed bool               // what tried holds was in place
	tried  [32]byte           // digest of the last content that a Deliver began to write
	before [32]byte           // digest of the last content that was surely in place, or may be there since before
	known  bool               // one of them is set
	stamp  atomicfile.Stamp   // of the file that was put in place
	last   *agent.Publication // of the last Deliver
}

var (
	_ agent.Sink       = (*Sink)(nil)
	_ agent.Rememberer = (*Sink)(nil)
)

// New checks the options. It touches nothing: the first Deliver sweeps what a
// crash left in the directory.
func New(o Options) (*Sink, error) {
	if !filepath.IsAbs(o.Path) || filepath.Clean(o.Path) != o.Path {
		return nil, fmt.Errorf("path: %q is not an absolute, clean path", o.Path)
	}
	if o.Access.Mode&^fs.ModePerm != 0 {
		return nil, fmt.Errorf("mode: %v is more than permission bits", o.Access.Mode)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Sink{o: o}, nil
}

// Path places a sink's file: an absolute path as it is, a relative one below
// tokensDir, none as NAME or NAME.FORMAT there.
func Path(tokensDir, path, token string, f *sink.Format) (string, error) {
	switch {
	case path == "" && f.Name() == "raw":
		return filepath.Join(tokensDir, token), nil
	case path == "":
		return filepath.Join(tokensDir, token+"."+f.Name()), nil
	case filepath.IsAbs(path):
		return filepath.Clean(path), nil
	case !filepath.IsLocal(path):
		return "", fmt.Errorf("path: %q leads out of %q", path, tokensDir)
	}
	return filepath.Join(tokensDir, path), nil
}

// ID is "file" and the path.
func (s *Sink) ID() string { return "file " + s.o.Path }

// Path is the file's path, for who watches it.
func (s *Sink) Path() string { return s.o.Path }

// Deliver puts p in the file. Called again with what is in place already, it puts
// right what someone else changed; where that happens too often it returns a
// *Fought error until it may write again.
func (s *Sink) Deliver(ctx context.Context, p *agent.Publication) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// Mostly what was told as a change is the change that we made.
	if s.placed && p == s.last && s.stamp != (atomicfile.Stamp{}) && s.stamp == atomicfile.StampOf(s.o.Path) {
		return nil
	}
	buf := contents.Get().(*[]byte)
	defer contents.Put(buf)
	data, err := s.o.Format.Append((*buf)[:0], p)
	if err != nil {
		return err
	}
	*buf = data
	sum := sha256.Sum256(data)
	if s.placed && sum == s.tried {
		s.last = p
		return s.putRight(data)
	}
	if s.placed {
		s.before = s.tried
	}
	s.tried, s.known, s.placed, s.last = sum, true, false, p
	if err := s.put(data); err != nil {
		return err
	}
	s.placed = true
	return nil
}

// Remember implements agent.Rememberer.
func (s *Sink) Remember(p *agent.Publication) {
	if data, err := s.o.Format.Render(p); err == nil && !s.known {
		s.before, s.known = sha256.Sum256(data), true
	}
}

// put writes the file, and the tokens directory first where that is missing.
func (s *Sink) put(data []byte) (err error) {
	_, s.stamp, err = s.o.Writer.PutStamped(s.o.Path, data, s.o.Access, s.stamp)
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.makeTokensDir(); err != nil {
			return err
		}
		_, s.stamp, err = s.o.Writer.PutStamped(s.o.Path, data, s.o.Access, s.stamp)
	}
	return hinted(err)
}

// putRight writes what differs from what was in place.
func (s *Sink) putRight(data []byte) error {
	drift, err := s.o.Writer.Compare(s.o.Path, data, s.o.Access)
	if err != nil {
		return hinted(err)
	}
	if drift == atomicfile.Unchanged {
		return nil
	}
	if err := s.fight.enter(time.Now(), s.o.Path, s.o.Log); err != nil {
		return err
	}
	if err := s.put(data); err != nil {
		return err
	}
	s.o.Log.Info("file put right", agent.KeySink, s.ID(), "was", driftName(drift))
	return nil
}

func driftName(o atomicfile.Outcome) string {
	switch o {
	case atomicfile.Created:
		return "deleted"
	case atomicfile.Replaced:
		return "rewritten"
	}
	return "given another owner or mode"
}

// Withdraw removes the file where the settings say so, and only while it holds
// what this Sink wrote or was writing.
func (s *Sink) Withdraw(_ context.Context, why agent.WithdrawReason) error {
	switch {
	case why == agent.WithdrawExpired && s.o.OnExpiry == Keep,
		why == agent.WithdrawStopped && s.o.OnStop == Keep,
		!s.known:
		return nil
	}
	_, err := s.o.Writer.Remove(s.o.Path, func(content []byte) bool {
		sum := sha256.Sum256(content)
		return sum == s.tried || sum == s.before
	})
	if errors.Is(err, atomicfile.ErrUnsafeTarget) {
		return nil // someone else put it there
	}
	if err == nil {
		s.placed = false
	}
	return hinted(err)
}

// Check reports whether Deliver could write the file, leaving nothing behind but
// the tokens directory.
func (s *Sink) Check() error {
	if err := s.makeTokensDir(); err != nil {
		return err
	}
	return hinted(s.o.Writer.Probe(s.o.Path, s.o.Access))
}

// makeTokensDir makes <runtime>/tokens: passable for everyone, so that a file's
// own mode decides, but not to be listed.
func (s *Sink) makeTokensDir() error {
	dir := s.o.TokensDir
	if dir == "" || filepath.Dir(s.o.Path) != filepath.Clean(dir) {
		return nil
	}
	err := os.Mkdir(dir, 0o711)
	if err == nil {
		err = os.Chmod(dir, 0o711) // the umask may have taken bits away
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the tokens directory: %w", err)
	}
	return nil
}

// hinted adds what to do to an error's text: status and logs show only that.
func hinted(err error) error {
	if e, ok := errors.AsType[*atomicfile.Error](err); ok && e.Hint != "" {
		return fmt.Errorf("%w; %s", err, e.Hint)
	}
	return err
}

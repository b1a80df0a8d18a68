package file

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"renewd/agent"
	"renewd/platform/atomicfile"
	"renewd/sink"
	"renewd/sink/sinktest"
)

func TestFileIsASink(t *testing.T) {
	for name, p := range map[string]Policy{"keep": Keep, "remove": Remove} {
		t.Run(name, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) sinktest.Harness {
				f, err := sink.New(sink.Options{})
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(t.TempDir(), "token")
				s, err := New(Options{Path: path, Format: f, Writer: atomicfile.NewWriter(), OnExpiry: p, OnStop: p})
				if err != nil {
					t.Fatal(err)
				}
				return sinktest.Harness{
					Sink:   s,
					Read:   func() ([]byte, error) { return readShared(path) },
					Render: func(p *agent.Publication) []byte { return []byte(p.Token.Reveal()) },
					Stamp: func() string {
						fi, err := os.Stat(path)
						if err != nil {
							return err.Error()
						}
						return fi.ModTime().String()
					},
					Disturb: func() { _ = os.WriteFile(path, []byte("someone else's"), 0o600) },
					Removes: map[agent.WithdrawReason]bool{
						agent.WithdrawRemoved: true, agent.WithdrawExpired: p == Remove, agent.WithdrawStopped: p == Remove,
					},
				}
			})
		})
	}
}

// readShared tries again where the file is being replaced, and leaves it alone for
// a moment: a file that somebody always has open can never be replaced on Windows.
func readShared(path string) ([]byte, error) {
	const sharingViolation = syscall.Errno(32)
	for {
		time.Sleep(time.Millisecond)
		if b, err := os.ReadFile(path); !errors.Is(err, sharingViolation) {
			return b, err
		}
	}
}

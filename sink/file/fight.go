package file

import (
	"fmt"
	"log/slog"
	"time"

	"renewd/agent"
)

const (
	firstWait   = time.Minute // between two repairs of one path
	longestWait = time.Hour
)

// fight spaces repairs of one file: whoever changes it back and forth gets an
// answer at most once a minute, and half as often each time until once an hour.
type fight struct {
	wait time.Duration // until the next repair, counted from the last
	last time.Time
}

// Fought says that a file was changed again so soon that it is left alone for a
// while.
type Fought struct {
	Path  string
	Until time.Time
}

func (f *Fought) Error() string {
	return fmt.Sprintf("%q is changed by someone else again and again; it is put right at %s; find out by whom: auditctl, fatrace or lsof",
		f.Path, f.Until.Format(time.TimeOnly))
}

// enter reports whether the file may be repaired now, and books the repair. A
// change within twice the wait is a fight; a later one begins anew.
func (f *fight) enter(now time.Time, path string, log *slog.Logger) error {
	since := now.Sub(f.last)
	switch {
	case f.wait == 0 || since > 2*f.wait:
		f.wait = firstWait
	case since < f.wait:
		return &Fought{path, f.last.Add(f.wait)}
	case f.wait < longestWait:
		f.wait = min(2*f.wait, longestWait)
		log.Warn("file changed by someone else again", agent.KeySink, "file "+path, "next_repair_in", f.wait)
	}
	f.last = now
	return nil
}

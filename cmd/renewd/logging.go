package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// Messages of the log that are the program's own.
const (
	msgStarted = "agent started"
	msgStops   = "agent stops; waits for what was sent"
	msgStopped = "agent stopped"
	msgRefused = "config refused; the running one stays"
)

// newLog makes the agent's log. format auto: colour on a terminal, lines with a
// priority prefix where systemd's journal reads them (sd-daemon(3)), else JSON.
// Windows' event log has a form of its own.
func newLog(w io.Writer, level, format string) (*slog.Logger, *slog.LevelVar) {
	lv := &slog.LevelVar{}
	setLevel(lv, level)
	terminal := isTerminal(w)
	switch {
	case tellsEvents(w):
		return slog.New(&journal{w: w, level: lv, ids: true}), lv
	case format == "json", format != "text" && !terminal && os.Getenv("JOURNAL_STREAM") == "":
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: lv})), lv
	case terminal:
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: lv, TimeFormat: time.TimeOnly, NoColor: !colours(w)})), lv
	case os.Getenv("JOURNAL_STREAM") != "":
		return slog.New(&journal{w: w, level: lv}), lv
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: lv})), lv
}

func setLevel(lv *slog.LevelVar, level string) {
	switch level {
	case "debug":
		lv.Set(slog.LevelDebug)
	case "warn":
		lv.Set(slog.LevelWarn)
	case "error":
		lv.Set(slog.LevelError)
	default:
		lv.Set(slog.LevelInfo)
	}
}

// withoutTime leaves out what the journal writes itself.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return slog.Attr{}
	}
	return a
}

// journal writes text records that begin with their syslog priority.
type journal struct {
	w     io.Writer
	level slog.Leveler
	ids   bool                            // the event's id follows the priority
	with  func(slog.Handler) slog.Handler // attributes and groups added so far
}

func (j *journal) Enabled(_ context.Context, l slog.Level) bool { return l >= j.level.Level() }

func (j *journal) Handle(ctx context.Context, r slog.Record) error {
	var line bytes.Buffer
	line.WriteString(prefix(r.Level))
	if j.ids {
		fmt.Fprintf(&line, "%d ", eventID(prefix(r.Level), r.Message))
	}
	var h slog.Handler = slog.NewTextHandler(&line, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutTime})
	if j.with != nil {
		h = j.with(h)
	}
	if err := h.Handle(ctx, r); err != nil {
		return err
	}
	_, err := j.w.Write(line.Bytes()) // one write a record: records do not mix
	return err
}

func (j *journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	return j.add(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (j *journal) WithGroup(name string) slog.Handler {
	return j.add(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (j *journal) add(f func(slog.Handler) slog.Handler) slog.Handler {
	before := j.with
	return &journal{w: j.w, level: j.level, ids: j.ids, with: func(h slog.Handler) slog.Handler {
		if before != nil {
			h = before(h)
		}
		return f(h)
	}}
}

func prefix(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

// isTerminal reports whether w is one.
func isTerminal(w io.Writer) bool {
	f, ok := unwrap(w).(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colours says whether to paint: on a terminal only, and not against
// https://no-color.org.
func colours(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func tellsEvents(w io.Writer) bool {
	_, ok := unwrap(w).(*eventLog)
	return ok
}

// unwrap gives what a queue writes to.
func unwrap(w io.Writer) io.Writer {
	if q, ok := w.(interface{ Unwrap() io.Writer }); ok {
		return q.Unwrap()
	}
	return w
}

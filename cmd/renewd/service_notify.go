package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"renewd/agent"
	"renewd/platform/service"
)

const (
	statusPause = 2 * time.Second // between two status lines
	statusShare = 50              // and so many times as long as making one took
	usagePause  = 5 * time.Second // before the next start that may fail as this one did
)

// slowly holds an end that the next start would share back from a manager that
// starts again at once: it ends the same way until a person has mended the config
// or the state, and must come back by itself then.
func slowly(ctx context.Context, stderr io.Writer, n *service.Notifier, err error) error {
	if f, ok := errors.AsType[*failure](err); !ok || f.code != exitUsage || !n.On() {
		return err
	}
	var text bytes.Buffer
	report(err, &text)
	for line := range strings.Lines(text.String()) {
		_, _ = io.WriteString(stderr, loud(n)+line)
	}
	n.Status("cannot start: " + err.Error() + "; tried again every few seconds, see: renewd check")
	select {
	case <-ctx.Done():
	case <-time.After(usagePause):
	}
	return silent(exitUsage)
}

// loud begins a line that is an error to systemd's journal.
func loud(n *service.Notifier) string {
	if n.On() {
		return prefix(slog.LevelError)
	}
	return ""
}

// tellStatus keeps the manager's status line true, until ctx ends. The loop
// says when it has turned; nothing runs where nobody listens.
func (d *daemon) tellStatus(ctx context.Context) {
	if !d.notify.On() {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.turned:
		}
		began := time.Now()
		d.notify.Status(d.statusLine())
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(statusPause, statusShare*time.Since(began))):
		}
	}
}

// tick is the loop's own sign of life: it feeds the watchdog, and has the status
// line made anew by whoever has time for it.
func (d *daemon) tick() {
	d.notify.Alive()
	select {
	case d.turned <- struct{}{}:
	default:
	}
}

// statusLine is what `systemctl status` shows, "" where nobody listens: it looks
// at every token.
func (d *daemon) statusLine() string {
	if !d.notify.On() {
		return ""
	}
	var s summary
	for _, name := range d.agent.Names() {
		if t, ok := d.agent.Token(name); ok {
			s.add(t.Status())
		}
	}
	s.configRefused = d.configError() != ""
	s.stateFails = d.agent.StateError() != nil
	if c := d.confined.Load(); c != nil {
		s.outOfReach = len(c.replaced())
	}
	return s.text(time.Now())
}

// summary is all tokens in one line. Every user of the machine may read it: it
// holds names, kinds and the system's words for an error, no paths and no texts
// that came from elsewhere.
type summary struct {
	tokens                       int
	invalid, unwritten, troubled trouble
	next                         time.Time
	outOfReach                   int // directories that were replaced
	configRefused, stateFails    bool
}

// trouble counts the tokens that have one kind of it and says what the first has.
type trouble struct {
	n     int
	first string
}

func (t *trouble) add(name, what string) {
	if t.n++; t.n == 1 {
		t.first = name + ": " + what
	}
}

func (s *summary) add(t agent.Status) {
	s.tokens++
	what := ""
	if len(t.Problems) > 0 {
		what = string(t.Problems[0].Kind) // that of the login, where the refresh failed too
	}
	if t.Unsaved && what == "" {
		what = "not saved"
	}
	switch {
	case !t.Valid:
		s.invalid.add(t.Name, cmp.Or(what, string(t.State)))
	case what != "":
		s.troubled.add(t.Name, what)
	}
	for _, k := range t.Sinks {
		if !k.OK {
			s.unwritten.add(t.Name, cmp.Or(k.Cause, "not as it should be"))
			break
		}
	}
	if !t.NextRenewal.IsZero() && (s.next.IsZero() || t.NextRenewal.Before(s.next)) {
		s.next = t.NextRenewal
	}
}

func (s *summary) text(now time.Time) string {
	out := []string{counted(s.tokens, "token")}
	if s.tokens == 0 {
		out[0] = "no tokens in the config"
	}
	well := len(out)
	for _, x := range []struct {
		trouble
		what string
	}{{s.invalid, "not valid"}, {s.unwritten, "cannot be written"}, {s.troubled, "in trouble"}} {
		if x.n > 0 {
			out = append(out, fmt.Sprintf("%d %s (%s)", x.n, x.what, x.first))
		}
	}
	if s.configRefused {
		out = append(out, "the config on disk is refused and an older one runs")
	}
	if s.stateFails {
		out = append(out, "the state cannot be written")
	}
	if s.outOfReach > 0 {
		out = append(out, "a directory was replaced and is out of reach until a restart")
	}
	bad := len(out) > well
	if !s.next.IsZero() {
		out = append(out, "next renewal "+until(s.next.Sub(now)))
	}
	if bad {
		out = append(out, "see: renewd status")
	}
	return strings.Join(out, ", ")
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// until says a time to come as coarsely as a line that is read later deserves.
func until(d time.Duration) string {
	switch {
	case d < time.Second:
		return "now"
	case d < 2*time.Minute:
		return fmt.Sprintf("in %d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("in %d min", int(d.Minutes()))
	}
	return fmt.Sprintf("in %d h", int(d.Hours()))
}

package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"renewd/agent"
)

// style colours words where a terminal shows them.
type style struct{ on bool }

func (s style) paint(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) state(st agent.Status) string {
	word := stateWord(st)
	switch {
	case !st.Valid && st.State != agent.StatePending:
		return s.paint("31", word)
	case st.State != agent.StateValid:
		return s.paint("33", word)
	}
	return s.paint("32", word)
}

// stateWord is the state and, where it does not say so itself, whether the
// token is accepted.
func stateWord(st agent.Status) string {
	switch st.State {
	case agent.StateHeld, agent.StateLocked, agent.StateNeedsHuman:
		if st.Valid {
			return string(st.State) + ", valid"
		}
		return string(st.State) + ", no token"
	}
	if st.State == agent.StateExpired && st.ExpiresAt.IsZero() {
		return "no token"
	}
	return string(st.State)
}

// table prints what matters of each token, problems and what to do below it.
func table(w io.Writer, all []agent.Status, now time.Time, st style, bars bool) error {
	head := []string{"TOKEN", "STATE", "GEN", "ACCESS", "SESSION", "NEXT"}
	rows := [][]string{head}
	for _, t := range all {
		rows = append(rows, []string{t.Name, st.state(t), generation(t), access(t, now, st, bars), session(t, now, st, bars), next(t, now)})
	}
	widths := make([]int, len(head))
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], visible(c))
		}
	}
	var b strings.Builder
	for n, r := range rows {
		line := ""
		for i, c := range r {
			line += c + strings.Repeat(" ", widths[i]-visible(c)+2)
		}
		line = strings.TrimRight(line, " ")
		if n == 0 {
			line = st.paint("1", line)
		}
		b.WriteString(line + "\n")
		if n > 0 {
			troubles(&b, all[n-1], now, st)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// visible is the width of text without its colours.
func visible(s string) int {
	for {
		i := strings.Index(s, "\x1b[")
		if i < 0 {
			return utf8.RuneCountInString(s)
		}
		j := strings.IndexByte(s[i:], 'm')
		s = s[:i] + s[i+j+1:]
	}
}

func generation(t agent.Status) string {
	if t.Generation == 0 {
		return "-"
	}
	return fmt.Sprint(t.Generation)
}

func access(t agent.Status, now time.Time, st style, bars bool) string {
	if t.ExpiresAt.IsZero() {
		return "-"
	}
	left := t.ExpiresAt.Sub(now)
	word := short(left) + " left"
	if left <= 0 {
		word = "expired " + ago(t.ExpiresAt, now)
	}
	return withBar(word, left, time.Duration(t.LifeSeconds*float64(time.Second)), st, bars)
}

func session(t agent.Status, now time.Time, st style, bars bool) string {
	if t.SessionExpiresAt.IsZero() {
		switch {
		case t.RefreshesLeft != nil:
			return fmt.Sprintf("%d refreshes left", *t.RefreshesLeft)
		case !t.RefreshExpiresAt.IsZero():
			return short(t.RefreshExpiresAt.Sub(now)) + " to refresh"
		}
		return "-"
	}
	left := t.SessionExpiresAt.Sub(now)
	word := short(left) + " left"
	if left <= 0 {
		word = "over"
	}
	if t.RefreshesLeft != nil {
		word += fmt.Sprintf(", %d refreshes", *t.RefreshesLeft)
	}
	return withBar(word, left, t.SessionExpiresAt.Sub(t.SessionStartedAt), st, bars)
}

const barWidth = 16

// withBar draws a clock as a bar that drains.
func withBar(word string, left, whole time.Duration, st style, bars bool) string {
	if !bars || whole <= 0 {
		return word
	}
	n := int(float64(barWidth)*float64(max(0, left))/float64(whole) + 0.5)
	n = min(n, barWidth)
	colour := "32"
	if n <= barWidth/4 {
		colour = "33"
	}
	if left <= 0 {
		colour = "31"
	}
	return st.paint(colour, strings.Repeat("█", n)) + strings.Repeat("░", barWidth-n) + " " + word
}

func next(t agent.Status, now time.Time) string {
	switch {
	case t.Renewing:
		return "under way"
	case t.WaitingFor != "":
		return "waits for " + t.WaitingFor
	case t.NextRenewal.IsZero():
		return "-"
	}
	d := t.NextRenewal.Sub(now)
	if d < 0 {
		return string(t.NextStep) + " now"
	}
	return string(t.NextStep) + " in " + short(d)
}

// troubles are the lines below a token: what is wrong, since when, what to do.
func troubles(b *strings.Builder, t agent.Status, now time.Time, st style) {
	say := func(format string, args ...any) { b.WriteString("  " + fmt.Sprintf(format, args...) + "\n") }
	for _, p := range t.Problems {
		line := fmt.Sprintf("%s: %s: %s", p.Step, p.Kind, p.Detail)
		if p.Step == "" {
			line = fmt.Sprintf("%s: %s", p.Kind, p.Detail)
		}
		extra := "since " + short(now.Sub(p.Since))
		if p.Count > 1 {
			extra += fmt.Sprintf(", %d times", p.Count)
		}
		if !p.Until.IsZero() && p.Until.After(now) {
			extra += ", next try " + ago(p.Until, now)
		}
		say("%s (%s)", st.paint("33", line), extra)
		if p.Hint != "" {
			say("→ %s", p.Hint)
		}
	}
	if t.Lapses {
		say("%s", st.paint("31", "the token will lapse: nothing may be sent before it expires"))
	}
	if t.Refused {
		say("an API refused this generation")
	}
	if t.LeadCut {
		say("renew.before is above 3/4 of the life; %s is used", short(time.Duration(t.LeadSeconds*float64(time.Second))))
	}
	if t.Unsaved {
		say("%s", st.paint("31", "not saved: the state cannot be written"))
	}
	if !t.PersonBy.IsZero() {
		say("a person has to sign in %s", ago(t.PersonBy, now))
	}
	if t.AtStart && t.State != agent.StateValid {
		say("its secret is read when the agent starts: restart the agent after a change")
	}
	if t.Note != "" {
		say("%s", t.Note)
	}
	for _, s := range t.Sinks {
		if !s.OK {
			say("%s (since %s)", st.paint("33", s.ID+": "+s.Error), short(now.Sub(s.Since)))
		}
	}
}

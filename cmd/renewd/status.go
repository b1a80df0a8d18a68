package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"renewd/agent"
)

// listing is what GET /v1/tokens answers. All but the tokens is for managers.
type listing struct {
	Version     string         `json:"version,omitempty"`
	Time        time.Time      `json:"time,omitzero"`
	Config      string         `json:"config,omitempty"`
	State       string         `json:"state,omitempty"` // what seals it
	Process     string         `json:"process,omitempty"`
	StateError  string         `json:"state_error,omitempty"`
	ConfigError string         `json:"config_error,omitempty"`
	Warnings    []string       `json:"warnings,omitempty"`
	Tokens      []agent.Status `json:"tokens"`
}

func newStatus() *cobra.Command {
	var socket, output string
	var watch bool
	c := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show every token: state, clocks, next renewal, what is wrong and what to do",
		Long: "Show every token. Exits 0 when all is well, 1 when something is degraded, 4 when a token\n" +
			"is not valid.",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeNames,
		RunE: func(c *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			if output != "table" && output != "json" {
				return fail(exitUsage, "use table or json", "there is no output %q", output)
			}
			if watch {
				return watchStatus(c, socket, name)
			}
			l, err := listTokens(c.Context(), socket)
			if err != nil {
				return err
			}
			if err := l.only(name); err != nil {
				return err
			}
			if err := showStatus(c.OutOrStdout(), l, output); err != nil {
				return err
			}
			return l.verdict()
		},
	}
	addSocketFlag(c, &socket)
	c.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	c.Flags().BoolVar(&watch, "watch", false, "redraw until interrupted (on a terminal; else one table a change)")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func listTokens(ctx context.Context, socket string) (*listing, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	// A manager may keep the socket of an agent that does not come up.
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	a, err := c.do(ctx, http.MethodGet, "/v1/tokens", nil, nil)
	if err != nil {
		return nil, err
	}
	if err := a.failed(""); err != nil {
		return nil, err
	}
	var l listing
	if err := json.Unmarshal(a.body, &l); err != nil {
		return nil, fail(exitFailed, "", "read the agent's answer: %w", err)
	}
	return &l, nil
}

// only keeps one token of the list.
func (l *listing) only(name string) error {
	if name == "" {
		return nil
	}
	for _, t := range l.Tokens {
		if t.Name == name {
			l.Tokens = []agent.Status{t}
			return nil
		}
	}
	return fail(exitNoToken, "list them: renewd status", "there is no token %q, or you may not see it", name)
}

// verdict is status's exit code.
func (l *listing) verdict() error {
	code := exitOK
	if l.ConfigError != "" || l.StateError != "" {
		code = exitFailed
	}
	for _, t := range l.Tokens {
		switch {
		case !t.Valid:
			return silent(exitNotValid)
		case t.State != agent.StateValid:
			code = exitFailed
		}
	}
	if code == exitOK {
		return nil
	}
	return silent(code)
}

func showStatus(w io.Writer, l *listing, output string) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(l)
	}
	return drawStatus(w, l, time.Now(), style{colours(w)}, isTerminal(w))
}

func drawStatus(w io.Writer, l *listing, now time.Time, st style, bars bool) error {
	var b strings.Builder
	if l.StateError != "" {
		fmt.Fprintln(&b, st.paint("31", "the state cannot be written: "+l.StateError))
	}
	if l.ConfigError != "" {
		fmt.Fprintln(&b, st.paint("31", "the config on disk is refused and an older one runs: "+l.ConfigError))
	}
	if len(l.Tokens) == 0 {
		hint := "no tokens that you may see"
		if l.Config != "" {
			hint = "no tokens; declare some in " + l.Config + " (see: renewd presets)"
		}
		fmt.Fprintln(&b, hint)
	} else if err := table(&b, l.Tokens, now, st, bars); err != nil {
		return err
	}
	for _, n := range l.Warnings {
		fmt.Fprintln(&b, st.paint("33", "warning: "+n))
	}
	if l.State != "" {
		fmt.Fprintln(&b, "state: "+l.State)
	}
	if l.Process != "" {
		fmt.Fprintln(&b, "process: "+l.Process)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// away is what watchStatus saw last while no agent answers.
const away = "away"

// watchStatus redraws in place on a terminal, and prints a table a change
// elsewhere.
func watchStatus(c *cobra.Command, socket, name string) error {
	ctx, stop := signal.NotifyContext(context.Background(), stopSignals()...)
	defer stop()
	w := c.OutOrStdout()
	screen := newScreen(w)
	defer screen.close()
	last := ""
	for first := true; ; first = false {
		l, err := listTokens(ctx, socket)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = l.only(name)
		}
		if f, ok := errors.AsType[*failure](err); ok && !first && f.code == exitNoAgent {
			// It restarts: come back.
			if last != away {
				last = away
				screen.lines = 0
				fmt.Fprintln(c.ErrOrStderr(), "no agent answers; waiting for it")
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
				continue
			}
		}
		if err != nil {
			return err
		}
		now := time.Now()
		if screen.live {
			var b strings.Builder
			_ = drawStatus(&b, l, now, style{colours(w)}, true)
			screen.draw(b.String())
		} else if key := fingerprint(l); key != last {
			last = key
			if err := drawStatus(w, l, now, style{}, false); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(screen.pause()):
		}
	}
}

// fingerprint changes when something other than the passing of time did.
func fingerprint(l *listing) string {
	var b strings.Builder
	for _, t := range l.Tokens {
		fmt.Fprintf(&b, "%s %s %v %d %d %d;", t.Name, t.State, t.Valid, t.Generation, t.Revision, len(t.Problems))
	}
	return b.String()
}

// screen redraws a few lines of a terminal in place.
type screen struct {
	w     io.Writer
	live  bool
	lines int
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w, live: isTerminal(w)}
	if s.live {
		_, _ = io.WriteString(w, "\x1b[?25l") // hide the cursor
	}
	return s
}

func (s *screen) pause() time.Duration {
	if s.live {
		return 250 * time.Millisecond
	}
	return time.Second
}

func (s *screen) draw(text string) {
	var b strings.Builder
	if s.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.lines)
	}
	for _, line := range strings.SplitAfter(text, "\n") {
		if line != "" {
			b.WriteString("\x1b[2K" + line) // clear what was there
		}
	}
	b.WriteString("\x1b[J")
	s.lines = strings.Count(text, "\n")
	_, _ = io.WriteString(s.w, b.String())
}

func (s *screen) close() {
	if s.live {
		_, _ = io.WriteString(s.w, "\x1b[?25h")
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"renewd/agent"
	"renewd/agent/source/standin"
	"renewd/platform/paths"
)

// demoMark begins every config that the demo wrote.
const demoMark = "# Made by renewd demo."

// speedUp makes the demo's 60 s and 15 min pass in 3 s and 45 s.
const speedUp = 20

func newDemo() *cobra.Command {
	var dir string
	var length time.Duration
	c := &cobra.Command{
		Use:   "demo",
		Short: "See it work with nothing to set up: an API on loopback, and the agent on it",
		Long: "Start a Commander-like API on loopback (60 s tokens and a 15 min hard limit, both twenty times\n" +
			"faster) and the agent on it, and show every clock. Stop with Ctrl-C.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), stopSignals()...)
			defer stop()
			if length > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, length)
				defer cancel()
			}
			return demo(ctx, c.OutOrStdout(), c.ErrOrStderr(), dir)
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "directory for everything (default: a new one, removed at the end)")
	c.Flags().DurationVar(&length, "for", 0, "stop after this long (default: at Ctrl-C)")
	return c
}

func demo(ctx context.Context, stdout, stderr io.Writer, dir string) error {
	if dir == "" {
		tmp, err := os.MkdirTemp("", "renewd-demo-")
		if err != nil {
			return fail(exitFailed, "", "make a directory: %w", err)
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fail(exitUsage, "", "%w", err)
	}
	api := standin.NewCommander(standin.CommanderOptions{Username: "demo", Password: "demo-password", SpeedUp: speedUp})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fail(exitFailed, "", "listen for the demo's API: %w", err)
	}
	srv := &http.Server{Handler: api, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	set, err := writeDemo(dir, "http://"+l.Addr().String()+"/rest/v3")
	if err != nil {
		return err
	}
	logTo := io.Writer(stderr)
	live := isTerminal(stdout)
	if live {
		f, err := os.OpenFile(filepath.Join(dir, "renewd.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return fail(exitFailed, "", "open the demo's log: %w", err)
		}
		defer f.Close()
		logTo = f
	}
	d, c, b, err := prepare(set, nil, nil, logTo)
	if err != nil {
		return err
	}
	defer d.close()
	explain(stdout, set)
	if live {
		drawn := make(chan struct{})
		go func() { defer close(drawn); d.draw(ctx, stdout, api) }()
		defer func() { <-drawn }()
	}
	if err := d.serve(ctx, c, b); err != nil {
		return err
	}
	n := api.Counts()
	_, err = fmt.Fprintf(stdout, "demo: %d logins, %d refreshes, %d refusals\n", n.Logins, n.Refreshes, n.Refused)
	return err
}

// writeDemo writes what a user would: a config, and the password beside it.
func writeDemo(dir, url string) (paths.Set, error) {
	set := paths.Set{Config: filepath.Join(dir, "renewd.yaml"), State: filepath.Join(dir, "state"), Runtime: dir,
		Socket: paths.SocketIn(dir), RuntimeMode: 0o700}
	text := strings.Join([]string{
		demoMark + " The API is on loopback, 20 times faster than Commander's.",
		"tokens:",
		"  demo:",
		"    source:",
		"      type: commander",
		"      url: " + url,
		"      username: demo",
		"      password: {file: demo.password}",
		fmt.Sprintf("      lifetime: {max: %s}", time.Minute/speedUp),
		fmt.Sprintf("      session: {max_age: %s}", 15*time.Minute/speedUp),
		"    sinks:",
		"      - {type: file}",
		"      - {type: file, format: header}",
		"      - {type: file, format: json}",
		"",
	}, "\n")
	old, err := os.ReadFile(set.Config)
	switch {
	case err == nil && !strings.HasPrefix(string(old), demoMark):
		return set, fail(exitUsage, "choose another --dir", "%s is not the demo's: it is left as it is", set.Config)
	case err == nil:
		if c, err := dialOne(context.Background(), []string{set.Socket}); err == nil {
			_ = c.Close()
			return set, fail(exitFailed, "look at it: renewd status --socket "+set.Socket+"; or choose another --dir", "a demo runs in %s already", dir)
		}
	}
	err = errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(set.Config, []byte(text), 0o600),
		os.WriteFile(filepath.Join(dir, "demo.password"), []byte("demo-password\n"), 0o600))
	if err != nil {
		return set, fail(exitFailed, "choose another --dir", "write the demo's config: %w", err)
	}
	return set, nil
}

// onPath says that the shell finds this very program by its name.
func onPath(self string) bool {
	found, err := exec.LookPath("renewd")
	return err == nil && found == self
}

func explain(w io.Writer, set paths.Set) {
	fmt.Fprintf(w, "renewd demo: tokens of 3 s, a session of 45 s, kept fresh in %s\n", set.Runtime)
	fmt.Fprintf(w, "in another terminal:\n")
	fmt.Fprintf(w, "  %s\n", showFile(filepath.Join(set.Tokens(), "demo")))
	self, err := os.Executable()
	if err != nil || filepath.Base(self) == "renewd" && onPath(self) {
		self = "renewd"
	}
	fmt.Fprintf(w, "  %s get demo --socket %s\n", self, set.Socket)
	if c := showSocket(set); c != "" {
		fmt.Fprintf(w, "  %s\n", c)
	}
	fmt.Fprintln(w)
}

// draw shows every clock until ctx ends.
func (d *daemon) draw(ctx context.Context, w io.Writer, api *standin.Commander) {
	s := newScreen(w)
	defer s.close()
	for ctx.Err() == nil {
		var all []agent.Status
		for _, name := range d.agent.Names() {
			if t, ok := d.agent.Token(name); ok {
				all = append(all, t.Status())
			}
		}
		var b strings.Builder
		_ = table(&b, all, time.Now(), style{colours(w)}, true)
		n := api.Counts()
		fmt.Fprintf(&b, "API: %d logins, %d refreshes, %d refusals\n", n.Logins, n.Refreshes, n.Refused)
		s.draw(b.String())
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"renewd/platform/paths"
	"renewd/platform/service"
)

// serviceName is the service's, its account's and its directories' name.
const serviceName = "renewd"

func newService() *cobra.Command {
	root := &cobra.Command{
		Use:   "service",
		Short: "Make renewd a service of this machine, or of one user",
		Long: "Install, remove, start and stop the service that runs the agent. Each says what it did and may\n" +
			"be repeated. Without --user the service is the machine's, and changing it needs root.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	verb := func(name, short string, do func(*serviceCall) error) *cobra.Command {
		var user, purge bool
		c := &cobra.Command{
			Use: name, Short: short, Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				call, err := newServiceCall(c.OutOrStdout(), user)
				if err != nil {
					return err
				}
				call.purge = purge
				return call.failure(name, do(call))
			},
		}
		c.Flags().BoolVar(&user, "user", false, "your own agent, not the machine's")
		if name == "uninstall" {
			c.Flags().BoolVar(&purge, "purge", false, "remove config, state and tokens too")
		}
		return c
	}
	root.AddCommand(
		verb("install", "Install it and have it start by itself; does not start it now", (*serviceCall).install),
		verb("uninstall", "Stop and remove it; config and state stay, unless --purge", (*serviceCall).uninstall),
		verb("start", "Start it and wait until it is ready", (*serviceCall).start),
		verb("stop", "Stop it; published tokens stay where they are", (*serviceCall).stop),
		verb("restart", "Stop it where it runs, and start it", (*serviceCall).restart),
		verb("status", "Say whether it is installed, starts by itself and runs", (*serviceCall).status),
	)
	return root
}

// serviceCall is one call of a verb.
type serviceCall struct {
	*service.Service
	w     io.Writer
	set   paths.Set
	user  bool
	purge bool
}

func newServiceCall(w io.Writer, user bool) (*serviceCall, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return nil, fail(exitFailed, "", "find this program: %w", err)
	}
	set := paths.System()
	if user {
		if set, err = paths.User(); err != nil {
			return nil, fail(exitFailed, "set HOME", "%w", err)
		}
	}
	definition, accounts := definitions(user)
	c := &serviceCall{w: w, set: set, user: user}
	c.Service = service.New(service.Options{Name: serviceName, Title: "renewd", Description: "Keeps API tokens fresh", User: user,
		Program: self, Definition: definition, Accounts: accounts, Data: dataDirs(set),
		Say: func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }})
	return c, nil
}

// dataDirs are the directories of one agent, the outermost ones only.
func dataDirs(set paths.Set) []string {
	var out []string
	for _, d := range []string{filepath.Dir(set.Config), set.State, set.Runtime} {
		inside := false
		for _, o := range out {
			inside = inside || below(d, o)
		}
		if !inside {
			out = append(out, d)
		}
	}
	return out
}

// self is how the user calls these verbs again.
func (c *serviceCall) again(verb string) string {
	if c.user {
		return "renewd service " + verb + " --user"
	}
	return asAdmin + "renewd service " + verb
}

func (c *serviceCall) next(format string, args ...any) {
	fmt.Fprintf(c.w, "next: "+format+"\n", args...)
}

func (c *serviceCall) install() error {
	if err := c.Install(); err != nil {
		return err
	}
	if _, err := os.Stat(c.set.Config); errors.Is(err, os.ErrNotExist) {
		c.next("write %s (renewd presets NAME --example prints a block to begin with)", c.set.Config)
	}
	st, err := c.Status()
	switch {
	case err != nil:
		return err
	case st.Running:
		c.next("%s, where the program has changed", c.again("restart"))
	default:
		c.next("%s", c.again("start"))
	}
	if hint := lingering(c.user); hint != "" {
		c.next("%s", hint)
	}
	return nil
}

func (c *serviceCall) uninstall() error {
	if err := c.Uninstall(); err != nil {
		return err
	}
	if c.purge {
		return c.Purge()
	}
	for _, dir := range dataDirs(c.set) {
		if _, err := os.Stat(dir); err == nil {
			fmt.Fprintf(c.w, "kept %s\n", dir)
		}
	}
	return nil
}

func (c *serviceCall) start() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.told()
}

func (c *serviceCall) stop() error { return c.Stop() }

func (c *serviceCall) restart() error {
	if err := c.Restart(); err != nil {
		return err
	}
	return c.told()
}

// told repeats what the service says of itself.
func (c *serviceCall) told() error {
	st, err := c.Status()
	if err == nil && st.Text != "" {
		fmt.Fprintf(c.w, "%s\n", st.Text)
	}
	return err
}

// status exits 0 where the service runs, else 1.
func (c *serviceCall) status() error {
	st, err := c.Status()
	if err != nil {
		return err
	}
	if !st.Installed {
		return service.ErrNotInstalled
	}
	fmt.Fprintf(c.w, "installed: %s\nstarts by itself: %s\nstate: %s\n", orNone(st.Path), map[bool]string{true: "yes", false: "no"}[st.Enabled], st.Detail)
	if st.PID > 0 {
		fmt.Fprintf(c.w, "pid: %d\n", st.PID)
	}
	if st.Text != "" {
		fmt.Fprintf(c.w, "says: %s\n", st.Text)
	}
	if !st.Running {
		return fail(exitFailed, c.again("start"), "the service does not run")
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "yes"
	}
	return s
}

// failure says what to do about an error.
func (c *serviceCall) failure(verb string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	hint := logHint(c.user)
	switch {
	case errors.Is(err, service.ErrNeedsRoot):
		hint = rootHint(verb)
	case errors.Is(err, service.ErrNotInstalled):
		hint = c.again("install")
	case errors.Is(err, service.ErrNoManager):
		hint = "have your own manager run: renewd run"
	case verb == "install" || verb == "uninstall":
		hint = ""
	}
	return fail(exitFailed, hint, "%w", err)
}

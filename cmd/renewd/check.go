package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"renewd/agent"
	"renewd/agent/config"
	"renewd/agent/source/http"
	"renewd/agent/state"
	"renewd/platform/paths"
)

type checkOptions struct {
	config        string
	login, strict bool
}

func newCheck() *cobra.Command {
	var o checkOptions
	var schema, sinksOnly bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Read the config and say every error in it, with its place and a hint",
		Long: "Read the config and say every error in it with file:line:column. Nothing is sent, unless\n" +
			"--login asks for one real login per token; what comes back is described, never printed.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case schema:
				return printSchema(c.OutOrStdout())
			case sinksOnly:
				return checkSinks(c.OutOrStdout(), o)
			}
			return check(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), o)
		},
	}
	c.Flags().StringVar(&o.config, "config", "", "config file (default: the system's for root, else the user's own)")
	c.Flags().BoolVar(&o.login, "login", false, "also do one real login per token")
	c.Flags().BoolVar(&o.strict, "strict", false, "warnings are errors, and so are secrets in the config and unchecked certificates")
	c.Flags().BoolVar(&schema, "schema", false, "print the JSON Schema of the config")
	c.Flags().BoolVar(&sinksOnly, "sinks-only", false, "judge only whether this user can write the sinks")
	_ = c.Flags().MarkHidden("sinks-only")
	return c
}

func printSchema(w io.Writer) error {
	presets := map[string]map[string]http.Input{}
	for _, name := range http.Presets() {
		p, _ := embedded(name)
		presets[name] = p.Spec.Inputs
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(config.Schema(presets))
}

// loadForCheck reads and builds the config without an agent.
func loadForCheck(o checkOptions) (*config.Config, *built, config.Problems, *builder, error) {
	set, err := setPaths(false)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	if o.config == "" {
		o.config = set.Config
	}
	return loadFrom(set, o)
}

// loadFrom is loadForCheck for the paths of one agent.
func loadFrom(set paths.Set, o checkOptions) (*config.Config, *built, config.Problems, *builder, error) {
	c, problems, err := config.Load(o.config)
	if errors.Is(err, config.ErrNoConfig) {
		return nil, nil, nil, nil, fail(exitUsage, "renewd presets NAME --example prints a block to begin with; or name yours: --config FILE", "%w", err)
	}
	if err != nil {
		return nil, nil, nil, nil, fail(exitUsage, "", "%w", err)
	}
	set = withConfig(set, c)
	b := newBuilder(newClock(), set, slog.New(slog.DiscardHandler))
	b.strict = o.strict
	problems = append(problems, judge(c, b)...)
	// Sources are built even where the text is wrong elsewhere: all errors at once.
	made, more := b.build(c)
	return c, made, problems.With(more).Sorted(), b, nil
}

// withConfig moves the paths that the config sets.
func withConfig(set paths.Set, c *config.Config) paths.Set {
	if c.State.Dir != "" {
		set.State = string(c.State.Dir)
	}
	if c.Socket.Path != "" {
		set.Socket = string(c.Socket.Path)
	}
	return set
}

func check(ctx context.Context, w, ew io.Writer, o checkOptions) error {
	c, made, problems, b, err := loadForCheck(o)
	if err != nil {
		return err
	}
	strict := o.strict
	errs, warns := 0, 0
	for _, p := range problems {
		label := "error"
		if p.Warn && !strict {
			label = "warning"
			warns++
		} else {
			errs++
		}
		fmt.Fprintf(ew, "%s: %s\n", label, p)
	}
	if errs > 0 {
		return fail(exitUsage, "mend them and run renewd check again", "%d error(s) in the config", errs)
	}
	sinksErr := checkSinksAsService(w, ew, o, c, made, b)
	if o.login {
		if err := checkLogins(ctx, w, c, made, b); err != nil {
			return err
		}
	}
	if sinksErr != nil {
		return sinksErr
	}
	if len(made.specs) == 0 {
		fmt.Fprintln(ew, "note: no tokens are configured; the agent would wait for some. renewd presets NAME --example prints a block to begin with")
	}
	_, err = fmt.Fprintf(w, "ok: %d token(s), %d sink(s), %d warning(s)\n", len(made.specs), countSinks(made), warns)
	return err
}

func countSinks(b *built) int {
	n := 0
	for _, s := range b.specs {
		n += len(s.Sinks)
	}
	return n
}

// checkSinks judges whether the user that runs this can write the sinks.
func checkSinks(w io.Writer, o checkOptions) error {
	_, made, problems, b, err := loadForCheck(o)
	if err != nil {
		return err
	}
	if problems.Fatal() {
		return silent(exitUsage)
	}
	return sinkProblems(w, made, b.paths)
}

func sinkProblems(w io.Writer, made *built, set paths.Set) error {
	bad := 0
	sinkErrors(made, set, func(s *agent.Spec, sk agent.Sink, err error) {
		bad++
		fmt.Fprintf(w, "%s: %s: %v\n", s.Name, sk.ID(), err)
	})
	if bad > 0 {
		return fail(exitFailed, "", "%d sink(s) cannot be written", bad)
	}
	return nil
}

// sinkErrors tells of each sink that this process cannot write.
func sinkErrors(made *built, set paths.Set, tell func(*agent.Spec, agent.Sink, error)) {
	for _, s := range made.specs {
		for _, sk := range s.Sinks {
			c, ok := sk.(interface{ Check() error })
			if !ok || notYet(sk, set) {
				continue
			}
			if err := c.Check(); err != nil {
				tell(s, sk, err)
			}
		}
	}
}

// notYet says that a sink lies in the runtime directory and that this is not
// there: the agent makes it at its start.
func notYet(s agent.Sink, set paths.Set) bool {
	p, ok := s.(interface{ Path() string })
	if !ok || !below(p.Path(), set.Tokens()) {
		return false
	}
	_, err := os.Stat(set.Runtime)
	return errors.Is(err, fs.ErrNotExist)
}

// dropIn is what the service's unit lacks for the sinks of this config: it may
// write below its own directories only, has only its own group, and may not give
// files away.
func dropIn(c *config.Config, set paths.Set) string {
	var dirs, groups []string
	if g := c.Socket.Group; g != "" && g != serviceName {
		groups = append(groups, g)
	}
	for _, name := range sortedKeys(c.Tokens) {
		for _, s := range c.Tokens[name].Sinks {
			if filepath.IsAbs(s.Path) && !below(s.Path, set.Runtime) && !below(s.Path, set.State) {
				dirs = append(dirs, filepath.Dir(s.Path))
			}
			if s.Group != "" && s.Group != serviceName {
				groups = append(groups, s.Group)
			}
		}
	}
	if len(dirs)+len(groups) == 0 {
		return ""
	}
	out := "[Service]\n"
	for _, d := range uniq(dirs) {
		out += "ReadWritePaths=" + d + "\n"
	}
	if len(groups) > 0 {
		out += "SupplementaryGroups=" + strings.Join(uniq(groups), " ") + "\nSystemCallFilter=@chown\n"
	}
	return out
}

func below(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func uniq(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

// checkLogins does one real login per token, through the ledger of the state.
func checkLogins(ctx context.Context, w io.Writer, c *config.Config, made *built, b *builder) error {
	d := &daemon{paths: withConfig(b.paths, c), log: slog.New(slog.DiscardHandler), builder: b, hosts: made.hosts}
	var err error
	if d.privilege, err = becomeOwner(d.paths.State); err != nil {
		return err
	}
	if err := d.open(c); err != nil {
		if held, ok := errors.AsType[*state.HeldError](err); ok {
			return fail(exitFailed, "it does the logins; ask it: renewd status, or renewd refresh NAME", "%w", held)
		}
		return err
	}
	defer d.state.Close()
	if ctx == nil {
		ctx = context.Background()
	}
	failed := 0
	for _, s := range made.specs {
		t := s.Source.Traits()
		if t.NeedsPerson {
			fmt.Fprintf(w, "%s: needs a person: renewd login %s\n", s.Name, s.Name)
			continue
		}
		g, err := d.agent.TryLogin(ctx, s.Source)
		if err != nil {
			failed++
			fmt.Fprintf(w, "%s: %v\n", s.Name, err)
			if e, ok := errors.AsType[*agent.Error](err); ok && e.Hint != "" {
				fmt.Fprintf(w, "  → %s\n", e.Hint)
			}
			continue
		}
		fmt.Fprintf(w, "%s: %s\n", s.Name, grantWords(s, g))
	}
	if failed > 0 {
		return fail(exitFailed, "", "%d login(s) failed", failed)
	}
	return nil
}

// grantWords says what came back, never the value.
func grantWords(s *agent.Spec, g *agent.Grant) string {
	lead, cut := agent.Lead(g.Life, s.Renew.Before)
	words := []string{fmt.Sprintf("login worked: a token of %d bytes that lives %s", len(g.Token.Reveal()), short(g.Life)),
		"renewed " + short(lead) + " before it expires"}
	if cut {
		words = append(words, "renew.before was cut to that")
	}
	if !g.RefreshToken.IsZero() {
		words = append(words, "with a refresh token")
	}
	if end := s.Source.Traits().Session.MaxAge; end > 0 {
		words = append(words, "hard limit "+short(end))
	}
	if g.HasSkew && g.Skew.Abs() > 2*time.Second {
		words = append(words, "the server's clock is "+short(g.Skew)+" off")
	}
	if g.Note != "" {
		words = append(words, g.Note)
	}
	return strings.Join(words, "; ")
}

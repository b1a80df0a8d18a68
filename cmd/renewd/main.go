// Command renewd keeps API tokens fresh on one machine. One file per verb.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes are part of the contract with scripts.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2 // wrong usage or config
	exitNoToken  = 3 // no such token
	exitNotValid = 4 // no valid token
	exitNoAgent  = 5 // no agent answers
	exitDenied   = 6 // the caller may not read it
)

// failure is an error with its exit code and what to type next.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string {
	if f.err == nil {
		return "" // all has been said
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

func fail(code int, hint, format string, args ...any) *failure {
	return &failure{code, fmt.Errorf(format, args...), hint}
}

// silent ends the program with a code when all has been said already.
func silent(code int) *failure { return &failure{code: code} }

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run is main for tests too.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if len(args) > 0 && err != nil && strings.HasPrefix(err.Error(), "unknown command") {
		hint := "run: renewd --help"
		if near := root.SuggestionsFor(args[0]); len(near) > 0 {
			hint = "did you mean: renewd " + strings.Join(near, ", or renewd ") + "?"
		}
		err = &failure{exitUsage, err, hint}
	}
	return report(err, stderr)
}

// report prints an error as all verbs do and gives its exit code.
func report(err error, stderr io.Writer) int {
	if err == nil {
		return exitOK
	}
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = &failure{exitUsage, err, "run: renewd --help"} // cobra's own errors are about usage
	}
	if f.err != nil {
		fmt.Fprintf(stderr, "renewd: error: %v\n", f.err)
	}
	if f.hint != "" {
		fmt.Fprintf(stderr, "renewd: hint: %s\n", f.hint)
	}
	return f.code
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "renewd",
		Short: "Keep API tokens fresh, so that no script has to",
		Long: "renewd logs in to APIs, refreshes each token before it expires, logs in again at the\n" +
			"session's hard limit, and publishes the current token to files and on a local socket.\n\n" +
			"See it work with nothing to set up:  renewd demo",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.DisableDescriptions = true
	root.AddCommand(
		newRun(), newDemo(), newCheck(),
		newGet(), newStatus(), newRefresh(), newReject(), newLogin(), newLogout(), newWatch(),
		newInspect(), newPresets(), newReload(), newState(), newService(), newVersion(),
	)
	return root
}

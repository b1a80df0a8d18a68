package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"renewd/agent/config"
	"renewd/agent/state"
)

func newState() *cobra.Command {
	c := &cobra.Command{
		Use:   "state",
		Short: "Look after the agent's state",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newStateReset())
	return c
}

func newStateReset() *cobra.Command {
	var configPath, dir string
	var keep, yes bool
	c := &cobra.Command{
		Use:   "reset",
		Short: "Start with an empty state",
		Long: "Start with an empty state: sessions, refresh tokens, generations and the ledger of logins are\n" +
			"forgotten. With --keep-broken the old state is put aside in the same directory; without it,\n" +
			"--yes is wanted, since a rotating refresh token that is lost may need a person to sign in again.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !keep && !yes {
				return fail(exitUsage, "renewd state reset --keep-broken puts the old one aside; --yes deletes it", "this would delete the state")
			}
			if dir == "" {
				d, err := stateDir(configPath)
				if err != nil {
					return err
				}
				dir = d
			}
			if _, err := becomeOwner(dir); err != nil {
				return err
			}
			aside, err := state.Reset(dir, keep)
			if _, held := errors.AsType[*state.HeldError](err); held {
				return fail(exitFailed, "stop it first: it would write its own state back", "%w", err)
			}
			if err != nil {
				return fail(exitFailed, "", "reset the state: %w", err)
			}
			if aside != "" {
				_, err = fmt.Fprintf(c.OutOrStdout(), "state put aside as %s; the next start begins with an empty one\n", aside)
			} else {
				_, err = fmt.Fprintf(c.OutOrStdout(), "state in %s is empty\n", dir)
			}
			return err
		},
	}
	c.Flags().StringVar(&configPath, "config", "", "config that says where the state is")
	c.Flags().StringVar(&dir, "dir", "", "directory of the state")
	c.Flags().BoolVar(&keep, "keep-broken", false, "put the old state aside instead of deleting it")
	c.Flags().BoolVar(&yes, "yes", false, "delete the old state")
	return c
}

// stateDir is where the config, if it can be read, keeps the state.
func stateDir(configPath string) (string, error) {
	set, err := setPaths(false)
	if err != nil {
		return "", err
	}
	if configPath == "" {
		configPath = set.Config
	}
	c, _, err := config.Load(configPath)
	if err == nil && c.State.Dir != "" {
		return string(c.State.Dir), nil
	}
	return set.State, nil
}

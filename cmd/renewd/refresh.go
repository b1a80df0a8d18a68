package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"
)

func newRefresh() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:               "refresh NAME",
		Short:             "Renew a token now (for managers)",
		Args:              oneName,
		ValidArgsFunction: completeNames,
		RunE: func(c *cobra.Command, args []string) error {
			return renewed(c, socket, args[0], "/refresh", nil)
		},
	}
	addSocketFlag(c, &socket)
	return c
}

func newReject() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "reject NAME GENERATION",
		Short: "Tell the agent that an API answered 401 to a generation of a token",
		Long: "Tell the agent that an API refused a generation (json and env formats name it). If it is\n" +
			"still the current one, it is renewed; a second refusal in a row leads to a login.",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeNames,
		RunE: func(c *cobra.Command, args []string) error {
			gen, err := strconv.ParseUint(args[1], 10, 64)
			if err != nil || gen == 0 {
				return fail(exitUsage, "renewd get NAME -f json shows it", "%q is no generation", args[1])
			}
			return renewed(c, socket, args[0], "/rejected", map[string]uint64{"generation": gen})
		},
	}
	addSocketFlag(c, &socket)
	return c
}

// renewed makes a call that answers with the token, and says which generation
// it is now.
func renewed(c *cobra.Command, socket, name, what string, body any) error {
	a, err := call(c.Context(), socket, http.MethodPost, name, tokenPath(name, what), nil, body)
	if err != nil {
		return err
	}
	var t struct {
		Generation uint64 `json:"generation"`
		ExpiresAt  string `json:"expires_at"`
		Reset      bool   `json:"state_reset"`
	}
	if err := json.Unmarshal(a.body, &t); err != nil {
		return fail(exitFailed, "", "read the agent's answer: %w", err)
	}
	if t.Reset {
		fmt.Fprintf(c.ErrOrStderr(), "renewd: %s never had that generation here (it is at %d): nothing was renewed; was the state reset since?\n", name, t.Generation)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s is at generation %d, valid until %s\n", name, t.Generation, t.ExpiresAt)
	return err
}

func newReload() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "reload",
		Short: "Reload the config now; a bad one changes nothing (for managers)",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := dial(c.Context(), socket)
			if err != nil {
				return err
			}
			defer cl.Close()
			a, err := cl.do(c.Context(), http.MethodPost, "/v1/reload", nil, nil)
			if err != nil {
				return err
			}
			var r struct {
				Errors []string `json:"errors"`
				Again  bool     `json:"starts_again"`
			}
			_ = json.Unmarshal(a.body, &r)
			for _, p := range r.Errors {
				fmt.Fprintln(c.ErrOrStderr(), "error: "+p)
			}
			if a.status == http.StatusConflict && len(r.Errors) > 0 {
				return fail(exitUsage, "the running config stays in force", "the config was refused")
			}
			if err := a.failed(""); err != nil {
				return err
			}
			said := "config reloaded"
			if r.Again {
				said = "config reloaded, and the agent started again for what it had given up"
				if err := cl.awaitNext(c.Context()); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), said)
			return err
		},
	}
	addSocketFlag(c, &socket)
	return c
}

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"renewd/agent"
)

func newLogin() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:               "login NAME",
		Short:             "Log in anew now, whatever the session (for managers)",
		Args:              oneName,
		ValidArgsFunction: completeNames,
		RunE: func(c *cobra.Command, args []string) error {
			name := args[0]
			a, err := call(c.Context(), socket, http.MethodPost, name, tokenPath(name, "/login"), url.Values{"wait": {"30s"}}, nil)
			if err != nil {
				return err
			}
			var st agent.Status
			if err := json.Unmarshal(a.body, &st); err != nil {
				return fail(exitFailed, "", "read the agent's answer: %w", err)
			}
			if !st.Valid {
				detail := "the login has not brought a token yet"
				if len(st.Problems) > 0 {
					detail = st.Problems[0].Detail
				}
				return fail(exitNotValid, "see: renewd status "+name, "%s", detail)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is at generation %d\n", name, st.Generation)
			return err
		},
	}
	addSocketFlag(c, &socket)
	return c
}

func newLogout() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "logout NAME",
		Short: "End the session at its server, where that can be done, and forget it (for managers)",
		Long: "End the session at its server, where that can be done, and forget it. The token stays away\n" +
			"until renewd login NAME.",
		Args:              oneName,
		ValidArgsFunction: completeNames,
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := call(c.Context(), socket, http.MethodPost, args[0], tokenPath(args[0], "/logout"), nil, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s is logged out; renewd login %s brings it back\n", args[0], args[0])
			return err
		},
	}
	addSocketFlag(c, &socket)
	return c
}

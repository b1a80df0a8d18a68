package main

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

type readOptions struct {
	format   string
	minValid time.Duration
	wait     time.Duration
}

func newGet() *cobra.Command {
	var socket string
	o := readOptions{}
	c := &cobra.Command{
		Use:   "get NAME",
		Short: "Print a token; waits for one that is on its way",
		Long: "Print the current token on standard output, and nothing else there.\n\n" +
			"Hand it on without putting it into an argument list, where every user of the machine\n" +
			"could read it:\n\n" +
			"  curl -K <(renewd get NAME -f curl) https://api.example.com/\n" +
			"  renewd get NAME -f header | curl -H @- https://api.example.com/",
		Example:           "  TOKEN=$(renewd get commander)\n  renewd get commander -f json --min-valid 30s",
		Args:              oneName,
		ValidArgsFunction: completeNames,
		RunE: func(c *cobra.Command, args []string) error {
			b, err := readToken(c.Context(), socket, args[0], o)
			if err != nil {
				return err
			}
			if !bytes.HasSuffix(b, []byte("\n")) {
				b = append(b, '\n')
			}
			_, err = c.OutOrStdout().Write(b)
			return err
		},
	}
	addSocketFlag(c, &socket)
	c.Flags().StringVarP(&o.format, "format", "f", "raw", "raw, header, json, env or curl")
	c.Flags().DurationVar(&o.minValid, "min-valid", 0, "renew first if less life than this remains")
	c.Flags().DurationVar(&o.wait, "wait", 10*time.Second, "how long to wait for a token that is on its way")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"raw", "header", "json", "env", "curl"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// oneName wants exactly one token's name.
func oneName(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fail(exitUsage, "run: renewd "+c.Name()+" --help", "want the name of one token")
	}
	return nil
}

// readToken reads a token from the agent in one format.
func readToken(ctx context.Context, socket, name string, o readOptions) ([]byte, error) {
	if o.wait == 0 && o.format == "" {
		o.wait = 10 * time.Second
	}
	q := url.Values{}
	switch o.format {
	case "json":
	case "raw", "header", "env", "curl":
		q.Set("format", o.format)
	default:
		return nil, fail(exitUsage, "use raw, header, json, env or curl", "there is no format %q", o.format)
	}
	if o.minValid > 0 {
		q.Set("min_valid", o.minValid.String())
	}
	if o.wait > 0 {
		q.Set("wait", o.wait.String())
	}
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, o.wait+15*time.Second)
	defer cancel()
	a, err := call(ctx, socket, http.MethodGet, name, tokenPath(name, ""), q, nil)
	if err != nil {
		return nil, err
	}
	return a.body, nil
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newWatch() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "watch [NAME...]",
		Short: "Print one JSON line per change, for ever",
		Long: "Print one JSON line per change of the tokens you may see, for ever. It waits for an agent that\n" +
			"restarts, and goes on where it was.",
		ValidArgsFunction: completeNames,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), stopSignals()...)
			defer stop()
			lastID := ""
			for first := true; ; first = false {
				err := follow(ctx, c.OutOrStdout(), socket, args, &lastID)
				if ctx.Err() != nil {
					return nil
				}
				if f, ok := errors.AsType[*failure](err); ok && (first || f.code != exitNoAgent) {
					return err
				}
				select { // the agent restarts: come back
				case <-ctx.Done():
					return nil
				case <-time.After(time.Second):
				}
			}
		},
	}
	addSocketFlag(c, &socket)
	return c
}

// follow reads server-sent events until the connection ends.
func follow(ctx context.Context, w io.Writer, socket string, names []string, lastID *string) error {
	c, err := dial(ctx, socket)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	header := map[string]string{}
	if *lastID != "" {
		header["Last-Event-ID"] = *lastID
	}
	resp, err := c.start(ctx, http.MethodGet, "/v1/events", url.Values{"name": names}, header, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return (&answer{resp.StatusCode, resp.Header, b}).failed(strings.Join(names, ", "))
	}
	s := bufio.NewScanner(resp.Body)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if id, ok := strings.CutPrefix(s.Text(), "id: "); ok {
			*lastID = id
		}
		data, ok := strings.CutPrefix(s.Text(), "data: ")
		if !ok || !json.Valid([]byte(data)) {
			continue
		}
		if _, err := fmt.Fprintln(w, data); err != nil {
			return fail(exitFailed, "", "write standard output: %w", err)
		}
	}
	return s.Err()
}

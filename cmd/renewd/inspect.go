package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newInspect() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "inspect [NAME|-]",
		Short: "Decode a JWT's header and claims locally; the signature is never printed",
		Long: "Decode a JWT without sending it anywhere: a token of the agent by its NAME, or one on\n" +
			"standard input (-). Times are shown in words. The signature is neither checked nor printed.",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeNames,
		RunE: func(c *cobra.Command, args []string) error {
			token := ""
			if len(args) == 0 || args[0] == "-" {
				b, err := io.ReadAll(io.LimitReader(c.InOrStdin(), 1<<20))
				if err != nil {
					return fail(exitFailed, "", "read standard input: %w", err)
				}
				token = strings.TrimSpace(string(b))
			} else {
				t, err := readToken(c.Context(), socket, args[0], readOptions{format: "raw"})
				if err != nil {
					return err
				}
				token = string(t)
			}
			return inspect(c.OutOrStdout(), token, time.Now())
		},
	}
	addSocketFlag(c, &socket)
	return c
}

// inspect prints what a JWT says of itself.
func inspect(w io.Writer, token string, now time.Time) error {
	token = strings.TrimPrefix(token, "Bearer ")
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return fail(exitFailed, "an opaque token says nothing of itself; `renewd status` shows its clocks", "this is no JWT: it has %d part(s), not 3", len(parts))
	}
	for i, title := range []string{"header", "claims"} {
		m, err := segment(parts[i])
		if err != nil {
			return fail(exitFailed, "", "decode the %s: %w", title, err)
		}
		fmt.Fprintf(w, "%s\n", title)
		if err := printClaims(w, m, now); err != nil {
			return err
		}
	}
	return nil
}

// segment decodes one part, with or without padding and in either alphabet:
// servers are not strict.
func segment(s string) (map[string]any, error) {
	s = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(s, "="))
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("it is not base64url")
	}
	var m map[string]any
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("it is not a JSON object")
	}
	return m, nil
}

func printClaims(w io.Writer, m map[string]any, now time.Time) error {
	width := 0
	for _, k := range sortedKeys(m) {
		width = max(width, len(k))
	}
	for _, k := range sortedKeys(m) {
		b, err := json.Marshal(m[k])
		if err != nil {
			return err
		}
		line := fmt.Sprintf("  %-*s  %s", width, k, b)
		if words := claimTime(k, m[k], now); words != "" {
			line += "   " + words
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// claimTime says a NumericDate (RFC 7519 §2) in words.
func claimTime(name string, v any, now time.Time) string {
	switch name {
	case "exp", "iat", "nbf", "auth_time", "updated_at":
	default:
		return ""
	}
	n, ok := v.(json.Number)
	if !ok {
		return ""
	}
	f, err := n.Float64()
	if err != nil || f < -1e11 || f > 1e11 {
		return "(no sensible time)"
	}
	t := time.Unix(0, 0).Add(time.Duration(f * float64(time.Second)))
	if f > 9e9 {
		t = time.Unix(int64(f), 0)
	}
	return fmt.Sprintf("%s (%s)", t.UTC().Format(time.RFC3339), ago(t, now))
}

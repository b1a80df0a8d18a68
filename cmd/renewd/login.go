package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"rsc.io/qr"

	"renewd/agent"
)

func newLogin() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "login NAME",
		Short: "Sign in where a person is needed, else log in anew now (for managers)",
		Long: "Sign in where a person is needed: the agent shows a code or an address, and waits until they have\n" +
			"signed in there. A token that needs no person is logged in anew, whatever its session.",
		Args:              oneName,
		ValidArgsFunction: completeNames,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), stopSignals()...)
			defer stop()
			return login(ctx, c.OutOrStdout(), c.ErrOrStderr(), socket, args[0])
		},
	}
	addSocketFlag(c, &socket)
	return c
}

// login asks for a login and leads a person through it where one is needed.
func login(ctx context.Context, stdout, stderr io.Writer, socket, name string) error {
	conn, resp, err := startLogin(ctx, socket, name)
	if err != nil && ctx.Err() != nil {
		return fail(exitFailed, "the agent goes on; see: renewd status "+name, "interrupted before the login was done")
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	defer resp.Body.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // a read waits for a person
	defer stop()
	if resp.Header.Get("Content-Type") == "application/x-ndjson" {
		return signIn(ctx, stdout, stderr, resp.Body, name)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fail(exitNoAgent, "", "read the agent's answer: %w", err)
	}
	if err := (&answer{resp.StatusCode, resp.Header, body}).failed(name); err != nil {
		return err
	}
	var st agent.Status
	if err := json.Unmarshal(body, &st); err != nil {
		return fail(exitFailed, "", "read the agent's answer: %w", err)
	}
	if resp.StatusCode == http.StatusAccepted {
		return fail(exitFailed, "it goes on; see: renewd status "+name, "the login has not brought a token yet")
	}
	_, err = fmt.Fprintf(stdout, "%s needs no person; it has logged in anew and is at generation %d\n", name, st.Generation)
	return err
}

// startLogin makes the call, asking the system's agent where the user's own does
// not know the name.
func startLogin(ctx context.Context, socket, name string) (*client, *http.Response, error) {
	all := sockets(socket)
	for i := 0; ; i++ {
		c, err := dialOne(ctx, all[i:])
		if err != nil {
			return nil, nil, err
		}
		for all[i] != c.socket {
			i++
		}
		resp, err := c.start(ctx, http.MethodPost, tokenPath(name, "/login"), url.Values{"wait": {"30s"}, "prompt": {"true"}}, nil, nil)
		if err != nil {
			_ = c.Close()
			return nil, nil, err
		}
		if elsewhere := resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusForbidden; !elsewhere || i == len(all)-1 {
			return c, resp, nil
		}
		_ = resp.Body.Close()
		_ = c.Close()
	}
}

// signIn shows what the agent says a person is to do, until they have done it.
func signIn(ctx context.Context, stdout, stderr io.Writer, lines io.Reader, name string) error {
	s := bufio.NewScanner(lines)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var line struct {
			Prompt *agent.Prompt `json:"prompt"`
			Status *agent.Status `json:"status"`
			Error  *problem      `json:"error"`
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			return fail(exitFailed, "", "read the agent's answer: %w", err)
		}
		switch {
		case line.Prompt != nil:
			showPrompt(stderr, name, line.Prompt)
		case line.Error != nil && line.Error.Type == "urn:renewd:problem:stopped":
			return fail(exitNoAgent, line.Error.Hint, "%s", line.Error.Detail)
		case line.Error != nil && line.Error.Kind != string(agent.NeedsHuman):
			return fail(exitNotValid, line.Error.Hint, "the login failed: %s: %s", line.Error.Kind, line.Error.Detail)
		case line.Error != nil:
			return fail(exitNotValid, line.Error.Hint, "%s", line.Error.Detail)
		case line.Status != nil:
			_, err := fmt.Fprintf(stdout, "signed in: %s is at generation %d\n", name, line.Status.Generation)
			return err
		}
	}
	if ctx.Err() != nil {
		return fail(exitFailed, "who has the code may still use it; else: renewd login "+name, "interrupted before anybody signed in")
	}
	return fail(exitNoAgent, "see: renewd status "+name, "the agent went away before anybody signed in")
}

// showPrompt says what to do. It goes to stderr: it is no value.
func showPrompt(w io.Writer, name string, p *agent.Prompt) {
	fmt.Fprintf(w, "To sign in for %s, open this address", name)
	switch {
	case p.Local:
		fmt.Fprint(w, " in a browser on this machine")
	case p.Code != "":
		fmt.Fprint(w, " on any device")
	}
	fmt.Fprintf(w, ":\n\n    %s\n\n", p.URL)
	if p.Code != "" {
		fmt.Fprintf(w, "and enter the code:\n\n    %s\n\n", p.Code)
	}
	if !p.Local && isTerminal(w) {
		to := p.Complete
		if to == "" {
			to = p.URL
		}
		if code, err := qr.Encode(to, qr.L); err == nil {
			drawQR(w, code)
		}
	}
	if left := time.Until(p.Expires).Round(time.Second); !p.Expires.IsZero() && left > 0 {
		fmt.Fprintf(w, "It holds for %s. ", short(left))
	}
	fmt.Fprintln(w, "Waiting …")
}

// drawQR draws two rows of a QR code in each line, dark on light whatever the
// terminal's colours: a camera wants the quiet zone light.
func drawQR(w io.Writer, code *qr.Code) {
	const quiet = 2
	for y := -quiet; y < code.Size+quiet; y += 2 {
		fmt.Fprint(w, "    \x1b[40;97m")
		for x := -quiet; x < code.Size+quiet; x++ {
			switch upper, lower := !code.Black(x, y), !code.Black(x, y+1); {
			case upper && lower:
				fmt.Fprint(w, "█")
			case upper:
				fmt.Fprint(w, "▀")
			case lower:
				fmt.Fprint(w, "▄")
			default:
				fmt.Fprint(w, " ")
			}
		}
		fmt.Fprintln(w, "\x1b[0m")
	}
	fmt.Fprintln(w)
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

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"renewd/platform/ipc"
	"renewd/platform/paths"
)

func addSocketFlag(c *cobra.Command, socket *string) {
	c.Flags().StringVar(socket, "socket", "", "socket of the agent (default: $RENEWD_SOCKET, else the user's own agent, else the system's)")
}

// sockets are where an agent may answer, the nearest first.
func sockets(flag string) []string {
	if flag != "" {
		return []string{flag}
	}
	if s := os.Getenv("RENEWD_SOCKET"); s != "" {
		return []string{s}
	}
	var out []string
	if u, err := paths.User(); err == nil {
		out = append(out, u.Socket)
	}
	return append(out, paths.System().Socket)
}

// client talks to one agent over one connection. It writes requests and reads
// responses itself: net/http's Transport would cost more than the call.
type client struct {
	socket string
	conn   io.ReadWriteCloser
	r      *bufio.Reader
}

// dial connects to the first agent that answers.
func dial(ctx context.Context, flag string) (*client, error) {
	return dialOne(ctx, sockets(flag))
}

func dialOne(ctx context.Context, all []string) (*client, error) {
	var firstErr error
	for _, s := range all {
		conn, err := ipc.Dial(ctx, s)
		if err == nil {
			return &client{s, conn, bufio.NewReader(conn)}, nil
		}
		if firstErr == nil || !errors.Is(err, os.ErrNotExist) {
			firstErr = err
		}
	}
	const hint = "start one: renewd run; or name its socket: --socket PATH"
	where := strings.Join(all, " or ")
	if errors.Is(firstErr, ipc.ErrNoAgent) {
		return nil, fail(exitNoAgent, hint, "no agent answers on %s", where)
	}
	if errors.Is(firstErr, os.ErrPermission) {
		return nil, fail(exitDenied, "the socket's mode and group say who may: its owner or an admin can let you in", "this user may not talk to the agent on %s", where)
	}
	return nil, fail(exitNoAgent, hint, "no agent could be asked on %s: %w", where, firstErr)
}

func (c *client) Close() error { return c.conn.Close() }

// comeback is how long an agent that starts again is waited for: the stop of the
// one, and a little for the other.
const comeback = stopTime + 15*time.Second

// awaitNext waits until the agent has ended, which it does after it has stopped to
// accept, and until the one that follows answers.
func (c *client) awaitNext(ctx context.Context) error {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, comeback)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	_, _ = io.Copy(io.Discard, c.r) // an end is what is waited for, whatever its error
	for {
		next, err := dialOne(ctx, []string{c.socket})
		if err == nil {
			_, err = next.do(ctx, http.MethodGet, "/v1/health", nil, nil)
			_ = next.Close()
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fail(exitNoAgent, "its log says why: journalctl -u renewd (journalctl --user, of an agent of your own)", "the agent stopped to start again with the new config, and has not come back")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// answer is a response read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// problem is application/problem+json (RFC 9457) as the agent sends it.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Kind   string `json:"kind"`
	Hint   string `json:"hint"`
	Valid  bool   `json:"valid"`
	Reset  bool   `json:"state_reset"`
}

// do sends one request and reads the answer.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body any) (*answer, error) {
	resp, err := c.start(ctx, method, path, query, nil, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, fail(exitNoAgent, "", "read the agent's answer: %w", err)
	}
	return &answer{resp.StatusCode, resp.Header, b}, nil
}

func (c *client) start(ctx context.Context, method, path string, query url.Values, header map[string]string, body any) (*http.Response, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var payload []byte
	if body != nil {
		payload, _ = json.Marshal(body)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: renewd\r\n", method, path)
	for k, v := range header {
		fmt.Fprintf(&b, "%s: %s\r\n", k, v)
	}
	if body != nil || method == http.MethodPost {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(payload))
	}
	b.WriteString("\r\n")
	b.Write(payload)
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	if _, err := c.conn.Write(b.Bytes()); err != nil {
		return nil, fail(exitNoAgent, "", "ask the agent on %s: %w", c.socket, err)
	}
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		if ctx.Err() != nil {
			return nil, fail(exitNoAgent, "", "the agent on %s did not answer in time", c.socket)
		}
		return nil, fail(exitNoAgent, "", "read the answer of the agent on %s: %w", c.socket, err)
	}
	return resp, nil
}

// failed turns an answer that is no success into an error with its exit code.
func (a *answer) failed(name string) error {
	if a.status < 300 {
		return nil
	}
	var p problem
	_ = json.Unmarshal(a.body, &p)
	if p.Detail == "" {
		p.Detail = p.Title
	}
	if p.Detail == "" {
		p.Detail = fmt.Sprintf("the agent answered %d", a.status)
	}
	hint := p.Hint
	switch a.status {
	case http.StatusNotFound:
		return fail(exitNoToken, "list them: renewd status", "there is no token %q", name)
	case http.StatusForbidden:
		return fail(exitDenied, "reading: an admin allows it with allow: {users: […]} or groups; all else is for root, the agent's user and the socket's group", "%s", p.Detail)
	case http.StatusServiceUnavailable, http.StatusConflict:
		if hint == "" {
			hint = "see: renewd status " + name
		}
		if p.Valid {
			return fail(exitFailed, hint, "%s", p.Detail)
		}
		return fail(exitNotValid, hint, "%s", p.Detail)
	case http.StatusTooManyRequests:
		if s, err := strconv.Atoi(a.header.Get("Retry-After")); err == nil {
			hint = "wait " + short(time.Duration(s)*time.Second)
		}
		return fail(exitFailed, hint, "%s", p.Detail)
	case http.StatusBadRequest:
		return fail(exitUsage, hint, "%s", p.Detail)
	}
	return fail(exitFailed, hint, "%s", p.Detail)
}

// call makes one call about a token, asking the system's agent where the user's
// own does not know the name.
func call(ctx context.Context, flag, method, name, path string, query url.Values, body any) (*answer, error) {
	all := sockets(flag)
	var last *answer
	for i := range all {
		c, err := dialOne(ctx, all[i:])
		if err != nil {
			if last != nil {
				break
			}
			return nil, err
		}
		a, err := c.do(ctx, method, path, query, body)
		_ = c.Close()
		if err != nil {
			return nil, err
		}
		last = a
		if a.status != http.StatusNotFound && a.status != http.StatusForbidden || c.socket == all[len(all)-1] {
			break
		}
	}
	return last, last.failed(name)
}

func tokenPath(name, rest string) string { return "/v1/tokens/" + url.PathEscape(name) + rest }

// completeNames offers the running agent's tokens.
func completeNames(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && c.Name() != "watch" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	socket, _ := c.Flags().GetString("socket")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	list, err := listTokens(ctx, socket)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range list.Tokens {
		names = append(names, t.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

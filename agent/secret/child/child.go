// Package child runs the short-lived programs that print a secret or a token:
// no shell, no stdin, a clean environment, and an end for the program and all
// that it started.
package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// MaxOutput is how much a program may print.
const MaxOutput = 1 << 20

// Command is a program to run.
type Command struct {
	Argv    []string      // the program and its arguments
	Env     []string      // KEY=value, beside the clean environment
	Timeout time.Duration // the program and its group are killed after it
}

// Errors that a run ends with, beside *exec.Error for a program that could not
// be started and *exec.ExitError for one that failed.
var (
	ErrTimeout = errors.New("the program did not end in time")
	ErrTooLong = fmt.Errorf("the program printed more than %d bytes", MaxOutput)
	ErrHeld    = errors.New("the program left something running that holds its output")
)

// Run runs c and returns what it printed on stdout. What it prints on stderr is
// thrown away: it may quote secrets.
func Run(ctx context.Context, c Command) ([]byte, error) {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return nil, errors.New("no program is given")
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env = append(cleanEnv(), c.Env...)
	out := &limited{stop: cancel}
	cmd.Stdout = out
	cmd.WaitDelay = time.Second
	g, err := start(cmd)
	if err != nil {
		return nil, err
	}
	err = cmd.Wait()
	if ctx.Err() != nil || err != nil {
		g.kill() // whoever is left of the group
	}
	g.close()
	switch {
	case out.over:
		return nil, ErrTooLong
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, ErrTimeout
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, exec.ErrWaitDelay):
		return nil, ErrHeld
	case err != nil:
		return nil, err
	}
	return out.buf.Bytes(), nil
}

// cleanEnv is all that a program sees of our environment.
func cleanEnv() []string {
	var env []string
	for _, k := range inherited {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// limited keeps MaxOutput bytes and ends the program that prints more.
type limited struct {
	buf  bytes.Buffer // not embedded: its ReadFrom would pass by Write
	over bool
	stop context.CancelFunc
}

func (l *limited) Write(p []byte) (int, error) {
	if l.buf.Len()+len(p) > MaxOutput {
		l.over = true
		l.stop()
		return 0, ErrTooLong
	}
	return l.buf.Write(p)
}

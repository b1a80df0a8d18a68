package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"renewd": main})
}

// Each script's first comment is the claim that it proves. Agents run in the
// background as processes of their own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			for _, d := range []string{"run", "state"} {
				if err := os.Mkdir(filepath.Join(e.WorkDir, d), 0o755); err != nil {
					return err
				}
			}
			// The socket's path must be short: that of the work directory is not.
			short, err := os.MkdirTemp("", "rw")
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(short) })
			e.Setenv("RUNTIME_DIRECTORY", short)
			e.Setenv("STATE_DIRECTORY", filepath.Join(e.WorkDir, "state"))
			e.Setenv("RENEWD_SOCKET", filepath.Join(short, "renewd.sock"))
			e.Setenv("TOKENS", filepath.Join(short, "tokens"))
			e.Setenv("NO_COLOR", "1")
			// Files of a script are made with the umask's mode.
			return filepath.Walk(e.WorkDir, func(p string, fi os.FileInfo, err error) error {
				if err == nil && fi.Mode().IsRegular() {
					err = os.Chmod(p, 0o600)
				}
				return err
			})
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"waitsocket": waitSocket,
			"waitfile":   waitFile,
			"waitlog":    waitLog,
		},
	})
}

func waitFor(ts *testscript.TestScript, what string, ok func() bool) {
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			ts.Fatalf("did not happen: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func waitSocket(ts *testscript.TestScript, neg bool, _ []string) {
	path := ts.Getenv("RENEWD_SOCKET")
	waitFor(ts, "an agent answers on "+path, func() bool {
		c, err := net.Dial("unix", path)
		if err == nil {
			_ = c.Close()
		}
		return (err == nil) != neg
	})
}

// waitFile FILE [TEXT]: the file is there and holds TEXT.
func waitFile(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	waitFor(ts, path, func() bool {
		b, err := os.ReadFile(path)
		ok := err == nil && len(b) > 0 && (len(args) < 2 || strings.Contains(string(b), args[1]))
		return ok != neg
	})
}

// waitLog FILE TEXT: a background command's output, redirected, holds TEXT.
func waitLog(ts *testscript.TestScript, neg bool, args []string) { waitFile(ts, neg, args) }

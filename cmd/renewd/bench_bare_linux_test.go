package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The least that any server of tokens does for a read: find the token by its name
// in a map, lay out an answer of the same length that holds it twice as ours does,
// and write it. What a read of many tokens costs it beside a read of one is what the
// machine takes for memory that is not in its cache.

const bareAt = "RENEWD_TEST_BARE" // "SOCKET TOKENS": TestBareServer serves, and does nothing else

func TestBareServer(t *testing.T) {
	at, count, ok := strings.Cut(os.Getenv(bareAt), " ")
	if !ok {
		t.Skip("it serves the benchmarks, as a process of its own")
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		t.Fatal(err)
	}
	tokens := make(map[string]string, n)
	for i := range n {
		tokens[fleetName(i)] = fmt.Sprintf("%s.%s", fleetName(i), strings.Repeat("x", 1492))
	}
	l, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go serveBare(c, tokens)
	}
}

func serveBare(c net.Conn, tokens map[string]string) {
	defer c.Close()
	in, out := make([]byte, 1<<10), make([]byte, 0, 8<<10)
	for {
		n, err := c.Read(in)
		if err != nil {
			return
		}
		name, _, _ := bytes.Cut(in[len("GET /v1/tokens/"):n], []byte(" "))
		token := tokens[string(name)]
		out = append(out[:0], "HTTP/1.1 200 OK\r\nContent-Length: "...)
		out = strconv.AppendInt(out, int64(2*len(token)), 10)
		out = append(append(append(out, "\r\n\r\n"...), token...), token...)
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// bare is one such server in a process of its own; it ends with the test.
type bare struct {
	socket string
	pid    int
}

func startBare(t testing.TB, tokens int) bare {
	t.Helper()
	dir, err := os.MkdirTemp("", "rw")
	if err != nil {
		t.Fatal(err)
	}
	b := bare{socket: dir + "/s"}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestBareServer$", "-test.timeout", "1h")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", bareAt, b.socket, tokens))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	eventually(t, "the bare server listens", time.Minute, func() bool {
		c, err := net.Dial("unix", b.socket)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return b
}

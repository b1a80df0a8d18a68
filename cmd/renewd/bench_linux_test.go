package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Benchmarks of the built binary, run as another process with a real config and
// with peer check, allow, metrics, log and state on. Each has its yardstick beside
// it, in turns, so that the machine's moods hit both; what is reported is the
// median of the rounds.

// startLogging runs the agent with its log in a file: a log that the measuring
// process had to read would be measured too.
func (r *rig) startLogging() {
	r.t.Helper()
	log, err := os.OpenFile(r.path("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	r.proc = exec.Command(theBinary(r.t), "run", "--config", r.path("renewd.yaml"))
	r.proc.Env = r.env
	r.proc.Stderr = log
	if err := r.proc.Start(); err != nil {
		r.t.Fatal(err)
	}
	exited := make(chan error, 1)
	r.exited = exited
	go func(p *exec.Cmd) { exited <- p.Wait() }(r.proc)
}

func (r *rig) pid() int { return r.proc.Process.Pid }

// cpuOf is the CPU time that a process has used so far, to the nanosecond; see
// clock_getcpuclockid(3).
func cpuOf(t testing.TB, pid int) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		t.Fatalf("read the CPU clock of %d: %v", pid, err)
	}
	return time.Duration(ts.Nano())
}

// statusOf reads one number of a /proc/…/status.
func statusOf(t testing.TB, path, key string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no %s", path, key)
	return 0
}

// memoryOf is a figure of a process's memory in bytes: "RssAnon", "VmRSS".
func memoryOf(t testing.TB, pid int, key string) int {
	return statusOf(t, fmt.Sprintf("/proc/%d/status", pid), key) << 10
}

// switchesOf counts how often the threads of a process went to sleep, which is
// how often they were woken.
func switchesOf(t testing.TB, pid int) (n int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("process %d has no threads: %v", pid, err)
	}
	for _, path := range tasks {
		n += statusOf(t, path, "voluntary_ctxt_switches")
	}
	return n
}

func median[T interface{ ~int | ~int64 | ~float64 }](of []T) T {
	of = slices.Sorted(slices.Values(of))
	return of[len(of)/2]
}

func percentile(of []time.Duration, p float64) time.Duration {
	of = slices.Sorted(slices.Values(of))
	return of[min(len(of)-1, int(p*float64(len(of))))]
}

// kept is one kept connection that sends heads and reads answers.
type kept struct {
	conn net.Conn
	r    *bufio.Reader
}

func keep(t testing.TB, socket string) *kept {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	return &kept{c, bufio.NewReaderSize(c, 8<<10)}
}

func head(path string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: renewd\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
}

// get sends one request and reads its answer; it returns the status line.
func (k *kept) get(head []byte) (status string, err error) {
	if _, err := k.conn.Write(head); err != nil {
		return "", err
	}
	line, err := k.r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	if status = "HTTP/1.1 200 OK"; !bytes.HasPrefix(line, []byte(status)) {
		status = strings.TrimSpace(string(line))
	}
	length := 0
	for {
		line, err = k.r.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		if len(line) == 2 {
			break
		}
		if rest, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(rest))); err != nil {
				return "", err
			}
		}
	}
	_, err = io.CopyN(io.Discard, k.r, int64(length))
	return status, err
}

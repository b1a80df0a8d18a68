package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const apiSocket = "/run/renewd/renewd.sock"

// callers call the socket all the time, as a script would, each call on a connection
// of its own.
type callers struct {
	mu      sync.Mutex
	calls   int
	longest time.Duration
	failed  []string
}

// watchCallers starts two of them.
func (b *box) watchCallers() (now *callers, stop func()) {
	now = &callers{}
	var all sync.WaitGroup
	end := make(chan struct{})
	socket := b.inside(apiSocket)
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}}
	for _, path := range []string{"/v1/tokens/commander", "/v1/tokens/commander?format=raw"} {
		all.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				now.call(&client, "http://renewd"+path)
			}
		})
	}
	return now, func() {
		close(end)
		all.Wait()
	}
}

func (c *callers) call(client *http.Client, url string) {
	began, said := time.Now(), ""
	resp, err := client.Get(url)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			said = resp.Status
		}
	}
	if err != nil {
		said = err.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	c.longest = max(c.longest, time.Since(began))
	if said != "" {
		c.failed = append(c.failed, said)
	}
}

// report says how it went since the last report.
func (c *callers) report(t *testing.T, over string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Logf("%s: %d calls, the longest %v, %d refused", over, c.calls, c.longest.Round(time.Millisecond), len(c.failed))
	if c.calls < 10 || len(c.failed) > 0 {
		t.Errorf("%s: %d calls, refused: %q", over, c.calls, c.failed)
	}
	c.calls, c.longest, c.failed = 0, 0, nil
}

// made waits for n more calls.
func (b *box) made(c *callers, n int) {
	b.t.Helper()
	count := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.calls
	}
	from := count()
	b.eventually(fmt.Sprint(n, " calls"), 30*time.Second, func() bool { return count() >= from+n })
}

// systemd keeps the sockets from one process to the next: a reload that needs what
// the process gave up ends it, as a restart does, and nobody who calls is refused,
// nor does the vendor see a login. A stopped service says so.
func TestE2ENobodyIsRefused(t *testing.T) {
	wanted(t)
	older, _ := packages(t)
	b := newBox(t)
	vendor := b.vendor()
	b.boot()
	b.install(older)
	b.run("sh", "-c", "mkdir -p /srv/one && chown renewd: /srv/one")
	b.write("etc/systemd/system/renewd.service.d/srv.conf", "[Service]\nReadWritePaths=/srv\n", 0o644)
	b.configure()
	b.eventually("the first token", 20*time.Second, func() bool { return b.generation() > 0 })
	if said := b.run("renewd", "status"); !strings.Contains(said, "\nprocess: confined by Landlock") {
		t.Fatalf("the service does not confine itself:\n%s", said)
	}
	if n := b.show("NFileDescriptorStore"); n != "2" {
		t.Errorf("systemd keeps %s sockets, want 2", n)
	}
	generation := b.generation()
	now, stop := b.watchCallers()
	b.made(now, 100)

	b.part("a sink elsewhere", func(t *testing.T) {
		pid := b.show("MainPID")
		wide := strings.Replace(config, "    sinks:\n", "    sinks:\n      - {type: file, path: /srv/one/token}\n", 1)
		b.write("etc/renewd/renewd.yaml", wide, 0o644)
		b.run("systemctl", "reload", "renewd.service")
		took := b.eventually("the token there", 20*time.Second, func() bool { _, err := os.Stat(b.inside("/srv/one/token")); return err == nil })
		t.Logf("there %v after the reload", took.Round(time.Millisecond))
		b.settled(pid)
		if said := b.run("renewd", "status"); !strings.Contains(said, "\nprocess: confined by Landlock") {
			t.Errorf("it is not confined any more:\n%s", said)
		}
		pid = b.show("MainPID")
		b.run("systemctl", "reload", "renewd.service") // the same config again
		if said := b.run("renewd", "reload"); said != "config reloaded" {
			t.Errorf("reload says %q", said)
		}
		if got := b.show("MainPID"); got != pid {
			t.Errorf("for the same config process %s became %s", pid, got)
		}
		b.made(now, 100)
		now.report(t, "a sink elsewhere")
	})

	b.part("a program", func(t *testing.T) {
		pid := b.show("MainPID")
		b.write("etc/renewd/conf.d/x.yaml", "tokens:\n  x: {source: {type: exec, command: [/bin/echo, tok], format: raw, lifetime: {default: 1h}}, sinks: [{type: file}]}\n", 0o644)
		said := b.run("renewd", "reload")
		if !strings.Contains(said, "the agent started again") {
			t.Errorf("reload says %q", said)
		}
		if got := b.run("renewd", "get", "x"); got != "tok" {
			t.Errorf("the program's token is %q", got)
		}
		b.settled(pid)
		b.made(now, 100)
		now.report(t, "a program")
	})

	b.part("restarts", func(t *testing.T) {
		for range 3 {
			b.run("systemctl", "restart", "renewd.service")
			b.made(now, 100)
		}
		b.run("systemctl", "daemon-reexec")
		b.run("systemctl", "restart", "renewd.service")
		b.made(now, 100)
		now.report(t, "4 restarts, one after systemd's own")
	})

	stop()
	b.oneLogin(vendor)
	if got := b.generation(); got < generation {
		t.Errorf("generation %d after %d", got, generation)
	}
	log := b.run("journalctl", "-b", "-u", "renewd.service", "-o", "cat", "--no-pager")
	if n := strings.Count(log, "starting again with the new config"); n < 2 || n > 4 { // the changed file may be seen before the reload
		t.Errorf("the journal says it %d times", n)
	}

	b.part("a stop", func(t *testing.T) {
		b.run("systemctl", "stop", "renewd.service")
		if _, err := net.Dial("unix", b.inside(apiSocket)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("who dials gets: %v", err)
		}
		if said := b.refused("renewd", "get", "commander"); !strings.Contains(said, "no agent answers") {
			t.Errorf("get says %q", said)
		}
		b.run("systemctl", "start", "renewd.service")
		if b.generation() < generation {
			t.Error("no answer after the start")
		}
		b.oneLogin(vendor)
	})
	b.keepsItsSecrets()
}

// settled waits until another process than pid is up.
func (b *box) settled(pid string) {
	b.t.Helper()
	b.eventually("another process", 20*time.Second, func() bool {
		now := b.show("MainPID")
		return now != pid && now != "0" && b.show("ActiveState") == "active" && b.generation() > 0
	})
}

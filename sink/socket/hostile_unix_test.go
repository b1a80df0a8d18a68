//go:build unix

package socket

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"renewd/agent"
	"renewd/platform/ipc"
)

// closesWithin checks that the server ends a connection.
func closesWithin(t *testing.T, what string, c net.Conn, limit time.Duration) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(limit))
	if _, err := io.Copy(io.Discard, c); isTimeout(err) {
		t.Errorf("%s: still open after %v", what, limit)
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// A head has five seconds, however it is started and fed.
func TestSlowHeadsAreCutAndCostOthersNothing(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
	w.ready("x")
	kept := w.dial()
	if a := raw(t, kept, requests[0]); a.status != 200 {
		t.Fatalf("%d", a.status)
	}
	var all sync.WaitGroup
	for name, start := range map[string]string{
		"nothing":                   "",
		"the start of a plain read": "GET /v1/tokens/x HT",
		"headers for ever":          "GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\n",
		"something else":            "POST /v1/re",
		"after a plain read":        requests[0] + "GET /v1/",
		"after another read":        "GET /v1/health HTTP/1.1\r\nHost: a\r\n\r\nGET /v1/hea",
	} {
		for _, drip := range []bool{false, true} {
			all.Go(func() {
				c := w.dial()
				began := time.Now()
				_, _ = io.WriteString(c, start)
				stop := make(chan struct{})
				if drip && start != "" {
					go func() {
						for {
							select {
							case <-stop:
								return
							case <-time.After(200 * time.Millisecond):
								_, _ = io.WriteString(c, "x")
							}
						}
					}()
				}
				closesWithin(t, fmt.Sprint(name, ", dripping: ", drip), c, headTimeout+3*time.Second)
				close(stop)
				if d := time.Since(began); d < headTimeout-time.Second {
					t.Errorf("%s: cut after %v", name, d)
				}
			})
		}
	}
	for range 200 {
		began := time.Now()
		if a := w.get("/v1/tokens/x"); a.status != 200 || time.Since(began) > time.Second {
			t.Fatalf("meanwhile: %d after %v", a.status, time.Since(began))
		}
	}
	all.Wait()
	if a := raw(t, kept, requests[0]); a.status != 200 {
		t.Fatalf("a connection that was idle between two heads: %d", a.status)
	}
}

// A gigabyte is not read, whoever sends it and however it is announced.
func TestHugeBodiesAreNotRead(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
	w.ready("x")
	for _, uid := range []uint32{0, 1003} {
		for _, head := range []string{
			"POST /v1/tokens/x/rejected HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n",
			"POST /v1/tokens/x/refresh HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n",
			"POST /v1/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n",
			"POST /v1/nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n",
			"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n",
			"POST /v1/tokens/x/rejected HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n",
		} {
			w.as(uid)
			c := w.dial()
			_ = c.SetDeadline(time.Now().Add(15 * time.Second))
			_, _ = io.WriteString(c, head)
			sent, block := 0, make([]byte, 64<<10)
			for sent < 1<<30 {
				n, err := c.Write(block)
				sent += n
				if err != nil {
					if isTimeout(err) {
						t.Errorf("%.60q: neither read nor cut", head)
					}
					break
				}
			}
			if sent > 4<<20 {
				t.Errorf("%.60q: %d bytes were taken", head, sent)
			}
			// The answer is there to be read all the same.
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err == nil && resp.StatusCode < 400 {
				t.Errorf("%.60q: status %d", head, resp.StatusCode)
			}
			_ = c.Close()
		}
	}
}

func TestHalfAClientIsAnswered(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
	w.ready("x")
	for _, r := range []string{requests[0], "GET /v1/tokens/x?format=raw HTTP/1.1\r\nHost: a\r\n\r\n"} {
		c := w.dial()
		_, _ = io.WriteString(c, r)
		_ = c.(*net.UnixConn).CloseWrite()
		if a := readAnswer(t, bufio.NewReader(c)); a.status != 200 {
			t.Errorf("%q: %d", r, a.status)
		}
		closesWithin(t, r, c, 5*time.Second)
	}
}

// One user's ten thousand connections take neither another user's place nor a
// manager's; that user's longest idle ones make room for its newer ones.
func TestTenThousandConnections(t *testing.T) {
	n := 10_000
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err == nil && lim.Cur < 14_000 {
		n = int(lim.Cur)/2 - 200
	}
	x := spec("x", &source{life: time.Hour})
	x.Access = &agent.Access{UIDs: []uint32{1001, 1002}}
	w := newWorld(t, func(o *Options) { o.Limits = Limits{Conns: 1200, PerUser: 1000, Reserve: 100} }, x)
	w.ready("x")
	w.as(1001)
	list := make([]net.Conn, 0, n)
	for range n {
		c, err := net.Dial("unix", w.path)
		for errors.Is(err, syscall.EAGAIN) { // the backlog is full
			time.Sleep(time.Millisecond)
			c, err = net.Dial("unix", w.path)
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	defer func() {
		for _, c := range list {
			_ = c.Close()
		}
	}()
	patience := 2 * time.Second
	if raceEnabled {
		patience = 20 * time.Second
	}
	for _, uid := range []uint32{1002, 0, 1001} {
		w.as(uid)
		began := time.Now()
		if a := w.get("/v1/tokens/x"); a.status != 200 || time.Since(began) > patience {
			t.Errorf("uid %d: %d after %v", uid, a.status, time.Since(began))
		}
	}
	w.server.conns.mu.Lock()
	defer w.server.conns.mu.Unlock()
	if got := len(w.server.conns.users["uid 1001"]); got > 1000 {
		t.Errorf("%d connections of one user", got)
	}
}

func TestWhoHasToGo(t *testing.T) {
	var table conns
	table.limit(Limits{Conns: 6, PerUser: 3, Reserve: 2})
	s := &Server{}
	add := func(uid uint32, idle time.Duration) (c, victim *conn, ok bool) {
		c = &conn{server: s, peer: ipc.Peer{Known: true, UID: uid}, id: fmt.Sprint("uid ", uid), manager: uid == 0}
		if idle > 0 {
			c.idle(idle)
		}
		victim, ok = table.admit(c)
		return c, victim, ok
	}
	a1, _, _ := add(1, 10)
	a2, _, _ := add(1, 5)
	a3, _, _ := add(1, 0) // busy
	if _, v, ok := add(1, 20); !ok || v != a2 {
		t.Fatal("at a user's limit the longest idle of that user goes")
	}
	if _, v, ok := add(2, 30); !ok || v != nil {
		t.Fatal("another user still has room")
	}
	if _, v, ok := add(3, 40); !ok || v != a1 {
		t.Fatal("at the limit of all others the longest idle of all goes")
	}
	m1, v, ok := add(0, 1)
	if !ok || v != nil {
		t.Fatal("the reserve is for managers")
	}
	if _, v, ok := add(0, 2); !ok || v != nil {
		t.Fatal("the reserve is for managers")
	}
	if _, v, ok := add(0, 3); !ok || v == nil || v == m1 || v == a3 {
		t.Fatal("a manager takes the longest idle other's place")
	}
	for _, u := range table.users {
		for c := range u {
			c.busy()
		}
	}
	if _, v, ok := add(4, 50); ok || v != nil {
		t.Fatal("who is busy is spared, and a newcomer turned away")
	}
	if table.all != 6 || table.others != 3 {
		t.Fatalf("%d connections, %d others", table.all, table.others)
	}
	for _, u := range table.users {
		for c := range u {
			table.forget(c)
			table.forget(c)
		}
	}
	if table.all != 0 || table.others != 0 || len(table.users) != 0 {
		t.Fatalf("after all are gone: %d, %d, %v", table.all, table.others, table.users)
	}
}

func TestCloseEndsLongPollsAndEventsAtOnce(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
	w.ready("x")
	poll, events, idle := w.dial(), w.dial(), w.dial()
	_, _ = io.WriteString(poll, "GET /v1/tokens/x?after=1&wait=5m HTTP/1.1\r\nHost: a\r\n\r\n")
	_, _ = io.WriteString(events, "GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n")
	line := bufio.NewReader(events)
	for {
		s, err := line.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(s, "data:") {
			break
		}
	}
	began := time.Now()
	if err := w.server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Fatalf("took %v", d)
	}
	for what, c := range map[string]net.Conn{"poll": poll, "events": events, "idle": idle} {
		closesWithin(t, what, c, time.Second)
	}
}

// A connection that was made before the Server closes is answered, whoever serves
// it; nobody needs to try again.
func TestCloseAnswersWhoHasConnected(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
	w.ready("x")
	var clients []net.Conn
	for range 20 {
		clients = append(clients, w.dial())
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		w.server.conns.mu.Lock()
		n := w.server.conns.all
		w.server.conns.mu.Unlock()
		if n == len(clients) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections", n)
		}
	}
	closed := make(chan error, 1)
	began := time.Now()
	go func() { closed <- w.server.Close(t.Context()) }()
	<-w.server.base.Done()
	for i, c := range clients {
		path := []string{"/v1/tokens/x", "/v1/tokens/x?format=raw"}[i%2]
		want(t, raw(t, c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n"), 200)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > lastCall {
		t.Errorf("took %v though all were answered", d)
	}
	for _, c := range clients {
		closesWithin(t, "answered", c, time.Second)
	}
}

package socket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// twins are two servers of one agent: the second leaves everything to net/http.
func twins(t testing.TB) (a, b *world) {
	a = newWorld(t, nil, spec("x", &source{life: time.Hour}), spec("a.b-c_9", &source{life: time.Hour}))
	a.ready("x")
	a.ready("a.b-c_9")
	b = newWorld(t, func(o *Options) { o.Agent, o.plain = a.agent, true })
	return a, b
}

// talk sends everything, closes its half and gives all answers.
func talk(t testing.TB, w *world, request []byte) []string {
	c, err := dialPlace(context.Background(), w.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	// An answer may come, and the connection end, before all is written.
	_, _ = c.Write(request)
	_ = halfClose(t, c)
	all, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%q: the connection does not end after %q", request, all)
	}
	var answers []string
	for r := bufio.NewReader(bytes.NewReader(all)); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			if _, more := r.Peek(1); more == nil {
				answers = append(answers, "garbage")
			}
			return answers
		}
		body, _ := io.ReadAll(resp.Body)
		date, err := http.ParseTime(resp.Header.Get("Date"))
		if resp.Header.Get("Date") != "" && (err != nil || time.Since(date).Abs() > time.Minute) {
			t.Fatalf("date %q", resp.Header.Get("Date"))
		}
		hasDate := resp.Header.Get("Date") != ""
		resp.Header.Del("Date")
		text := volatile.ReplaceAllString(string(body), `"time":"now"`)
		if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version") {
			text = "metrics"
		}
		if text != string(body) {
			resp.Header.Del("Content-Length")
		}
		answers = append(answers, fmt.Sprint(resp.Proto, resp.StatusCode, resp.Header, hasDate, resp.Close, text))
	}
}

var volatile = regexp.MustCompile(`"time":"[^"]*"`)

var requests = []string{
	"GET /v1/tokens/x HTTP/1.1\r\nHost: renewd\r\n\r\n",
	"GET /v1/tokens/a.b-c_9 HTTP/1.1\r\nhOsT: localhost:80\r\nUser-Agent: curl/8\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: renewd\r\n\r\nGET /v1/tokens/x HTTP/1.1\r\nHost: renewd\r\n\r\nGET /v1/health HTTP/1.1\r\nHost: r\r\n\r\nGET /v1/tokens/x HTTP/1.1\r\nHost: renewd\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: renewd\r\nConnection: close\r\n\r\nGET /v1/tokens/x HTTP/1.1\r\nHost: renewd\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: renewd\r\nConnection: Keep-Alive, close\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.0\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: a b\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost : a\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\n Accept: folded\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\nHost: a\n\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\nUser-Agent: \x00\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\x7f\r\n\r\n",
	"GET  /v1/tokens/x HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /v1/tokens/x  HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /v1/tokens/x?format=raw HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /v1/tokens/x/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /v1/tokens/../tokens/x HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /v1/tokens/%78 HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /v1/tokens/.x HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /v1/tokens/nope HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /v1/tokens/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /v1/tokens HTTP/1.1\r\nHost: a\r\n\r\n",
	"HEAD /v1/tokens/x HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET http://renewd/v1/tokens/x HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\n",
	"GET /v1/tok",
	"\r\n\r\nGET /v1/tokens/x HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\n\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\nHost:\r\n\r\n",
	"GET /v1/tokens/x HTTP/1.1\r\n: a\r\nHost: a\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}

func TestTheFastPathAnswersAsNetHTTP(t *testing.T) {
	a, b := twins(t)
	for _, r := range append(slices.Clone(requests), "GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\nUser-Agent: "+strings.Repeat("u", 5000)+"\r\n\r\n",
		"GET /v1/tokens/x HTTP/1.1\r\nHost: a\r\nUser-Agent: "+strings.Repeat("u", 40000)+"\r\n\r\n") {
		got, want := talk(t, a, []byte(r)), talk(t, b, []byte(r))
		if !slices.Equal(got, want) {
			t.Errorf("%.200q\nfast     %q\nnet/http %q", r, got, want)
		}
	}
	if got := talk(t, a, []byte(requests[2])); len(got) != 4 {
		t.Errorf("four requests, %d answers", len(got))
	}
}

func FuzzFastPathAnswersAsNetHTTP(f *testing.F) {
	for _, r := range requests {
		f.Add([]byte(r))
	}
	a, b := twins(f)
	f.Fuzz(func(t *testing.T, request []byte) {
		for _, slow := range []string{"POST", "wait", "events", "%"} { // they change something or take their time
			if bytes.Contains(request, []byte(slow)) {
				return
			}
		}
		got, want := talk(t, a, request), talk(t, b, request)
		if !slices.Equal(got, want) {
			t.Fatalf("%q\nfast     %q\nnet/http %q", request, got, want)
		}
	})
}

// The plain read must really go the fast path, or all of the above says nothing.
func TestPlainReadsStayOnTheFastPath(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
	w.ready("x")
	c := w.dial()
	for range 3 {
		if a := raw(t, c, requests[0]); a.status != 200 {
			t.Fatalf("%d", a.status)
		}
	}
	handed := func() (n int) {
		w.server.conns.mu.Lock()
		defer w.server.conns.mu.Unlock()
		for _, u := range w.server.conns.users {
			for c := range u {
				if c.handed.Load() {
					n++
				}
			}
		}
		return n
	}
	if handed() != 0 {
		t.Fatal("a plain read went to net/http")
	}
	if a := raw(t, c, "GET /v1/tokens/x?format=raw HTTP/1.1\r\nHost: a\r\n\r\n"); a.status != 200 || handed() != 1 {
		t.Fatalf("%d, %d handed over", a.status, handed())
	}
	if a := raw(t, c, requests[0]); a.status != 200 {
		t.Fatalf("%d", a.status)
	}
}

// Heads that arrive in pieces, wherever they are cut.
func TestAHeadMayArriveInPieces(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
	w.ready("x")
	for cut := 1; cut < len(requests[0]); cut += 3 {
		c := w.dial()
		if _, err := io.WriteString(c, requests[0][:cut]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		if a := raw(t, c, requests[0][cut:]+requests[0]); a.status != 200 {
			t.Fatalf("cut at %d: %d", cut, a.status)
		}
	}
}

func TestAnIdleConnectionCostsLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	for name, request := range map[string]string{"fast": requests[0], "net/http": "GET /v1/tokens/x?format=raw HTTP/1.1\r\nHost: a\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, spec("x", &source{life: time.Hour}))
			w.ready("x")
			const n = 1000
			list := make([]net.Conn, n)
			read := bufio.NewReader(nil)
			open := func() {
				for i := range list {
					list[i] = w.dial()
					if _, err := io.WriteString(list[i], request); err != nil {
						t.Fatal(err)
					}
					read.Reset(list[i])
					if a := readAnswer(t, read); a.status != 200 {
						t.Fatalf("%d", a.status)
					}
				}
			}
			before := used()
			open()
			each := (used() - before) / n
			t.Logf("%d bytes a connection, the client's end included", each)
			if each > 20<<10 || each <= 0 {
				t.Errorf("%d bytes a connection", each)
			}
		})
	}
}

// used is the memory that lives, stacks included.
func used() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

package wire_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/wire"
)

func client(t *testing.T, s wire.Settings) *wire.Client {
	t.Helper()
	tr := wire.NewTransports(wire.Options{})
	t.Cleanup(tr.CloseIdle)
	c, problems := tr.Client(s)
	if problems.Fatal() {
		t.Fatal(problems)
	}
	return c
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func post(t *testing.T, c *wire.Client, u string) (*wire.Answer, error) {
	t.Helper()
	return c.Do(t.Context(), &wire.Request{Method: "POST", URL: mustURL(t, u), Body: []byte("hunter2")})
}

func wantKind(t *testing.T, err error, k agent.Kind, unsent bool, detail string) *agent.Error {
	t.Helper()
	e, ok := errors.AsType[*agent.Error](err)
	if !ok {
		t.Fatalf("got %v; want %s", err, k)
	}
	if e.Kind != k || e.Unsent != unsent || !strings.Contains(e.Detail, detail) {
		t.Fatalf("got %s %q unsent=%v; want %s %q unsent=%v", e.Kind, e.Detail, e.Unsent, k, detail, unsent)
	}
	return e
}

func TestRedirects(t *testing.T) {
	var seen []string
	other := httptest.NewServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) { seen = append(seen, "OTHER") }))
	defer other.Close()
	var status int
	var to string
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		b, _ := io.ReadAll(r.Body)
		seen = append(seen, r.Method+" "+r.URL.Path+" "+string(b))
		switch r.URL.Path {
		case "/loop":
			w.Header().Set("Location", "/loop")
			w.WriteHeader(status)
		case "/a":
			w.Header().Set("Location", to)
			w.WriteHeader(status)
		}
	}))
	defer srv.Close()
	c := client(t, wire.Settings{})
	for _, k := range []struct {
		method string
		status int
		to     string
		want   string
		final  int
	}{
		{"POST", 307, "/b", "POST /a hunter2|POST /b hunter2", 200},
		{"POST", 308, "/b", "POST /a hunter2|POST /b hunter2", 200},
		{"POST", 301, "/b", "POST /a hunter2", 301},
		{"POST", 302, "/b", "POST /a hunter2", 302},
		{"POST", 303, "/b", "POST /a hunter2", 303},
		{"GET", 302, "/b", "GET /a |GET /b ", 200},
		{"DELETE", 302, "/b", "DELETE /a ", 302},
		{"POST", 307, other.URL, "POST /a hunter2", 307},
		{"GET", 302, other.URL, "GET /a ", 302},
		{"GET", 302, "", "GET /a ", 302},
		{"GET", 302, strings.Replace(srv.URL, "http:", "https:", 1) + "/b", "GET /a ", 302},
	} {
		seen, status, to = nil, k.status, k.to
		r := &wire.Request{Method: k.method, URL: mustURL(t, srv.URL+"/a")}
		if k.method == "POST" {
			r.Body = []byte("hunter2")
		}
		a, err := c.Do(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(seen, "|"); got != k.want || a.Status != k.final {
			t.Errorf("%s %d to %q: got %q %d; want %q %d", k.method, k.status, k.to, got, a.Status, k.want, k.final)
		}
	}
	seen, status = nil, 307
	if a, err := post(t, c, srv.URL+"/loop"); err != nil || a.Status != 307 || len(seen) != 6 {
		t.Errorf("a loop: %v, %d requests", err, len(seen))
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not see that we hang up
		switch r.URL.Path {
		case "/exact":
			_, _ = w.Write(make([]byte, wire.MaxBody))
		case "/long":
			_, _ = w.Write(make([]byte, wire.MaxBody+1))
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.Copy(z, io.LimitReader(zeros{}, 8<<20))
			_ = z.Close()
		case "/header":
			for i := range 80 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("y", 1000))
			}
		case "/truncated":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("short"))
		case "/reset":
			conn, _, err := nethttp.NewResponseController(w).Hijack()
			if err == nil {
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
			}
		case "/drip":
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte("."))
				_ = nethttp.NewResponseController(w).Flush()
				time.Sleep(5 * time.Millisecond)
			}
		case "/hang":
			<-r.Context().Done()
		}
	}))
	defer srv.Close()
	c := client(t, wire.Settings{})
	if a, err := post(t, c, srv.URL+"/exact"); err != nil || len(a.Body) != wire.MaxBody {
		t.Errorf("a body of exactly the limit: %v", err)
	}
	for _, k := range []struct {
		path   string
		kind   agent.Kind
		detail string
	}{
		{"/long", agent.Misconfigured, "more than 1048576 bytes"},
		{"/bomb", agent.Misconfigured, "more than 1048576 bytes"},
		{"/header", agent.Misconfigured, "header block"},
		{"/truncated", agent.Transient, "too early"},
		{"/reset", agent.Transient, ""},
		{"/drip", agent.Transient, "no whole answer within"},
		{"/hang", agent.Transient, "no whole answer within"},
	} {
		t.Run(k.path, func(t *testing.T) {
			r := &wire.Request{Method: "POST", URL: mustURL(t, srv.URL+k.path+"?q=hunter2"), Body: []byte("hunter2")}
			if strings.Contains(k.detail, "within") {
				r.Timeout = 300 * time.Millisecond
			}
			_, err := c.Do(t.Context(), r)
			e := wantKind(t, err, k.kind, false, k.detail)
			if strings.Contains(e.Error()+e.Hint, "hunter2") {
				t.Errorf("error quotes the request: %v", e)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	_, err = post(t, client(t, wire.Settings{}), "http://"+addr)
	wantKind(t, err, agent.Transient, true, "refuses connections")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = client(t, wire.Settings{}).Do(ctx, &wire.Request{Method: "GET", URL: mustURL(t, "http://"+addr)})
	wantKind(t, err, agent.Transient, true, "given up")
}

func TestPlaintext(t *testing.T) {
	yes := true
	for _, k := range []struct {
		url  string
		tls  wire.TLS
		want bool
	}{
		{"https://a.example", wire.TLS{}, true},
		{"http://127.0.0.1:1", wire.TLS{}, true},
		{"http://[::1]:1", wire.TLS{}, true},
		{"http://localhost", wire.TLS{}, true},
		{"http://localhost.example", wire.TLS{}, false},
		{"http://a.example", wire.TLS{}, false},
		{"http://a.example", wire.TLS{Plaintext: &yes}, true},
		{"ftp://127.0.0.1", wire.TLS{}, false},
		{"https://", wire.TLS{}, false},
	} {
		if err := client(t, wire.Settings{TLS: k.tls}).CheckURL(mustURL(t, k.url)); (err == nil) != k.want {
			t.Errorf("%s: %v", k.url, err)
		}
	}
	_, err := post(t, client(t, wire.Settings{}), "http://a.example")
	wantKind(t, err, agent.Misconfigured, true, "without encryption")
}

func TestTrust(t *testing.T) {
	srv := httptest.NewUnstartedServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) {}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	pin := wire.Pin(srv.Certificate())
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	yes := true
	byName := strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)
	for _, k := range []struct {
		name, url, detail string
		tls               wire.TLS
	}{
		{"unknown CA", srv.URL, "signed by nobody", wire.TLS{}},
		{"CA", srv.URL, "", wire.TLS{CAFile: secret.Path(ca)}},
		{"CA, other name", byName, "another name", wire.TLS{CAFile: secret.Path(ca)}},
		{"CA, told the name", byName, "", wire.TLS{CAFile: secret.Path(ca), ServerName: "example.com"}},
		{"pin", srv.URL, "", wire.TLS{PinSHA256: []string{pin}}},
		{"pin replaces the name", byName, "", wire.TLS{PinSHA256: []string{pin}}},
		{"other pin", srv.URL, "another key", wire.TLS{PinSHA256: []string{"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}},
		{"other pin beats insecure", srv.URL, "another key", wire.TLS{Insecure: &yes, PinSHA256: []string{"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}},
		{"insecure", srv.URL, "", wire.TLS{Insecure: &yes}},
	} {
		t.Run(k.name, func(t *testing.T) {
			_, err := post(t, client(t, wire.Settings{TLS: k.tls}), k.url)
			if k.detail == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e := wantKind(t, err, agent.Misconfigured, true, k.detail)
			if !strings.Contains(k.name, "name") && !strings.Contains(e.Hint, pin) {
				t.Errorf("the hint names no pin: %s", e.Hint)
			}
		})
	}
	_, err := post(t, client(t, wire.Settings{}), strings.Replace(srv.URL, "https", "http", 1))
	if err != nil {
		t.Fatal(err) // Go's server answers 400 in clear
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	srv := httptest.NewUnstartedServer(nethttp.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	srv.StartTLS()
	defer srv.Close()
	yes := true
	_, err := post(t, client(t, wire.Settings{TLS: wire.TLS{Insecure: &yes}}), srv.URL)
	wantKind(t, err, agent.Misconfigured, true, "no TLS connection")
	plain := httptest.NewServer(nethttp.NotFoundHandler())
	defer plain.Close()
	_, err = post(t, client(t, wire.Settings{}), strings.Replace(plain.URL, "http", "https", 1))
	wantKind(t, err, agent.Misconfigured, true, "does not speak TLS")
}

func TestSettingsProblems(t *testing.T) {
	yes := true
	for _, k := range []struct {
		s     wire.Settings
		path  string
		fatal bool
	}{
		{wire.Settings{TLS: wire.TLS{CAFile: "/nonexistent"}}, "tls.ca_file", true},
		{wire.Settings{TLS: wire.TLS{CAFile: "/dev/null"}}, "tls.ca_file", true},
		{wire.Settings{TLS: wire.TLS{MinVersion: "1.1"}}, "tls.min_version", true},
		{wire.Settings{TLS: wire.TLS{PinSHA256: []string{"x"}}}, "tls.pin_sha256[0]", true},
		{wire.Settings{TLS: wire.TLS{CertFile: "x"}}, "tls", true},
		{wire.Settings{TLS: wire.TLS{Insecure: &yes}}, "tls.insecure", false},
		{wire.Settings{TLS: wire.TLS{Plaintext: &yes}}, "tls.plaintext", false},
		{wire.Settings{Proxy: "hunter2@:"}, "proxy", true},
	} {
		_, p := wire.NewTransports(wire.Options{}).Client(k.s)
		if len(p) != 1 || p[0].Path != k.path || p.Fatal() != k.fatal || strings.Contains(p[0].String(), "hunter2") {
			t.Errorf("got %v; want %s", p, k.path)
		}
	}
}

func TestProxy(t *testing.T) {
	var asked []string
	proxy := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) { asked = append(asked, r.URL.Host) }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	yes := true
	plain := wire.TLS{Plaintext: &yes}
	for _, k := range []struct {
		proxy   string
		no      []string
		through bool
	}{
		{"", nil, false}, // not by the environment's
		{"none", nil, false},
		{proxy.URL, nil, true},
		{proxy.URL, []string{"renewd.invalid"}, false},
		{proxy.URL, []string{".invalid"}, false},
		{proxy.URL, []string{"*"}, false},
		{proxy.URL, []string{"renewd.invalid:8080"}, true},
		{proxy.URL, []string{"10.0.0.0/8", "d.invalid"}, true},
	} {
		asked = nil
		_, err := post(t, client(t, wire.Settings{TLS: plain, Proxy: k.proxy, NoProxy: k.no}), "http://renewd.invalid/x")
		if through := len(asked) > 0; through != k.through || through == (err != nil) {
			t.Errorf("%q %v: asked %v, %v", k.proxy, k.no, asked, err)
		}
	}
}

func TestPoolsAreShared(t *testing.T) {
	tr := wire.NewTransports(wire.Options{})
	yes := true
	a, _ := tr.Client(wire.Settings{})
	b, _ := tr.Client(wire.Settings{TLS: wire.TLS{}.Over(nil)})
	c, _ := tr.Client(wire.Settings{TLS: wire.TLS{}.Over(&wire.TLS{Insecure: &yes})})
	if a != b || a == c {
		t.Error("equal settings share a pool, others do not")
	}
}

func TestClocks(t *testing.T) {
	wall := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	header := nethttp.Header{}
	tr := wire.NewTransports(wire.Options{
		Clock: func() agent.Instant { return agent.Instant{Wall: wall, Boot: 1} },
		RoundTrip: roundTrip(func(*nethttp.Request) (*nethttp.Response, error) {
			return &nethttp.Response{StatusCode: 503, Header: header, Body: io.NopCloser(&bytes.Buffer{})}, nil
		}),
	})
	c, _ := tr.Client(wire.Settings{})
	u := mustURL(t, "https://a.example")
	do := func() *wire.Answer {
		a, err := c.Do(t.Context(), &wire.Request{Method: "GET", URL: u})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := do(); a.HasSkew || !a.ServerNow.IsZero() || a.RetryAfter() != 0 {
		t.Error("no Date")
	}
	if _, ok := c.Host(u).Skew(); ok {
		t.Error("skew is known before a Date was seen")
	}
	header.Set("Date", wall.Add(time.Minute).Format(nethttp.TimeFormat))
	header.Set("Age", "60")
	header.Set("Retry-After", "7")
	if a := do(); a.Skew != 2*time.Minute+time.Second/2 || a.RetryAfter() != 7*time.Second {
		t.Errorf("got %v %v", a.Skew, a.RetryAfter())
	}
	if s, ok := c.Host(mustURL(t, "https://a.example:443/x")).Skew(); !ok || s < time.Minute {
		t.Errorf("the host's skew is %v", s)
	}
	header.Set("Retry-After", wall.Add(150*time.Second).Format(nethttp.TimeFormat))
	if a := do(); a.RetryAfter() != 30*time.Second {
		t.Errorf("a date is read by the server's clock: %v", a.RetryAfter())
	}
	for _, bad := range []string{"-1", "soon", "NaN", ""} {
		header.Set("Retry-After", bad)
		if a := do(); a.RetryAfter() != 0 {
			t.Errorf("%q: %v", bad, a.RetryAfter())
		}
	}
	header.Set("Retry-After", "1e99")
	if a := do(); a.RetryAfter() != 24*time.Hour {
		t.Errorf("absurd: %v", a.RetryAfter())
	}
	header.Set("Date", wall.Add(30*time.Hour).Format(nethttp.TimeFormat))
	if a := do(); a.HasSkew || !a.FarDate || !a.ServerNow.IsZero() {
		t.Error("a Date 30 h off was believed")
	}
}

func TestHTML(t *testing.T) {
	for _, k := range []struct {
		ct, body string
		want     bool
	}{
		{"text/html; charset=utf-8", "", true}, {"Text/HTML", "{}", true}, {"application/json", " \n<!DOCTYPE HTML><p>", true},
		{"", "<html lang=en>", true}, {"application/json", `{"a":"<html>"}`, false}, {"text/plain", "abc", false},
	} {
		a := &wire.Answer{Header: nethttp.Header{"Content-Type": {k.ct}}, Body: []byte(k.body)}
		if a.IsHTML() != k.want {
			t.Errorf("%q %q", k.ct, k.body)
		}
	}
}

type roundTrip func(*nethttp.Request) (*nethttp.Response, error)

func (f roundTrip) RoundTrip(r *nethttp.Request) (*nethttp.Response, error) { return f(r) }

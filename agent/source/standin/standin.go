// Package standin holds servers that stand in for the vendors': for tests and
// for the demo. Each follows what vendors publish, refusals included, and takes
// the worst reading of every fact that is not known, behind one flag each.
//
// They tell time by package time alone, so they run in a testing/synctest
// bubble too: in-process behind Transport, or over any net.Listener.
package standin

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Counts are what a stand-in was asked.
type Counts struct {
	Logins    int // that brought a token
	Refreshes int // that brought a token
	Refused   int // logins and refreshes refused
	Tries     int // logins tried, whatever came of them
	Accepted  int // API calls with a good token
	Denied    int // API calls with another
}

// Fault is what goes wrong with an answer on demand.
type Fault string

// Faults of vendors.md §5 and of networks.
const (
	None       Fault = ""
	Status500  Fault = "500"
	Status503  Fault = "503"        // with Retry-After: 7
	Status429  Fault = "429"        // with Retry-After: 7
	Outage401  Fault = "401"        // ill servers say 401 too
	HTML200    Fault = "html"       // a captive portal
	Empty200   Fault = "empty"      // 200 without a body
	NoToken200 Fault = "no token"   // 200 with JSON that has no token
	ErrorIn200 Fault = "error"      // 200 with an error object
	Truncated  Fault = "truncated"  // fewer bytes than were promised
	Hang       Fault = "hang"       // no answer at all
	Drip       Fault = "drip"       // a byte a second, for ever
	Reset      Fault = "reset"      // the connection breaks
	Elsewhere  Fault = "redirect"   // to another origin
	LostAnswer Fault = "lost"       // done, but the answer is lost
	LongBody   Fault = "long"       // above 1 MiB
	OtherThing Fault = "other json" // 200 with a JSON list
)

// Faults lists every Fault.
func Faults() []Fault {
	return []Fault{Status500, Status503, Status429, Outage401, HTML200, Empty200, NoToken200, ErrorIn200, Truncated,
		Hang, Drip, Reset, Elsewhere, LostAnswer, LongBody, OtherThing}
}

// base is what all stand-ins share.
type base struct {
	mu     sync.Mutex
	counts Counts
	fault  Fault
	times  int           // how many more answers the fault takes; below 0: all
	skew   time.Duration // of the server's clock
	noDate bool
}

// Counts tells what was asked so far.
func (b *base) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts
}

// Fail makes the next n answers to logins and refreshes go wrong; below 0: all
// from now on.
func (b *base) Fail(f Fault, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault, b.times = f, n
}

// SetSkew sets the server's clock off.
func (b *base) SetSkew(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.skew = d
}

// HideDate leaves the Date header out.
func (b *base) HideDate(hide bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noDate = hide
}

// now is the server's clock; b.mu is held.
func (b *base) now() time.Time { return time.Now().Add(b.skew) }

// takeFault gives the fault that the next answer has.
func (b *base) takeFault() Fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault == None || b.times == 0 {
		return None
	}
	b.times--
	return b.fault
}

// errBroken ends a connection in the middle of an answer.
var errBroken = errors.New("the connection broke")

// serve answers a request for a token: with the fault that is due, or by answer.
func (b *base) serve(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	b.date(w)
	f := b.takeFault()
	switch f {
	case None:
		answer(w, r)
	case LostAnswer:
		answer(discard{}, r)
		panic(http.ErrAbortHandler)
	default:
		f.spoil(w, r)
	}
}

func (b *base) date(w http.ResponseWriter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.noDate {
		w.Header()["Date"] = nil // net/http's way to leave it out
		return
	}
	w.Header().Set("Date", b.now().UTC().Format(http.TimeFormat))
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

func (f Fault) spoil(w http.ResponseWriter, r *http.Request) {
	send := func(status int, contentType, body string) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
	switch f {
	case Status500:
		send(500, "application/json", `{"message":"hunter2"}`)
	case Status503, Status429:
		w.Header().Set("Retry-After", "7")
		status, _ := strconv.Atoi(string(f))
		send(status, "text/plain", "busy")
	case Outage401:
		send(401, "application/json", "")
	case HTML200:
		send(200, "text/html", "<!doctype html><title>Sign in to the hotel</title>")
	case Empty200:
		send(200, "application/json", "")
	case NoToken200:
		send(200, "application/json", `{"ok":true}`)
	case ErrorIn200:
		send(200, "application/json", `{"error":{"code":17}}`)
	case OtherThing:
		send(200, "application/json", `[1,2,3]`)
	case LongBody:
		send(200, "application/json", `{"token":"`+strings.Repeat("x", 1<<20)+`"}`)
	case Truncated:
		w.Header().Set("Content-Length", "4096")
		send(200, "application/json", `{"token":"ey`)
	case Elsewhere:
		w.Header().Set("Location", "https://elsewhere.invalid/")
		w.WriteHeader(307)
	case Hang:
		<-r.Context().Done()
	case Drip:
		drip(w, r)
	case Reset:
		panic(http.ErrAbortHandler)
	}
}

func drip(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	for {
		_, _ = io.WriteString(w, " ")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func sendJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func readJSON(r *http.Request) map[string]any {
	var m map[string]any
	if json.NewDecoder(r.Body).Decode(&m) != nil {
		return nil
	}
	return m
}

func text(m map[string]any, key string) string { s, _ := m[key].(string); return s }

// jwtOf makes a token that looks like a JWT. Nobody checks its signature: a
// stand-in knows its tokens by heart.
func jwtOf(claims map[string]any) string {
	enc := base64.RawURLEncoding
	b, _ := json.Marshal(claims)
	sig := make([]byte, 32)
	_, _ = rand.Read(sig)
	return enc.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + enc.EncodeToString(b) + "." + enc.EncodeToString(sig)
}

func bearer(r *http.Request) string {
	t, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return t
}

// Transport calls a handler in-process, as a connection would: an answer that
// is broken off is an error for the client, and a client that goes away ends
// the request.
func Transport(h http.Handler) http.RoundTripper { return transport{h} }

type transport struct{ h http.Handler }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	pr, pw := io.Pipe()
	w := &pipeWriter{header: http.Header{}, body: pw, ready: make(chan struct{})}
	go func() {
		defer func() {
			if p := recover(); p != nil {
				w.finish(errBroken)
				return
			}
			w.finish(r.Context().Err()) // who has hung up gets no end of the answer
		}()
		t.h.ServeHTTP(w, r)
	}()
	select {
	case <-w.ready:
	case <-r.Context().Done():
		_ = pr.CloseWithError(r.Context().Err())
		return nil, r.Context().Err()
	}
	if w.failed != nil {
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: w.failed}
	}
	stop := make(chan struct{})
	body := &pipeBody{PipeReader: pr, stop: stop}
	go func() {
		select {
		case <-r.Context().Done():
			_ = pr.CloseWithError(r.Context().Err())
		case <-stop:
		}
	}()
	return &http.Response{StatusCode: w.status, Header: w.header, Body: body, Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}, nil
}

// pipeBody is an answer's body; closing it lets its watcher go.
type pipeBody struct {
	*io.PipeReader
	once sync.Once
	stop chan struct{}
}

func (b *pipeBody) Close() error {
	b.once.Do(func() { close(b.stop) })
	return b.PipeReader.Close()
}

// pipeWriter is the server's side of an answer.
type pipeWriter struct {
	header http.Header
	body   *io.PipeWriter
	status int
	wrote  int
	ready  chan struct{}
	failed error
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		h := w.header.Clone()
		if h["Date"] == nil {
			delete(h, "Date")
		}
		w.header = h
		close(w.ready)
	}
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(200)
	w.wrote += len(p)
	return w.body.Write(p)
}

// Flush makes drips visible; there is nothing to flush.
func (w *pipeWriter) Flush() {}

func (w *pipeWriter) finish(err error) {
	if w.status == 0 {
		if err != nil {
			w.failed = err
			close(w.ready)
			return
		}
		w.WriteHeader(200)
	}
	if n, e := strconv.Atoi(w.header.Get("Content-Length")); err == nil && e == nil && n > w.wrote {
		err = io.ErrUnexpectedEOF
	}
	_ = w.body.CloseWithError(err)
}

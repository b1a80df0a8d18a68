package oauth2

import (
	"context"
	"fmt"
	"html"
	"io"
	"log"
	"net"
	nethttp "net/http"
	"net/url"
	"sync/atomic"
	"time"

	"renewd/agent"
)

// landing is the page on loopback that a browser is sent back to. It takes one
// answer.
type landing struct {
	state, path string
	host        string // as the redirect URI writes it
	came        chan *visit

	taken     atomic.Bool
	strangers atomic.Int32 // answers with another state
}

// visit is the browser's answer, and what came of it.
type visit struct {
	query url.Values
	done  chan *agent.Error
}

// serve listens until stop is called, which lets pages under way be read.
func (l *landing) serve(on net.Listener) (stop func()) {
	srv := &nethttp.Server{Handler: l, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 5 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(on) }()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx)
		_ = srv.Close()
		<-ended
	}
}

// ServeHTTP takes the first answer with our state. One with another state is
// refused and otherwise ignored: a page that guesses the port must not be able
// to end a sign-in.
func (l *landing) ServeHTTP(w nethttp.ResponseWriter, r *nethttp.Request) {
	q := r.URL.Query()
	switch {
	case r.Host != l.host: // a name that was made to resolve to loopback
		page(w, nethttp.StatusMisdirectedRequest, "Not here", "This address belongs to another site.")
	case r.URL.Path != l.path:
		page(w, nethttp.StatusNotFound, "Nothing here", "renewd waits here for the answer to a sign-in, on another path.")
	case r.Method != nethttp.MethodGet:
		page(w, nethttp.StatusMethodNotAllowed, "Not understood", "The answer to a sign-in is a simple link.")
	case !same(q.Get("state"), l.state):
		l.strangers.Add(1)
		page(w, nethttp.StatusBadRequest, "Not the sign-in that is waited for",
			"This answer belongs to another sign-in, perhaps one that was begun earlier in another tab. Finish the newest one, or run renewd login again.")
	case q.Get("code") == "" && q.Get("error") == "":
		page(w, nethttp.StatusBadRequest, "Not an answer", "The server sent neither a code nor an error. Run renewd login again.")
	case !l.taken.CompareAndSwap(false, true):
		page(w, nethttp.StatusConflict, "Already answered", "This sign-in has had its answer. You can close this tab.")
	default:
		l.take(w, r, q)
	}
}

// take hands the answer on and tells the person what came of it.
func (l *landing) take(w nethttp.ResponseWriter, r *nethttp.Request, q url.Values) {
	v := &visit{query: q, done: make(chan *agent.Error, 1)}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	var e *agent.Error
	select {
	case l.came <- v:
		// A tab that is closed now changes nothing: the code is on its way.
		e = <-v.done
	case <-ctx.Done():
		e = &agent.Error{Detail: "nobody waits for this sign-in any more"}
	}
	if e != nil {
		text := "renewd could not finish it: " + e.Detail + "."
		if e.Hint != "" {
			text += " What to do: " + e.Hint + "."
		}
		page(w, nethttp.StatusOK, "The sign-in did not work", text)
		return
	}
	page(w, nethttp.StatusOK, "You are signed in", "renewd has what it needs. You can close this tab.")
}

// page writes a page that needs nothing from anywhere else and is kept nowhere:
// its address holds the code.
func page(w nethttp.ResponseWriter, status int, title, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Connection", "close")
	w.WriteHeader(status)
	title, text = html.EscapeString(title), html.EscapeString(text)
	_, _ = fmt.Fprintf(w, pageText, title, title, text)
}

const pageText = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>%s - renewd</title>
<style>body{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem;color-scheme:light dark}</style>
<h1>%s</h1>
<p>%s</p>
</html>
`

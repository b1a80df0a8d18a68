package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	nethttp "net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"renewd/agent"
	"renewd/agent/source/life"
)

// Request is what is sent. Host in its Header stands for the request's Host.
type Request struct {
	Method  string
	URL     *url.URL
	Header  nethttp.Header // gets User-Agent where it has none
	Body    []byte         // nil: none
	Timeout time.Duration
	Clock   agent.Clock // of who counts from the Answer's instants; nil: the Transports'
}

// Answer is a whole answer of a server. Nothing in it is ever shown.
type Answer struct {
	Status int
	Header nethttp.Header
	Body   []byte // until Release
	read   *bytes.Buffer

	Sent, Received agent.Instant
	ServerNow      time.Time     // Date plus Age; zero where missing or not believed
	Skew           time.Duration // server's clock less ours, where HasSkew
	HasSkew        bool
	FarDate        bool // Date is further off than any clock that is merely wrong
}

// bodies has room for what is read of answers: a fleet reads thousands a second.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Release gives back what Body is in, which is nil from then on. It may be left
// undone.
func (a *Answer) Release() {
	if a.read != nil && a.read.Cap() <= 64<<10 {
		bodies.Put(a.read)
	}
	a.Body, a.read = nil, nil
}

// Do sends r and reads the whole answer, whatever its status. It follows
// redirects within the origin only. An error is an *agent.Error without a Step;
// its Unsent says that no byte of the request left this machine.
func (c *Client) Do(ctx context.Context, r *Request) (*Answer, error) {
	if err := c.CheckURL(r.URL); err != nil {
		return nil, &agent.Error{Kind: agent.Misconfigured, Detail: err.Error(), Unsent: true}
	}
	timeout := Timeout
	if r.Timeout > 0 && r.Timeout < timeout {
		timeout = r.Timeout
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= timeout {
		timeout = time.Until(end).Round(time.Millisecond) // ctx ends it; this is for the message
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var asked, wrote atomic.Bool // a RoundTripper that tells neither may have sent
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:          func(string) { asked.Store(true) },
		WroteHeaderField: func(string, []string) { wrote.Store(true) },
		WroteHeaders:     func() { wrote.Store(true) },
	})
	a := &Answer{}
	hop := *r
	clock := c.clock
	if r.Clock != nil {
		clock = r.Clock
	}
	if ctx.Err() != nil {
		return nil, failure(ctx.Err(), r.URL, timeout, true)
	}
	if hop.Header == nil {
		hop.Header = nethttp.Header{}
	}
	if hop.Header.Get("User-Agent") == "" {
		hop.Header["User-Agent"] = c.agent
	}
	a.Sent = clock()
	for hops := 0; ; hops++ {
		err := c.roundTrip(ctx, &hop, a, clock)
		if err != nil {
			return nil, failure(err, r.URL, timeout, asked.Load() && !wrote.Load())
		}
		next := redirect(a, &hop)
		if next == nil || hops == MaxRedirects {
			break
		}
		hop.URL = next
	}
	c.clocks(a, hop.URL)
	return a, nil
}

// CheckURL says why nothing may be sent to u.
func (c *Client) CheckURL(u *url.URL) error {
	switch {
	case u.Hostname() == "":
		return errors.New("the URL names no host; write https://HOST")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return fmt.Errorf("the URL's scheme must be https")
	case c.plaintext || Loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("http:// to %s would send credentials without encryption; use https://, or tls: {plaintext: true}", hostPort(u))
}

func (c *Client) roundTrip(ctx context.Context, r *Request, a *Answer, clock agent.Clock) error {
	resp, err := c.rt.RoundTrip(request(ctx, r))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	a.Received = clock()
	a.Status, a.Header = resp.StatusCode, resp.Header
	if headerSize(resp.Header) > MaxHeader {
		return errHeader
	}
	if resp.ContentLength > MaxBody {
		return errBody
	}
	// As much room as the body needs, and bytes.MinRead to see its end.
	a.Release()
	a.read = bodies.Get().(*bytes.Buffer)
	a.read.Reset()
	a.read.Grow(int(max(resp.ContentLength, 0)) + bytes.MinRead)
	if _, err := a.read.ReadFrom(io.LimitReader(resp.Body, MaxBody+1)); err != nil {
		return err
	}
	if a.Body = a.read.Bytes(); len(a.Body) > MaxBody {
		return errBody
	}
	return nil
}

// request is r as net/http wants it. NewRequest would write the URL only to read
// it again.
func request(ctx context.Context, r *Request) *nethttp.Request {
	req := (&nethttp.Request{Method: r.Method, URL: r.URL, Host: strings.TrimSuffix(r.URL.Host, ":"), Header: r.Header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	if host, ok := r.Header["Host"]; ok {
		req.Host, req.Header = host[0], maps.Clone(r.Header)
		delete(req.Header, "Host")
	}
	if len(r.Body) > 0 {
		req.ContentLength = int64(len(r.Body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.Body)), nil }
		req.Body, _ = req.GetBody()
	} else if r.Body != nil {
		req.Body = nethttp.NoBody // says Content-Length: 0
	}
	return req
}

// redirect gives where an answer sends us on to, nil where it is not followed:
// to another origin credentials never go, and only 307 and 308 say that a body
// is to be sent again (RFC 9110 §15.4).
func redirect(a *Answer, r *Request) *url.URL {
	switch a.Status {
	case 307, 308:
	case 301, 302, 303:
		if r.Body != nil || r.Method != "GET" && r.Method != "HEAD" {
			return nil
		}
	default:
		return nil
	}
	to, err := r.URL.Parse(a.Header.Get("Location"))
	if err != nil || a.Header.Get("Location") == "" || to.Scheme != r.URL.Scheme || !strings.EqualFold(hostPort(to), hostPort(r.URL)) {
		return nil
	}
	return to
}

// clocks reads what an answer says of the server's clock.
func (c *Client) clocks(a *Answer, u *url.URL) {
	date, err := nethttp.ParseTime(a.Header.Get("Date"))
	if err != nil {
		return
	}
	if age, err := strconv.ParseUint(a.Header.Get("Age"), 10, 31); err == nil {
		date = date.Add(time.Duration(age) * time.Second)
	}
	a.Skew, a.HasSkew, a.FarDate = life.Skew(a.Sent.Wall, a.Received.Wall, date)
	if a.HasSkew {
		a.ServerNow = date
		c.hosts.Host(u).observe(a.Skew)
	}
}

func headerSize(h nethttp.Header) int {
	n := 0
	for k, vs := range h {
		for _, v := range vs {
			n += len(k) + len(v) + 4
		}
	}
	return n
}

// Host is what is known of the origin of u.
func (c *Client) Host(u *url.URL) *Host { return c.hosts.Host(u) }

// IsHTML reports whether the answer is a page for people: a captive portal, a
// login form, a proxy's complaint.
func (a *Answer) IsHTML() bool {
	if strings.HasPrefix(strings.ToLower(a.Header.Get("Content-Type")), "text/html") {
		return true
	}
	head := bytes.TrimLeft(bytes.TrimPrefix(a.Body, []byte("\xef\xbb\xbf")), " \t\r\n")
	head = bytes.ToLower(head[:min(len(head), 32)])
	return bytes.HasPrefix(head, []byte("<!doctype html")) || bytes.HasPrefix(head, []byte("<html"))
}

// RetryAfter is what the answer asks us to wait (RFC 9110 §10.2.3), 0 where it
// does not; a date is read by the server's own clock.
func (a *Answer) RetryAfter() time.Duration {
	const most = 24 * time.Hour
	text := strings.TrimSpace(a.Header.Get("Retry-After"))
	if n, err := strconv.ParseFloat(text, 64); err == nil && n >= 0 {
		return time.Duration(min(n, most.Seconds()) * float64(time.Second))
	}
	at, err := nethttp.ParseTime(text)
	if err != nil {
		return 0
	}
	now := a.ServerNow
	if now.IsZero() {
		now = a.Received.Wall
	}
	return max(0, min(at.Sub(now), most))
}

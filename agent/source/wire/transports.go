package wire

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	nethttp "net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"renewd/agent"
	"renewd/agent/source/spec"
)

// Limits of what is sent and answered.
const (
	MaxBody      = 1 << 20
	MaxHeader    = 64 << 10
	MaxRedirects = 5
	Timeout      = 30 * time.Second
)

// Options make Transports; zero values mean the documented defaults.
type Options struct {
	Clock       agent.Clock          // nil: the wall clock for both readings
	Concurrency int                  // kept connections a host (8)
	RoundTrip   nethttp.RoundTripper // used for everything instead of the network, for tests
	UserAgent   string               // "renewd"
}

// Transports are the kept connections of all sources, one pool a TLS and proxy
// setting, and what is known of the hosts behind them.
type Transports struct {
	opt   Options
	mu    sync.Mutex
	pools map[[32]byte]*Client
	hosts map[string]*Host   // by origin
	named map[hostName]*Host // the same, by how URLs write them
}

// hostName is a host as a URL writes it: with or without its default port.
type hostName struct{ scheme, host string }

// NewTransports returns Transports without a connection.
func NewTransports(o Options) *Transports {
	if o.Clock == nil {
		start := time.Now()
		o.Clock = func() agent.Instant { n := time.Now(); return agent.Instant{Wall: n, Boot: n.Sub(start)} }
	}
	if o.Concurrency == 0 {
		o.Concurrency = 8
	}
	if o.UserAgent == "" {
		o.UserAgent = "renewd"
	}
	return &Transports{opt: o, pools: map[[32]byte]*Client{}, hosts: map[string]*Host{}, named: map[hostName]*Host{}}
}

// Settings choose a pool.
type Settings struct {
	TLS     TLS
	Proxy   string // URL; "" or "none": direct
	NoProxy []string
}

// Client sends requests with one setting.
type Client struct {
	rt        nethttp.RoundTripper
	clock     agent.Clock
	agent     []string // of the header
	plaintext bool
	hosts     *Transports
}

// Client gives the Client for s, the same one for equal settings whose files
// hold the same. Paths in the problems are those of the keys tls and proxy.
func (t *Transports) Client(s Settings) (*Client, spec.Problems) {
	loaded, problems := load(s)
	if problems.Fatal() {
		return nil, problems
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.pools[loaded.key]
	if c == nil {
		c = &Client{rt: t.opt.RoundTrip, clock: t.opt.Clock, agent: []string{t.opt.UserAgent},
			plaintext: isTrue(s.TLS.Plaintext), hosts: t}
		if c.rt == nil {
			c.rt = t.transport(loaded)
		}
		t.pools[loaded.key] = c
	}
	return c, problems
}

// CloseIdle closes the connections that nobody uses.
func (t *Transports) CloseIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.pools {
		if tr, ok := c.rt.(*nethttp.Transport); ok {
			tr.CloseIdleConnections()
		}
	}
}

func (t *Transports) transport(l loaded) *nethttp.Transport {
	dial := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &nethttp.Transport{
		Proxy:                  l.proxy, // never the environment's
		DialContext:            dial.DialContext,
		TLSClientConfig:        l.tls,
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           512,
		MaxIdleConnsPerHost:    t.opt.Concurrency,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: MaxHeader,
	}
}

// Host is what is known of one origin, shared by all tokens there.
type Host struct {
	Origin string   // scheme://host:port
	Names  []string // host:port, as a list to share

	skew atomic.Int64 // server's clock less ours, in ns
	seen atomic.Bool
}

// Skew is the server's clock less ours, as last seen; ok is false before.
func (h *Host) Skew() (time.Duration, bool) {
	return time.Duration(h.skew.Load()), h.seen.Load()
}

func (h *Host) observe(skew time.Duration) {
	h.skew.Store(int64(skew))
	h.seen.Store(true)
}

// Host gives the record of the origin of u.
func (t *Transports) Host(u *url.URL) *Host {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.named[hostName{u.Scheme, u.Host}]; h != nil {
		return h
	}
	name := hostPort(u)
	origin := u.Scheme + "://" + name
	h := t.hosts[origin]
	if h == nil {
		h = &Host{Origin: origin, Names: []string{name}}
		t.hosts[origin] = h
	}
	t.named[hostName{u.Scheme, u.Host}] = h
	return h
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// loaded is a Settings with its files read.
type loaded struct {
	key   [32]byte
	tls   *tls.Config
	proxy func(*nethttp.Request) (*url.URL, error)
}

func load(s Settings) (loaded, spec.Problems) {
	var p spec.Problems
	var l loaded
	var ca []byte
	l.tls, ca = s.TLS.config(&p)
	l.proxy = proxyFunc(s.Proxy, s.NoProxy, &p)
	if s.TLS.CertFile != "" {
		// Read at each handshake, so that a renewed certificate needs no reload.
		cert, key := string(s.TLS.CertFile), string(s.TLS.KeyFile)
		l.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(cert, key)
			return &c, err
		}
	}
	plain, err := json.Marshal(s)
	if err != nil {
		p.Add("tls", "%s", fmt.Sprintf("read the settings: %v", err))
	}
	sum := sha256.New()
	sum.Write(plain)
	sum.Write(ca)
	l.key = [32]byte(sum.Sum(nil))
	return l, p
}

func readFile(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, unwrapPath(err))
	}
	return b, nil
}

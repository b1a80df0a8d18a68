// Package socket serves tokens to the programs of this machine: HTTP/1.1 on a
// Unix socket or a named pipe, each call judged by who is at the other end.
//
// A [Server] accepts by itself. What nearly every client sends, a plain GET of
// one token, it answers from bytes laid out once per publication (fast.go). All
// else goes, with every byte read so far, to net/http (handoff.go, api.go).
package socket

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"renewd/agent"
	"renewd/platform/account"
	"renewd/platform/ipc"
	"renewd/sink"
)

const (
	headTimeout  = 5 * time.Second  // for a request's head
	writeTimeout = 10 * time.Second // for each write to a client that does not read
	idleTimeout  = 5 * time.Minute  // of a connection that net/http keeps
	lastCall     = time.Second      // for a new connection's first request when the Server closes
	maxBody      = 4 << 10
	maxHead      = 16 << 10
)

// Managers are who may do everything. Root and the process's own user always are,
// on Windows SYSTEM and elevated administrators.
type Managers struct {
	UIDs, GIDs []uint32
	SIDs       []string // Windows
}

// Limits bound what clients may hold. Zero values mean the documented defaults.
type Limits struct {
	Conns   int // connections at once: 4096
	PerUser int // of one user that is no manager: 1024
	Reserve int // of Conns, kept for managers: 64
}

// Options configure a Server. Agent and Log are required.
type Options struct {
	Agent    *agent.Agent
	Log      *slog.Logger
	Managers Managers
	Limits   Limits
	Version  string

	// Reload reads the config again; its error says what is wrong with it. An
	// error that unwraps to several is shown as a list. again: the agent ends, and
	// another process is started that runs the config. Nil: there is no config.
	Reload func(context.Context) (again bool, err error)
	// ConfigError says why the config as it is now was not applied, "" when it
	// was. Nil: "".
	ConfigError func() string
	// About says what managers are told of the agent beside its tokens. Nil:
	// nothing.
	About func() About
	// Peer says who is at the other end; nil: ipc.PeerOf.
	Peer func(net.Conn) (ipc.Peer, error)

	plain bool // set by tests: net/http answers everything
}

// About is what status says of the agent itself.
type About struct {
	Config   string   `json:"config,omitempty"`   // path of the config
	State    string   `json:"state,omitempty"`    // what seals the state
	Process  string   `json:"process,omitempty"`  // what it has given up
	Warnings []string `json:"warnings,omitempty"` // of the config
}

// Server answers clients.
type Server struct {
	o       Options
	audit   atomic.Bool
	conns   conns
	handed  *handoff
	http    *http.Server
	base    context.Context
	end     context.CancelFunc
	epoch   string // tells event IDs of this process from those of an earlier one
	formats map[string]*sink.Format
	date    atomic.Pointer[dateLine]

	mu        sync.Mutex
	listeners []net.Listener
	closed    bool
	running   sync.WaitGroup
	accepting sync.WaitGroup
	greeting  sync.WaitGroup // connections whose first request is not being answered yet
}

// New returns a Server that Serve starts.
func New(o Options) (*Server, error) {
	if o.Peer == nil {
		o.Peer = ipc.PeerOf
	}
	if o.ConfigError == nil {
		o.ConfigError = func() string { return "" }
	}
	o.Managers.UIDs = slices.Clone(o.Managers.UIDs)
	me, err := ipc.Self()
	if err != nil {
		return nil, err
	}
	o.Managers.UIDs = append(o.Managers.UIDs, 0, me.UID)
	o.Managers.SIDs = append(slices.Clone(o.Managers.SIDs), me.SID, account.System, account.Administrators)
	s := &Server{o: o, handed: newHandoff(), epoch: epoch(), formats: map[string]*sink.Format{}}
	for _, name := range socketFormats() {
		f, err := sink.New(sink.Options{Format: name})
		if err != nil {
			return nil, err
		}
		s.formats[name] = f
	}
	s.conns.limit(o.Limits)
	s.base, s.end = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHead,
		BaseContext:       func(net.Listener) context.Context { return s.base },
		ConnContext:       withConn,
		ConnState:         noteState,
		ErrorLog:          log.New(io.Discard, "", 0), // what clients do wrong is theirs to log
	}
	s.running.Go(func() { _ = s.http.Serve(s.handed) })
	return s, nil
}

// Audit turns the line per read in the log on or off.
func (s *Server) Audit(on bool) { s.audit.Store(on) }

// Serve accepts from l until l or the Server is closed. It may run for several
// listeners at once.
func (s *Server) Serve(l net.Listener) error { return s.serve(l, s.greet) }

// ServeUnknown is Serve for clients that nobody can name: whoever l lets in reads
// the tokens that name no readers, and may do nothing that a manager may.
func (s *Server) ServeUnknown(l net.Listener) error { return s.serve(l, s.greetUnknown) }

func (s *Server) serve(l net.Listener, greet func(net.Conn)) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return http.ErrServerClosed
	}
	s.listeners = append(s.listeners, l)
	s.accepting.Add(1)
	defer s.accepting.Done()
	s.mu.Unlock()
	wait := time.Duration(0)
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
			s.greeting.Go(func() { greet(c) })
			continue
		case s.base.Err() != nil:
			return http.ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return err
		}
		// Mostly no descriptor is left: make room and try again.
		if v := s.conns.longestIdle(); v != nil {
			v.Close()
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(wait):
		case <-s.base.Done():
			return http.ErrServerClosed
		}
	}
}

// Close stops accepting, ends long polls and events, and waits for answers under
// way until ctx ends. Who has just connected is still answered.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	listeners := s.listeners
	s.listeners = nil
	s.mu.Unlock()
	s.end()
	var err error
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	s.accepting.Wait()
	s.lastCalls()
	if serr := s.http.Shutdown(ctx); serr != nil {
		err = errors.Join(err, serr, s.http.Close())
	}
	s.greeting.Wait()
	s.running.Wait()
	return err
}

// lastCalls gives new connections a moment to say what they came for: net/http
// drops, once it shuts down, the request that it has just read.
func (s *Server) lastCalls() {
	s.conns.hearOut()
	done := make(chan struct{})
	go func() {
		s.greeting.Wait()
		close(done)
	}()
	moment := time.NewTimer(lastCall)
	defer moment.Stop()
	select {
	case <-done:
	case <-moment.C:
		s.conns.closeUnhanded()
	}
}

// greet finds out who connected and serves until the connection ends or goes to
// net/http.
func (s *Server) greet(nc net.Conn) {
	peer, err := s.o.Peer(nc)
	if err != nil {
		s.o.Log.Debug("peer not known", agent.KeyError, err)
		peer = ipc.Peer{} // nobody
	}
	s.admit(&conn{Conn: nc, server: s, peer: peer, id: peer.String(), manager: s.o.Managers.include(peer)})
}

func (s *Server) greetUnknown(nc net.Conn) {
	s.admit(&conn{Conn: nc, server: s, id: "unknown, by the Unix socket", unknown: true})
}

// admit serves a client if there is room for it.
func (s *Server) admit(c *conn) {
	c.idle(s.o.Agent.Now().Boot)
	victim, ok := s.conns.admit(c)
	if victim != nil {
		victim.Close()
	}
	if !ok {
		refuse(c.Conn)
		return
	}
	if s.o.plain {
		s.handOver(c, nil, time.Now().Add(headTimeout))
		return
	}
	s.serveFast(c)
}

// refuse says why and hangs up; the answer fits in the socket's buffer.
func refuse(nc net.Conn) {
	const body = `{"type":"urn:renewd:problem:busy","title":"Service Unavailable","status":503,"detail":"too many connections"}` + "\n"
	_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(nc, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"+
		"Retry-After: 1\r\nConnection: close\r\n\r\n"+body)
	_ = nc.Close()
}

func (m *Managers) include(p ipc.Peer) bool {
	return slices.ContainsFunc(m.UIDs, p.IsUser) || slices.ContainsFunc(m.GIDs, p.InGroup) || slices.ContainsFunc(m.SIDs, p.HasSID)
}

// mayRead judges by the token's allow list; nil allows nobody but whom a listener
// lets in that cannot name them.
func (c *conn) mayRead(a *agent.Access) bool {
	if c.manager || c.unknown {
		return c.manager || a == nil
	}
	return a != nil && (slices.ContainsFunc(a.UIDs, c.peer.IsUser) || slices.ContainsFunc(a.GIDs, c.peer.InGroup) ||
		slices.ContainsFunc(a.SIDs, c.peer.HasSID))
}

package socket

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// handoff is the listener that net/http accepts from: connections whose first
// bytes the fast path has read and does not answer itself.
type handoff struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoff() *handoff { return &handoff{conns: make(chan net.Conn), done: make(chan struct{})} }

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handoff) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// handOver gives c to net/http with the bytes read so far. The time for the first
// head goes on running.
func (s *Server) handOver(c *conn, read []byte, headBy time.Time) {
	c.head, c.headBy = append([]byte(nil), read...), headBy
	c.handed.Store(true)
	s.greeting.Add(1)
	select {
	case s.handed.conns <- c:
	case <-s.handed.done:
		c.greeted()
		c.Close()
	}
}

// greeted says that a connection that was handed over is answered by now, or gone.
func (c *conn) greeted() { c.greetOnce.Do(c.server.greeting.Done) }

// Read gives the bytes that were read before the handover first.
func (c *conn) Read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		if c.head = c.head[n:]; len(c.head) == 0 {
			c.head = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// SetReadDeadline keeps net/http from granting the first head more time than is
// left of it.
func (c *conn) SetReadDeadline(t time.Time) error {
	if !c.headBy.IsZero() {
		if t.IsZero() { // the head is whole
			c.headBy = time.Time{}
		} else if t.After(c.headBy) {
			t = c.headBy
		}
	}
	return c.Conn.SetReadDeadline(t)
}

type connKey struct{}

func withConn(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, nc)
}

func connOf(r *http.Request) *conn { return r.Context().Value(connKey{}).(*conn) }

// noteState keeps book of who is idle.
func noteState(nc net.Conn, state http.ConnState) {
	c := nc.(*conn)
	switch state {
	case http.StateActive:
		c.busy()
	case http.StateIdle, http.StateNew:
		c.idle(c.server.o.Agent.Now().Boot)
	case http.StateClosed:
		c.greeted()
	}
}

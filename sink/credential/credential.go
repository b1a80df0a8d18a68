// Package credential serves tokens to the service manager, which gives them to
// other units as credentials: with
//
//	LoadCredential=commander:/run/renewd/credentials.sock
//
// in a unit, systemd connects when it starts that unit, reads to the end and puts
// what it read into the unit's $CREDENTIALS_DIRECTORY (systemd.exec(5)). The token
// is never in a file that outlives the unit.
//
// systemd says for whom it asks by the address that it binds its own end to:
// an abstract one that ends in /unit/UNIT/CREDENTIAL. Anyone may bind such an
// address, so it is believed only from root and, by a user's own agent, from that
// user, whose service manager asks.
package credential

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"renewd/agent"
	"renewd/platform/ipc"
	"renewd/sink"
)

const (
	// longestWait is how long a unit may wait for a token that is not there yet;
	// its own TimeoutStartSec= ends before that unless an admin raised it.
	longestWait = 10 * time.Minute
	lookEvery   = 2 * time.Second // whether the unit still waits
	sendTime    = 10 * time.Second
	most        = 256 // connections at once; a machine starts fewer units at once
)

const msgGiven = "credential given"

// Options configure a Server; Agent and Log are required.
type Options struct {
	Agent *agent.Agent
	Log   *slog.Logger
	Peer  func(net.Conn) (ipc.Peer, error) // nil: ipc.PeerOf

	// Machine says that the agent is the machine's: root alone asks it, and what
	// else runs as the agent's user is not believed.
	Machine bool
}

// Server answers the service manager.
type Server struct {
	o       Options
	me      ipc.Peer
	formats map[string]*sink.Format
	slots   chan struct{}
	base    context.Context
	end     context.CancelFunc
	running sync.WaitGroup
}

// New returns a Server that Serve starts.
func New(o Options) (*Server, error) {
	if o.Peer == nil {
		o.Peer = ipc.PeerOf
	}
	me, err := ipc.Self()
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, me: me, formats: map[string]*sink.Format{}, slots: make(chan struct{}, most)}
	for _, name := range []string{"raw", "header", "json", "env", "curl"} {
		if s.formats[name], err = sink.New(sink.Options{Format: name}); err != nil {
			return nil, err
		}
	}
	s.base, s.end = context.WithCancel(context.Background())
	return s, nil
}

// Serve accepts until l is closed.
func (s *Server) Serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed), s.base.Err() != nil:
			return net.ErrClosed
		case err != nil: // no descriptor is left
			select {
			case <-time.After(time.Second):
			case <-s.base.Done():
			}
			continue
		}
		// Who is told nothing starts without its token: one too many waits.
		select {
		case s.slots <- struct{}{}:
		case <-s.base.Done():
			_ = c.Close()
			return net.ErrClosed
		}
		s.running.Go(func() {
			defer func() { <-s.slots }()
			defer c.Close()
			s.answer(c)
		})
	}
}

// Close ends what waits for a token, and returns when all connections are closed.
// The listener is its owner's to close first.
func (s *Server) Close() {
	s.end()
	s.running.Wait()
}

// answer gives one credential. What is wrong with a request is told in the log:
// systemd shows nothing of an answer but its end.
func (s *Server) answer(c net.Conn) {
	peer, err := s.o.Peer(c)
	if err != nil || !peer.IsUser(0) && (s.o.Machine || !peer.IsUser(s.me.UID)) {
		s.o.Log.Warn("credential refused", "peer", peer.String(), agent.KeyHint, "only the service manager is given any; others read the token on the agent's socket")
		return
	}
	unit, id, ok := asked(c.RemoteAddr())
	if !ok {
		s.o.Log.Warn("credential refused", "peer", peer.String(), agent.KeyError, "it did not say for which unit it asks",
			agent.KeyHint, "this socket is for LoadCredential=NAME:PATH in a unit")
		return
	}
	ctx, cancel := context.WithTimeout(s.base, longestWait)
	defer cancel()
	s.running.Go(func() { whileThere(ctx, c, cancel) })
	t, format, p, err := s.await(ctx, id)
	if err != nil {
		s.o.Log.Error("credential refused", "unit", unit, "credential", id, agent.KeyError, err,
			agent.KeyHint, "write LoadCredential=TOKEN:PATH, or TOKEN.FORMAT; renewd status lists the tokens")
		return
	}
	if p == nil {
		t.CountRead(agent.ReadNotValid)
		s.o.Log.Error("credential not given: there is no valid token", "unit", unit, agent.KeyToken, t.Name())
		return
	}
	text, err := format.Render(p)
	if err == nil {
		_ = c.SetWriteDeadline(time.Now().Add(sendTime))
		_, err = c.Write(text)
	}
	if err != nil {
		s.o.Log.Error("credential not given", "unit", unit, agent.KeyToken, t.Name(), agent.KeyError, err)
		return
	}
	t.CountRead(agent.ReadOK)
	s.o.Log.Info(msgGiven, "unit", unit, agent.KeyToken, t.Name(), agent.KeyGeneration, p.Generation)
}

// whileThere calls gone once nobody reads from c any more: a unit whose start was
// given up. That its other half is closed means nothing, systemd begins with that,
// but to write nothing fails then.
func whileThere(ctx context.Context, c net.Conn, gone func()) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if _, err := c.Write(nil); err != nil {
				gone()
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// asked reads the unit and the credential's name from the address that systemd
// binds its end of the connection to.
func asked(a net.Addr) (unit, id string, ok bool) {
	u, isUnix := a.(*net.UnixAddr)
	if !isUnix {
		return "", "", false
	}
	rest, abstract := strings.CutPrefix(u.Name, "@")
	parts := strings.Split(rest, "/")
	if !abstract || len(parts) != 4 || parts[1] != "unit" || parts[2] == "" || parts[3] == "" {
		return "", "", false
	}
	return parts[2], parts[3], true
}

// find reads a credential's name as a token's, or as TOKEN.FORMAT.
func (s *Server) find(id string) (agent.Token, *sink.Format, error) {
	if t, ok := s.o.Agent.Token(id); ok {
		return t, s.formats["raw"], nil
	}
	if i := strings.LastIndexByte(id, '.'); i > 0 {
		format := s.formats[id[i+1:]]
		if t, ok := s.o.Agent.Token(id[:i]); ok && format != nil {
			return t, format, nil
		}
	}
	return agent.Token{}, nil, fmt.Errorf("there is no token %q", id)
}

// await waits for the valid token that id names, nil where none came: a unit that
// starts before its token is there shall wait, not start without.
func (s *Server) await(ctx context.Context, id string) (agent.Token, *sink.Format, *agent.Publication, error) {
	for {
		t, format, err := s.find(id)
		if err != nil {
			return t, nil, nil, err
		}
		if p := t.AwaitValid(ctx); p != nil || ctx.Err() != nil {
			return t, format, p, nil
		}
		// It has left the config; another of its name may have come.
	}
}

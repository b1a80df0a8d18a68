package socket

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"renewd/platform/ipc"
)

// conn is one client's connection, whoever serves it.
type conn struct {
	net.Conn
	server  *Server
	peer    ipc.Peer
	id      string // of the peer, for budgets and logs
	manager bool
	unknown bool // the listener cannot say who it is

	idleSince atomic.Int64 // boot clock; 0: a request is being answered
	handed    atomic.Bool  // net/http has it
	served    atomic.Bool  // a request was answered before that

	head      []byte    // read before the handover, for net/http to read again
	headBy    time.Time // when the first head must be whole
	writeBy   time.Time // write deadline that is set
	stuck     bool      // a write failed: net/http would try its last words again
	closeOnce sync.Once
	greetOnce sync.Once
}

func (c *conn) idle(now time.Duration) { c.idleSince.Store(max(1, int64(now))) }
func (c *conn) busy()                  { c.idleSince.Store(0) }

// Close also makes room for the next client.
func (c *conn) Close() (err error) {
	c.closeOnce.Do(func() {
		c.server.conns.forget(c)
		err = c.Conn.Close()
	})
	return err
}

// Write gives up, for good, on a client that does not read. The deadline is moved
// only when half of it has passed: moving it costs more than most writes.
func (c *conn) Write(b []byte) (int, error) {
	if c.stuck {
		return 0, os.ErrDeadlineExceeded
	}
	if now := time.Now(); c.writeBy.Sub(now) < writeTimeout/2 {
		c.writeBy = now.Add(writeTimeout)
		if err := c.Conn.SetWriteDeadline(c.writeBy); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Write(b)
	c.stuck = err != nil
	return n, err
}

// CloseWrite lets net/http say goodbye before it closes on unread bytes.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// conns knows all connections and keeps them within their limits.
type conns struct {
	max, perUser, reserve int

	mu     sync.Mutex
	users  map[string]map[*conn]struct{}
	all    int
	others int // of all, those that are no manager's
}

func (t *conns) limit(l Limits) {
	t.max, t.perUser, t.reserve = 4096, 1024, 64
	if l.Conns > 0 {
		t.max = l.Conns
	}
	if l.PerUser > 0 {
		t.perUser = l.PerUser
	}
	if l.Reserve > 0 {
		t.reserve = l.Reserve
	}
	t.reserve = min(t.reserve, t.max/2)
	t.users = map[string]map[*conn]struct{}{}
}

// admit makes room for c, by closing who has been idle longest where it must: of
// the same user at that user's limit, else of those that are no managers. Where
// all are busy c is turned away.
func (t *conns) admit(c *conn) (victim *conn, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !c.manager && len(t.users[c.id]) >= t.perUser:
		victim = oldest(t.users[c.id], nil)
	case !c.manager && t.others >= t.max-t.reserve:
		victim = t.oldestOther()
	case t.all >= t.max:
		if victim = t.oldestOther(); victim == nil && c.manager {
			for _, u := range t.users {
				victim = oldest(u, victim)
			}
		}
	default:
		t.add(c)
		return nil, true
	}
	if victim == nil {
		return nil, false
	}
	t.remove(victim)
	t.add(c)
	return victim, true
}

func (t *conns) oldestOther() (found *conn) {
	for _, u := range t.users {
		for c := range u {
			if c.manager {
				break // so are all of this user's
			}
			found = oldest(u, found)
			break
		}
	}
	return found
}

// oldest finds who has been idle longest; those that are busy are spared.
func oldest(of map[*conn]struct{}, found *conn) *conn {
	for c := range of {
		since := c.idleSince.Load()
		if since == 0 {
			continue
		}
		if found == nil || since < found.idleSince.Load() {
			found = c
		}
	}
	return found
}

func (t *conns) longestIdle() *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.oldestOther()
}

func (t *conns) add(c *conn) {
	u := t.users[c.id]
	if u == nil {
		u = map[*conn]struct{}{}
		t.users[c.id] = u
	}
	u[c] = struct{}{}
	t.all++
	if !c.manager {
		t.others++
	}
}

func (t *conns) remove(c *conn) {
	u := t.users[c.id]
	if _, there := u[c]; !there {
		return
	}
	if delete(u, c); len(u) == 0 {
		delete(t.users, c.id)
	}
	t.all--
	if !c.manager {
		t.others--
	}
}

func (t *conns) forget(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(c)
}

// hearOut lets connections that were answered before have an answer to what they
// have sent, and to nothing more.
func (t *conns) hearOut() {
	for _, c := range t.unhanded() {
		if c.served.Load() {
			c.closeRead()
		}
	}
}

// closeUnhanded closes the connections that net/http does not have.
func (t *conns) closeUnhanded() {
	for _, c := range t.unhanded() {
		c.Close()
	}
}

func (t *conns) unhanded() (list []*conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, u := range t.users {
		for c := range u {
			if !c.handed.Load() {
				list = append(list, c)
			}
		}
	}
	return list
}

// closeRead takes no more from the client. What it has sent can still be read on
// Linux; elsewhere it is lost, as by Close.
func (c *conn) closeRead() {
	if r, ok := c.Conn.(interface{ CloseRead() error }); ok {
		_ = r.CloseRead()
		return
	}
	c.Close()
}

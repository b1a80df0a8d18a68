package socket

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"renewd/agent"
)

// maxFastHead is the longest head that the fast path takes.
const maxFastHead = 4 << 10

const (
	fastStart = "GET /v1/tokens/"
	dateForm  = "Mon, 02 Jan 2006 15:04:05 GMT"
)

// serveFast answers plain reads of one token as long as nothing else comes, and
// hands over what does. A whole head that arrives at once costs no timer.
func (s *Server) serveFast(c *conn) {
	f := fast{conn: c, buf: make([]byte, 1<<10)}
	_ = c.Conn.SetReadDeadline(time.Now().Add(headTimeout)) // a client says what it came for
	f.timed = true
	f.headBy = time.Now().Add(headTimeout)
	for {
		end := bytes.Index(f.buf[:f.n], []byte("\r\n\r\n"))
		switch {
		case end >= 0 && f.answer(f.buf[:end+4]):
			f.n = copy(f.buf, f.buf[end+4:f.n])
			if s.base.Err() != nil { // hearOut may have missed it
				c.closeRead()
			}
			continue
		case end >= 0, f.n >= maxFastHead, !f.plausible(), !f.fill():
			// Half a head is net/http's to judge, but between two requests it does
			// not look at less than four bytes.
			if f.n == 0 || c.served.Load() && f.n < 4 {
				c.Close()
				return
			}
			s.handOver(c, f.buf[:f.n], f.headBy)
			return
		}
	}
}

// fast is one connection while the fast path has it.
type fast struct {
	*conn
	buf    []byte
	n      int       // bytes of buf that were read
	timed  bool      // a read deadline is set
	headBy time.Time // the deadline of a head that has begun
	out    []byte
}

// fill reads more. A connection may be idle for ever between two heads; a head
// that has begun must end in time.
func (f *fast) fill() bool {
	if f.n == len(f.buf) {
		f.buf = append(f.buf, make([]byte, maxFastHead-len(f.buf))...)
	}
	switch {
	case f.n > 0 && f.headBy.IsZero():
		f.headBy, f.timed = time.Now().Add(headTimeout), true
		_ = f.Conn.SetReadDeadline(f.headBy)
	case f.n == 0 && f.timed && f.headBy.IsZero():
		f.timed = false
		_ = f.Conn.SetReadDeadline(time.Time{})
	}
	n, err := f.Conn.Read(f.buf[f.n:])
	f.n += n
	return n > 0 || err == nil
}

// plausible reports whether more bytes may yet make a plain read of what is there.
func (f *fast) plausible() bool {
	n := min(f.n, len(fastStart))
	return string(f.buf[:n]) == fastStart[:n] || f.served.Load() && n < 4
}

// answer writes the answer to a plain read of a valid token; false leaves the
// request untouched for net/http.
func (f *fast) answer(head []byte) bool {
	name, ok := parsePlain(head)
	if !ok {
		return false
	}
	s := f.server
	now := s.o.Agent.Now() // first: reading a clock waits for all reads of memory before it
	t, ok := s.o.Agent.TokenOf(name)
	if !ok || !f.mayRead(t.Access()) {
		return false
	}
	p := t.Current()
	if p == nil {
		return false
	}
	if p.Remaining(now) <= 0 {
		return false
	}
	var answer []byte
	if f.out, answer = s.layOut(f.out, p, now.Wall); len(answer) == 0 {
		return false
	}
	f.idle(now.Boot)
	f.headBy = time.Time{}
	if !f.served.Load() {
		f.served.Store(true)
	}
	if _, err := f.conn.Write(answer); err != nil {
		_ = f.Conn.Close() // the next read ends the loop
	}
	if cap(f.out) > 8<<10 {
		f.out = nil // an idle connection keeps little
	}
	t.CountRead(agent.ReadOK)
	s.logRead(f.conn, p)
	return true
}

// headRoom is more than the head of an answer takes: 20 digits for each number.
const headRoom = 256

// layOut writes the whole answer into room, growing it where it must; an empty
// answer leaves it to net/http to say what is wrong. The head is written last,
// since it tells how long the body is, and ends where the body begins.
func (s *Server) layOut(room []byte, p *agent.Publication, now time.Time) (grown, answer []byte) {
	room, err := s.formats["json"].Append(slices.Grow(room[:0], headRoom)[:headRoom], p)
	if err != nil {
		return room, nil
	}
	var scratch [headRoom]byte
	head := append(scratch[:0], "HTTP/1.1 200 OK\r\nDate: "...)
	head = append(head, s.dateOf(now)...)
	head = append(head, "\r\nCache-Control: no-store\r\nContent-Length: "...)
	head = strconv.AppendInt(head, int64(len(room)-headRoom), 10)
	head = append(head, "\r\nContent-Type: application/json\r\nEtag: \""...)
	head = strconv.AppendUint(head, p.Generation, 10)
	head = append(head, '.')
	head = strconv.AppendUint(head, p.Revision, 10)
	head = append(head, "-json\"\r\n\r\n"...)
	from := headRoom - len(head)
	copy(room[from:], head)
	return room, room[from:]
}

// tokenHeader is the head of every answer that holds a token; layOut writes the
// same.
func (s *Server) tokenHeader(h http.Header, p *agent.Publication, format string, length int) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", s.formats[format].ContentType())
	h.Set("ETag", etag(p, format))
	h.Set("Content-Length", fmt.Sprint(length))
}

func etag(p *agent.Publication, format string) string {
	return fmt.Sprintf(`"%d.%d-%s"`, p.Generation, p.Revision, format)
}

// dateLine is the date of one second, which many answers share.
type dateLine struct {
	second int64
	text   []byte
}

func (s *Server) dateOf(wall time.Time) []byte {
	second := wall.Unix()
	if d := s.date.Load(); d != nil && d.second == second {
		return d.text
	}
	d := &dateLine{second, []byte(wall.UTC().Format(dateForm))}
	s.date.Store(d)
	return d.text
}

// parsePlain takes a head apart that asks for a token as JSON and nothing more.
// What it does not know it leaves to net/http, so a header that could change the
// answer never meets it.
func parsePlain(head []byte) (name []byte, ok bool) {
	line, rest, ok := bytes.Cut(head, []byte("\r\n"))
	if !ok || !bytes.HasPrefix(line, []byte(fastStart)) {
		return nil, false
	}
	name, found := bytes.CutSuffix(line[len(fastStart):], []byte(" HTTP/1.1"))
	if !found || !plainName(name) {
		return nil, false
	}
	host := false
	for {
		line, rest, ok = bytes.Cut(rest, []byte("\r\n"))
		if !ok {
			return nil, false
		}
		if len(line) == 0 {
			return name, host && len(rest) == 0
		}
		key, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !plainValue(value) {
			return nil, false
		}
		switch {
		case bytes.EqualFold(key, []byte("Host")):
			if host || !plainHost(value) {
				return nil, false
			}
			host = true
		case bytes.EqualFold(key, []byte("User-Agent")), bytes.EqualFold(key, []byte("Accept")),
			bytes.EqualFold(key, []byte("Accept-Encoding")), bytes.EqualFold(key, []byte("Accept-Language")):
		case bytes.EqualFold(key, []byte("Connection")):
			if !bytes.EqualFold(bytes.TrimSpace(value), []byte("keep-alive")) {
				return nil, false
			}
		default:
			return nil, false
		}
	}
}

// plainName reports whether b is a token's name.
func plainName(b []byte) bool {
	if len(b) == 0 || len(b) > 64 {
		return false
	}
	for i, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

func plainValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// plainHost knows names and numbers; net/http judges all else.
func plainHost(b []byte) bool {
	b = bytes.TrimSpace(b)
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == ':':
		default:
			return false
		}
	}
	return len(b) > 0
}

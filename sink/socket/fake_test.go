package socket

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"renewd/agent"
	"renewd/platform/ipc"
)

// memory is a Store that forgets at the end of the test.
type memory struct {
	mu   sync.Mutex
	data map[string]map[string][]byte
}

func (m *memory) Load(bucket string, f func(string, []byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.data[bucket] {
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Get(bucket, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data[bucket][key], nil
}

func (m *memory) Save(_ context.Context, changes ...agent.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes {
		if m.data[c.Bucket] == nil {
			m.data[c.Bucket] = map[string][]byte{}
		}
		m.data[c.Bucket][c.Key] = c.Value
		if c.Value == nil {
			delete(m.data[c.Bucket], c.Key)
		}
	}
	return nil
}

// source logs in at once unless it is told to fail or to wait.
type source struct {
	life  time.Duration
	pad   int // length of the token
	fail  atomic.Pointer[agent.Error]
	gate  chan struct{} // a login takes one from it; nil: none is needed
	count atomic.Int64
	clock *skipper // the world's

	present *agent.Presentation
}

func (s *source) Traits() *agent.Traits {
	return &agent.Traits{Type: "fake", Fingerprint: "fake", Presentation: s.present}
}

func (s *source) Prepare(context.Context, agent.Step, agent.Session) (*agent.Attempt, error) {
	each := agent.Credential{Origin: "fake", Principal: fmt.Sprintf("%p", s)} // budgets are of credentials
	return &agent.Attempt{Credential: each, Send: func(ctx context.Context) (*agent.Grant, error) {
		if s.gate != nil {
			select {
			case <-s.gate:
			case <-ctx.Done():
			}
		}
		if e := s.fail.Load(); e != nil {
			return nil, e
		}
		tok := fmt.Sprintf("token-%d-", s.count.Add(1))
		tok += strings.Repeat("x", max(0, s.pad-len(tok)))
		return &agent.Grant{Sent: s.clock.now(), Token: agent.NewSecret(tok), Life: s.life}, nil
	}}, nil
}

// skipper moves an agent's clocks ahead.
type skipper struct {
	by   atomic.Int64 // both clocks
	step atomic.Int64 // the wall clock alone
}

func (k *skipper) now() agent.Instant {
	n := now()
	d := time.Duration(k.by.Load())
	return agent.Instant{Wall: n.Wall.Add(d + time.Duration(k.step.Load())), Boot: n.Boot + d}
}

// now is a clock that does not start at 0, which stands for "unset".
func now() agent.Instant {
	t := time.Now()
	return agent.Instant{Wall: t, Boot: time.Duration(t.UnixNano())}
}

// world is one server with its agent and a directory to dial in.
type world struct {
	t      testing.TB
	agent  *agent.Agent
	server *Server
	path   string
	clock  *skipper
	peer   atomic.Pointer[ipc.Peer] // who dials next; nil: the truth
	log    lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t testing.TB, change func(*Options), specs ...*agent.Spec) *world {
	t.Helper()
	w := &world{t: t, clock: &skipper{}}
	log := slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	var err error
	w.agent, err = agent.New(agent.Options{Store: &memory{data: map[string]map[string][]byte{}}, Clock: w.clock.now, BootID: "b", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		s.Source.(*source).clock = w.clock
	}
	if err := w.agent.Apply(specs, nil); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { _ = w.agent.Run(ctx) })
	o := Options{Agent: w.agent, Log: log, Version: "1.2.3", Peer: func(c net.Conn) (ipc.Peer, error) {
		if p := w.peer.Load(); p != nil {
			return *p, nil
		}
		return ipc.PeerOf(c)
	}}
	if change != nil {
		change(&o)
	}
	if w.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sock")
	if err != nil {
		t.Fatal(err)
	}
	w.path = place(dir)
	l, err := ipc.Listen(ipc.Options{Path: w.path})
	if err != nil {
		t.Fatal(err)
	}
	run.Go(func() { _ = w.server.Serve(l) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.server.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		stop()
		run.Wait()
		_ = os.RemoveAll(dir)
	})
	return w
}

// as makes who dials next someone else.
func (w *world) as(uid uint32, groups ...uint32) {
	w.peer.Store(&ipc.Peer{Known: true, UID: uid, GIDs: groups, PID: 4711})
}

func spec(name string, s agent.Source) *agent.Spec { return &agent.Spec{Name: name, Source: s} }

// ready waits for the first value of a token.
func (w *world) ready(name string) *agent.Publication {
	w.t.Helper()
	t, ok := w.agent.Token(name)
	if !ok {
		w.t.Fatalf("no token %q", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	p, ok := t.Await(ctx, func(*agent.Publication) bool { return true })
	if !ok {
		w.t.Fatalf("token %q does not come: %+v", name, t.Status())
	}
	return p
}

func (w *world) dial() net.Conn {
	w.t.Helper()
	c, err := dialPlace(context.Background(), w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// client dials anew for each request, so that as takes effect.
func (w *world) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialPlace(ctx, w.path)
		},
	}}
}

type answer struct {
	status int
	head   http.Header
	body   string
}

func (w *world) do(method, path, body string, header ...string) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, "http://renewd"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.client().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (w *world) get(path string, header ...string) answer {
	w.t.Helper()
	return w.do("GET", path, "", header...)
}

// raw sends bytes on one connection and reads one answer.
func raw(t testing.TB, c net.Conn, request string) answer {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return readAnswer(t, bufio.NewReader(c))
}

func readAnswer(t testing.TB, r *bufio.Reader) answer {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

package credential

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"renewd/agent"
	"renewd/platform/ipc"
)

// forgetful is a Store that keeps nothing.
type forgetful struct{}

func (forgetful) Load(string, func(string, []byte) error) error { return nil }
func (forgetful) Get(string, string) ([]byte, error)            { return nil, nil }
func (forgetful) Save(context.Context, ...agent.Change) error   { return nil }

// source logs in once it may.
type source struct{ may chan struct{} }

func (s *source) Traits() *agent.Traits { return &agent.Traits{Type: "fake", Fingerprint: "fake"} }

func (s *source) Prepare(context.Context, agent.Step, agent.Session) (*agent.Attempt, error) {
	return &agent.Attempt{Credential: agent.Credential{Origin: fmt.Sprintf("%p", s)}, Send: func(ctx context.Context) (*agent.Grant, error) {
		select {
		case <-s.may:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return &agent.Grant{Sent: now(), Token: agent.NewSecret("value"), Life: time.Hour}, nil
	}}, nil
}

func now() agent.Instant {
	t := time.Now()
	return agent.Instant{Wall: t, Boot: time.Duration(t.UnixNano())}
}

type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// The machine's agent is asked by root alone: what runs as its user has its files,
// and nothing more.
func TestTheMachinesAgentBelievesRootAlone(t *testing.T) {
	w := newWorldOf(t, true)
	w.open()
	w.peer.Store(&ipc.Peer{Known: true, UID: 4711})
	if got := w.load(t, from("a")); got != "" {
		t.Errorf("the agent's own user got %q", got)
	}
	w.peer.Store(&ipc.Peer{Known: true, UID: 0})
	if got := w.load(t, from("a")); got != "value" {
		t.Errorf("root got %q", got)
	}
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// world is a Server of an agent with the tokens a and b.json, and a log.
type world struct {
	path  string
	a, b  chan struct{} // closed: the logins of that token succeed
	apply func(...*agent.Spec)
	peer  atomic.Pointer[ipc.Peer]
	log   buffer
	stop  func()
}

func newWorld(t *testing.T) *world { return newWorldOf(t, false) }

// newWorldOf is a world whose agent is the machine's, as user 4711, or a user's own.
func newWorldOf(t *testing.T, machine bool) *world {
	w := &world{path: filepath.Join(t.TempDir(), "s"), a: make(chan struct{}), b: make(chan struct{})}
	log := slog.New(slog.NewTextHandler(&w.log, nil))
	a, err := agent.New(agent.Options{Store: forgetful{}, Clock: now, BootID: "b", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	w.apply = func(specs ...*agent.Spec) {
		if err := a.Apply(specs, nil); err != nil {
			t.Error(err)
		}
	}
	w.apply(&agent.Spec{Name: "a", Source: &source{w.a}}, &agent.Spec{Name: "b.json", Source: &source{w.b}})
	s, err := New(Options{Agent: a, Log: log, Machine: machine, Peer: func(c net.Conn) (ipc.Peer, error) {
		if p := w.peer.Load(); p != nil {
			return *p, nil
		}
		return ipc.PeerOf(c)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if machine {
		s.me = ipc.Peer{Known: true, UID: 4711}
	}
	l, err := net.Listen("unix", w.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = a.Run(ctx) })
	running.Go(func() { _ = s.Serve(l) })
	w.stop = sync.OnceFunc(func() {
		_ = l.Close()
		s.Close()
	})
	t.Cleanup(func() {
		w.stop()
		w.open()
		end()
		running.Wait()
	})
	return w
}

// open lets every login succeed.
func (w *world) open() {
	for _, may := range []chan struct{}{w.a, w.b} {
		select {
		case <-may:
		default:
			close(may)
		}
	}
}

// load does what systemd does: it binds, connects, closes its half and reads.
func (w *world) load(t *testing.T, from string) string {
	t.Helper()
	d := net.Dialer{}
	if from != "" {
		d.LocalAddr = &net.UnixAddr{Net: "unix", Name: from}
	}
	c, err := d.Dial("unix", w.path)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer c.Close()
	_ = c.(*net.UnixConn).CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func from(id string) string {
	return fmt.Sprintf("@%016x/unit/web.service/%s", rand.Uint64(), id)
}

// A unit gets the token that its credential is named after, in the format that
// follows, and nothing where the name means nothing.
func TestUnitsGetTheCredentialTheyName(t *testing.T) {
	w := newWorld(t)
	w.open()
	for id, want := range map[string]string{
		"a": "value", "a.raw": "value", "a.header": "Authorization: Bearer value\n", "b.json": "value",
		"b.json.header": "Authorization: Bearer value\n", "c": "", "a.netrc": "", "a.": "", ".raw": "", "header": "",
	} {
		if got := w.load(t, from(id)); got != want {
			t.Errorf("credential %q is %q, want %q", id, got, want)
		}
	}
	if log := w.log.String(); !strings.Contains(log, "unit=web.service token=a generation=1") || !strings.Contains(log, `there is no token \"c\"`) || strings.Contains(log, "value") {
		t.Errorf("log:\n%s", log)
	}
}

// A unit that starts before its token is there waits for it; a stop of the agent
// ends that.
func TestUnitsWaitForTheirToken(t *testing.T) {
	w := newWorld(t)
	got := make(chan string, 1)
	go func() { got <- w.load(t, from("a")) }()
	select {
	case g := <-got:
		t.Fatalf("it got %q before there was a token", g)
	case <-time.After(50 * time.Millisecond):
	}
	close(w.a)
	if g := <-got; g != "value" {
		t.Errorf("it got %q", g)
	}
	go func() { got <- w.load(t, from("b.json")) }()
	select {
	case g := <-got:
		t.Fatalf("it got %q before there was a token", g)
	case <-time.After(50 * time.Millisecond):
	}
	w.stop()
	if g := <-got; g != "" {
		t.Errorf("it got %q", g)
	}
}

// waits returns once n units wait for a token of w, of which none is there.
func (w *world) waits(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		var all strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&all, 2)
		switch waiting := strings.Count(all.String(), "agent.Token.AwaitValid("); {
		case waiting == n:
			return
		case time.Now().After(deadline):
			t.Fatalf("%d units wait, want %d", waiting, n)
		}
	}
}

// A unit that waits for a token is told at once when that leaves the config, and
// gets the value of another that came under the same name.
func TestUnitsWaitForWhatTheConfigNames(t *testing.T) {
	w := newWorld(t)
	gone, again := make(chan string, 1), make(chan string, 1)
	go func() { gone <- w.load(t, from("b.json")) }()
	w.waits(t, 1)
	w.apply(&agent.Spec{Name: "a", Source: &source{w.a}})
	if g := <-gone; g != "" || !strings.Contains(w.log.String(), `there is no token \"b.json\"`) {
		t.Errorf("it got %q; log:\n%s", g, w.log.String())
	}
	go func() { again <- w.load(t, from("a")) }()
	w.waits(t, 1)
	w.apply()
	w.apply(&agent.Spec{Name: "a", Source: &source{w.a}})
	close(w.a)
	if g := <-again; g != "value" && !strings.Contains(w.log.String(), `there is no token \"a\"`) {
		t.Errorf("it got %q; log:\n%s", g, w.log.String())
	}
}

// More units than are served at once get their token too, and none starts
// without; a stop of the agent ends all that wait.
func TestEveryUnitWaitsItsTurn(t *testing.T) {
	w := newWorld(t)
	got := make(chan string)
	for range most + 20 {
		go func() { got <- w.load(t, from("a")) }()
	}
	w.waits(t, most)
	close(w.a)
	for range most + 20 {
		if g := <-got; g != "value" {
			t.Fatalf("a unit got %q", g)
		}
	}
	for range 50 {
		go func() { got <- w.load(t, from("b.json")) }()
	}
	w.waits(t, 50)
	w.stop()
	for range 50 {
		if g := <-got; g != "" {
			t.Errorf("a unit got %q", g)
		}
	}
}

// A unit whose start was given up takes no place from others, but one that has
// closed its half and waits does.
func TestAUnitThatIsGoneIsNotWaitedFor(t *testing.T) {
	w := newWorld(t)
	got := make(chan string, 1)
	go func() { got <- w.load(t, from("a")) }()
	d := net.Dialer{LocalAddr: &net.UnixAddr{Net: "unix", Name: from("a")}}
	c, err := d.Dial("unix", w.path)
	if err != nil {
		t.Fatal(err)
	}
	w.waits(t, 2)
	_ = c.Close()
	w.waits(t, 1)
	close(w.a)
	if g := <-got; g != "value" {
		t.Errorf("who stayed got %q", g)
	}
}

// Everybody can bind the address of a unit; only root's and the agent's own is
// believed.
func TestNobodyElseGetsACredential(t *testing.T) {
	w := newWorld(t)
	w.open()
	me, err := ipc.Self()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []ipc.Peer{{}, {Known: true, UID: me.UID + 1, GIDs: []uint32{0}}, {Known: true, UID: 65534}} {
		w.peer.Store(&p)
		if got := w.load(t, from("a")); got != "" {
			t.Errorf("peer %+v got %q", p, got)
		}
	}
	w.peer.Store(&ipc.Peer{Known: true, UID: 0})
	for _, bad := range []string{"", "@x/unit/web.service", "@x/unit//a", "@x/unit/web.service/", "@x/user/web.service/a", "@x/unit/web.service/a/b"} {
		if bad != "" {
			bad = strings.Replace(bad, "x", fmt.Sprint(time.Now().UnixNano()), 1)
		}
		if got := w.load(t, bad); got != "" {
			t.Errorf("%q got %q", bad, got)
		}
	}
	if got := w.load(t, from("a")); got != "value" {
		t.Errorf("root got %q", got)
	}
}

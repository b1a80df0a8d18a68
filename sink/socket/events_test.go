package socket

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"renewd/agent"
)

// stream is one reader of events.
type stream struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func (w *world) events(t *testing.T, query string, header ...string) *stream {
	t.Helper()
	c := w.dial()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, "GET /v1/events"+query+" HTTP/1.1\r\nHost: a\r\n"+strings.Join(header, "\r\n")+strings.Repeat("\r\n", min(1, len(header)))+"\r\n")
	s := &stream{t, c, bufio.NewReader(c)}
	for {
		line := s.line()
		if strings.HasPrefix(line, "HTTP/1.1 ") && !strings.HasPrefix(line, "HTTP/1.1 200") {
			t.Fatal(line)
		}
		if line == "" {
			return s
		}
	}
}

func (s *stream) line() string {
	s.t.Helper()
	line, err := s.r.ReadString('\n')
	if err != nil {
		s.t.Fatalf("event stream: %v", err)
	}
	return strings.TrimRight(line, "\r\n")
}

// next gives the next event's ID, kind and data.
func (s *stream) next() (id, kind, data string) {
	s.t.Helper()
	for {
		line := s.line()
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			return id, kind, value
		}
	}
}

func TestEventsTellEveryChangeAndNoValue(t *testing.T) {
	w := newWorld(t, nil, spec("x", &source{life: time.Hour}), spec("y", &source{life: time.Hour}))
	w.ready("x")
	w.ready("y")
	s := w.events(t, "")
	_, k1, d1 := s.next()
	_, k2, d2 := s.next()
	if k1 != "state" || k2 != "state" || !strings.Contains(d1, `"x"`) || !strings.Contains(d2, `"y"`) {
		t.Fatalf("the standing: %s %s %s %s", k1, d1, k2, d2)
	}
	only := w.events(t, "?name=y")
	if _, _, d := only.next(); !strings.Contains(d, `"y"`) {
		t.Fatal(d)
	}
	x, _ := w.agent.Token("x")
	y, _ := w.agent.Token("y")
	_ = x.Refresh(t.Context(), agent.Caller{ID: "t"})
	id, kind, data := s.next()
	if kind != "token" || !strings.Contains(data, `"generation":2`) || strings.Contains(data, "token-") {
		t.Fatalf("%s %s", kind, data)
	}
	_ = y.Refresh(t.Context(), agent.Caller{ID: "t"})
	if _, _, d := only.next(); !strings.Contains(d, `"name":"y","generation":2`) {
		t.Fatalf("a filtered stream: %s", d)
	}
	_, _, _ = s.next()

	// Resumed after x's renewal: only y's is missing.
	resumed := w.events(t, "", "Last-Event-ID: "+id)
	if _, kind, d := resumed.next(); kind != "token" || !strings.Contains(d, `"y"`) {
		t.Fatalf("resumed: %s %s", kind, d)
	}
	// The same number of another process names nothing here.
	_, n, _ := strings.Cut(id, "-")
	for _, stale := range []string{"otherone-" + n, n, "-", w.server.epoch + "-99999"} {
		if _, kind, _ := w.events(t, "", "Last-Event-ID: "+stale).next(); kind != "state" {
			t.Errorf("%q: %s", stale, kind)
		}
	}
}

func TestEventsShowOnlyWhatTheCallerMayRead(t *testing.T) {
	open := spec("open", &source{life: time.Hour})
	open.Access = &agent.Access{UIDs: []uint32{1001}}
	w := newWorld(t, nil, open, spec("shut", &source{life: time.Hour}))
	w.ready("open")
	w.ready("shut")
	w.as(1001)
	s := w.events(t, "")
	var seen []string
	_, _, d := s.next()
	seen = append(seen, d)
	for _, name := range []string{"shut", "open"} {
		tok, _ := w.agent.Token(name)
		_ = tok.Refresh(t.Context(), agent.Caller{ID: "t"})
		if name == "shut" { // its event must be there before the other's
			for tok.Current().Generation < 2 {
				time.Sleep(time.Millisecond)
			}
		}
	}
	_, _, d = s.next()
	seen = append(seen, d)
	if slices.ContainsFunc(seen, func(d string) bool { return strings.Contains(d, "shut") }) || !strings.Contains(seen[1], `"generation":2`) {
		t.Fatalf("%q", seen)
	}
}

// A reader that takes nothing is cut; nobody waits for it.
func TestASlowReaderOfEventsIsCut(t *testing.T) {
	specs := make([]*agent.Spec, 300)
	for i := range specs {
		specs[i] = spec(fmt.Sprint("t", i), &source{life: time.Hour})
	}
	w := newWorld(t, nil, specs...)
	for _, s := range specs {
		w.ready(s.Name)
	}
	slow := w.events(t, "")
	slow.next()
	active := func() int {
		w.server.conns.mu.Lock()
		defer w.server.conns.mu.Unlock()
		return w.server.conns.all
	}
	tok, _ := w.agent.Token("t0")
	for end := time.Now().Add(30 * time.Second); active() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it was not cut; revision %d", tok.Current().Revision)
		}
		w.clock.step.Add(int64(10 * time.Second)) // every token tells its new times
		tok.SecretChanged()                       // makes the agent look
	}
}

func TestMetrics(t *testing.T) {
	var configError string
	odd := spec(`x`, &source{life: time.Hour})
	w := newWorld(t, func(o *Options) { o.ConfigError = func() string { return configError } }, odd)
	w.ready("x")
	w.get("/v1/tokens/x")
	w.get("/v1/tokens/x?format=raw")
	configError = "f:1:1: bad"
	a := w.get("/metrics")
	if a.head.Get("Content-Type") != metricsType {
		t.Fatal(a.head)
	}
	for _, line := range []string{
		`renewd_token_valid{name="x"} 1`, `renewd_token_generation{name="x"} 1`, `renewd_token_state{name="x",state="valid"} 1`,
		`renewd_renewals_total{name="x",source="fake",kind="ok"} 1`, `renewd_reads_total{name="x",result="ok"} 2`, `renewd_config_ok 0`,
		`renewd_renewal_seconds_bucket{le="+Inf"} 1`, `renewd_renewal_seconds_count 1`,
	} {
		if !strings.Contains(a.body, "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, a.body)
		}
	}
	for _, name := range []string{"renewd_token_expires_timestamp_seconds{", "renewd_next_renewal_timestamp_seconds{", `renewd_build_info{version="1.2.3"`,
		"# TYPE renewd_renewal_seconds histogram", "# TYPE renewd_sink_errors_total counter", "# TYPE renewd_limit_waiting gauge"} {
		if !strings.Contains(a.body, name) {
			t.Errorf("no %s in\n%s", name, a.body)
		}
	}
	if strings.Contains(a.body, "token-1-") {
		t.Error("metrics hold the value")
	}
}

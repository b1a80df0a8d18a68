package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"renewd/agent"
	"renewd/agent/config"
	"renewd/agent/secret"
	sourcehttp "renewd/agent/source/http"
	"renewd/agent/source/spec"
	"renewd/agent/source/standin"
	"renewd/agent/source/wire"
)

// month is a machine and three vendors, all on the clocks of one bubble.
type month struct {
	t     *testing.T
	start time.Time
	a     *agent.Agent
	trips map[string]*trip // by host

	mu     sync.Mutex
	asleep time.Duration
	step   time.Duration
	grace  map[string][]window // by token: times when no valid token can be had
}

// window is a span of bubble time.
type window struct{ from, to time.Time }

func (m *month) now() agent.Instant {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := time.Now()
	return agent.Instant{Wall: n.Add(m.asleep + m.step).Round(0), Boot: n.Sub(m.start) + m.asleep}
}

// allow says that from now on, for a while, no valid token can be had.
func (m *month) allow(token string, d time.Duration) {
	m.mu.Lock()
	m.grace[token] = append(m.grace[token], window{time.Now(), time.Now().Add(d)})
	m.mu.Unlock()
}

func (m *month) allowed(token string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.grace[token], func(w window) bool { return !time.Now().Before(w.from) && !time.Now().After(w.to) })
}

// trip is the way to one vendor: it notes when requests pass, and may be led to
// another server.
type trip struct {
	mu     sync.Mutex
	to     http.RoundTripper
	sent   []time.Time
	logins []time.Time
}

func (t *trip) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	t.sent = append(t.sent, time.Now())
	if !strings.HasSuffix(r.URL.Path, "/refresh") {
		t.logins = append(t.logins, time.Now())
	}
	to := t.to
	t.mu.Unlock()
	return to.RoundTrip(r)
}

func (m *month) RoundTrip(r *http.Request) (*http.Response, error) {
	return m.trips[r.URL.Host].RoundTrip(r)
}

func (m *month) source(name string, values map[string]any) agent.Source {
	m.t.Helper()
	data, ok := sourcehttp.Preset(name)
	if !ok {
		m.t.Fatalf("no preset %s", name)
	}
	preset, problems := config.DecodePreset(name, name, data)
	if problems.Fatal() {
		m.t.Fatal(problems)
	}
	program, ps := sourcehttp.Compile(name, preset.Spec)
	if program == nil {
		m.t.Fatal(ps)
	}
	in := map[string]spec.Value{}
	for k, v := range values {
		in[k] = spec.Value{V: v}
	}
	src, ps := program.Bind(in, nil, &sourcehttp.Env{Now: m.now, Secrets: secret.NewResolver(),
		Transports: wire.NewTransports(wire.Options{Clock: m.now, RoundTrip: m})})
	if src == nil {
		m.t.Fatal(ps)
	}
	return src
}

// vendor is what the test needs of a stand-in.
type vendor interface {
	http.Handler
	Valid(token string) bool
	Fail(f standin.Fault, n int)
	SetSkew(d time.Duration)
	Counts() standin.Counts
}

// watch samples whether the vendor accepts what is published.
func (m *month) watch(ctx context.Context, name string, every time.Duration, valid func(string) bool) {
	bad := 0
	for ctx.Err() == nil {
		time.Sleep(every)
		tok, _ := m.a.Token(name)
		p := tok.Current()
		if p != nil && p.Remaining(m.now()) > 0 && valid(p.Token.Reveal()) || m.allowed(name) {
			continue
		}
		if bad++; bad <= 3 {
			m.t.Errorf("day %.4f: %s has no valid token: %+v", time.Since(m.start).Hours()/24, name, tok.Status())
		}
	}
}

// Thirty days of the three vendors at their real clocks, with all that goes wrong
// in a month.
func TestThirtyDays(t *testing.T) {
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	write := func(s string) {
		if err := os.WriteFile(password, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("right-1")
	synctest.Test(t, func(t *testing.T) {
		m := &month{t: t, start: time.Now().Add(-time.Hour), grace: map[string][]window{}, trips: map[string]*trip{}}
		commander := standin.NewCommander(standin.CommanderOptions{Username: "svc", Password: "right-1", FlooredExp: true, LockAfter: 3})
		cylance := standin.NewCylance(standin.CylanceOptions{TenantID: "t", AppID: "a", AppSecret: "s3cret", FlooredExp: true})
		week := standin.NewEmnify(standin.EmnifyOptions{ApplicationToken: "app-token", Access: 7 * 24 * time.Hour})
		hours := standin.NewEmnify(standin.EmnifyOptions{ApplicationToken: "app-token", Access: 4 * time.Hour})
		all := map[string]vendor{"commander.test": commander, "cylance.test": cylance, "emnify.test": week}
		for host, v := range all {
			m.trips[host] = &trip{to: standin.Transport(v)}
		}
		a, err := agent.New(agent.Options{Store: agent.NewMemory(), Clock: m.now, BootID: "b", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		m.a = a
		specs := []*agent.Spec{
			{Name: "commander", Source: m.source("commander", map[string]any{"url": "https://commander.test/rest/v3", "username": "svc", "password": secret.Ref{File: secret.Path(password)}})},
			{Name: "cylance", Source: m.source("cylance", map[string]any{"url": "https://cylance.test", "tenant_id": "t", "app_id": "a", "app_secret": secret.Plain("s3cret")})},
			{Name: "emnify", Source: m.source("emnify", map[string]any{"url": "https://emnify.test", "application_token": secret.Plain("app-token")})},
		}
		if err := a.Apply(specs, nil); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = a.Run(ctx) })
		synctest.Wait()
		running.Go(func() { m.watch(ctx, "commander", 7*time.Second, commander.Valid) })
		running.Go(func() { m.watch(ctx, "cylance", 61*time.Second, cylance.Valid) })
		running.Go(func() {
			m.watch(ctx, "emnify", 61*time.Second, func(tok string) bool { return week.Valid(tok) || hours.Valid(tok) })
		})
		m.live(commander, all, hours, write)
		stop()
		running.Wait()
		m.judge(commander)
	})
}

// sleep suspends the machine: its clocks and the vendors' go on, its timers do not.
func (m *month) sleep(all map[string]vendor, hours vendor, d time.Duration) {
	m.mu.Lock()
	m.asleep += d
	asleep := m.asleep
	m.mu.Unlock()
	for _, v := range append(slices.Collect(maps.Values(all)), hours) {
		v.SetSkew(asleep)
	}
	for _, name := range []string{"commander", "cylance", "emnify"} {
		m.allow(name, 35*time.Second) // noticed within 30 s, and a round trip
	}
}

// live is what happens in the month, from day to day.
func (m *month) live(commander *standin.Commander, all map[string]vendor, hours *standin.Emnify, write func(string)) {
	day := func(n float64) {
		time.Sleep(time.Until(m.start.Add(time.Hour + time.Duration(n*24*float64(time.Hour)))))
	}
	brief := func(f standin.Fault) { // shorter than the shortest lead, for all
		for _, v := range all {
			v.Fail(f, -1)
		}
		if f == standin.Outage401 {
			// Two refusals hold a secret for 35 min; the second comes after a
			// quarter of the lead.
			time.Sleep(6 * time.Second)
		} else {
			time.Sleep(10 * time.Second)
		}
		for _, v := range all {
			v.Fail(standin.None, 0)
		}
	}
	for i, f := range []standin.Fault{standin.Status500, standin.Status503, standin.Status429, standin.Outage401, standin.HTML200, standin.Empty200, standin.Truncated, standin.Reset} {
		day(1 + float64(i)/4)
		brief(f)
	}

	day(4) // an outage that outlives Commander's token, and no other's
	m.allow("commander", 12*time.Minute)
	commander.Fail(standin.Status500, -1)
	time.Sleep(10 * time.Minute)
	commander.Fail(standin.None, 0)

	day(6) // the machine sleeps over a weekend night
	m.sleep(all, hours, 9*time.Hour)

	day(8) // the wall clock steps back, later forward
	m.mu.Lock()
	m.step -= 10 * time.Minute
	m.mu.Unlock()
	day(9)
	m.mu.Lock()
	m.step += 25 * time.Minute
	m.mu.Unlock()

	day(12) // the vendor shortens its lives without a word: 7 days to 4 hours
	trip := m.trips["emnify.test"]
	trip.mu.Lock()
	trip.to = standin.Transport(hours)
	trip.mu.Unlock()

	day(15) // somebody changes the password at the vendor, and only later here
	commander.SetPassword("right-2")
	// The session is refreshed to its last second; then nothing helps.
	time.Sleep(m.token("commander").Status().SessionExpiresAt.Sub(m.now().Wall) - 2*time.Second)
	m.allow("commander", 3*time.Hour)
	time.Sleep(80 * time.Minute)
	before := commander.Counts()
	write("mistyped") // a new secret, and a wrong one
	m.token("commander").SecretChanged()
	time.Sleep(30 * time.Minute)
	if n := commander.Counts(); n.Refused-before.Refused != 1 {
		m.t.Errorf("the mistyped secret was tried %d times in 30 min, want once", n.Refused-before.Refused)
	}
	write("right-2")
	m.token("commander").SecretChanged()
	time.Sleep(time.Minute)
	m.mu.Lock()
	m.grace["commander"] = nil // from here on it must be well again
	m.mu.Unlock()

	day(20) // sleep again, across every hard limit
	m.sleep(all, hours, 40*time.Minute)
	day(30)
}

func (m *month) token(name string) agent.Token {
	t, _ := m.a.Token(name)
	return t
}

// busiest is the most that a list of times has in any minute.
func busiest(times []time.Time) (most int) {
	for i, from := 0, 0; i < len(times); i++ {
		for times[i].Sub(times[from]) >= time.Minute {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// judge looks at what was sent in the whole month.
func (m *month) judge(commander *standin.Commander) {
	for host, t := range m.trips {
		all, logins := busiest(t.sent), busiest(t.logins)
		m.t.Logf("%s: %d requests, at most %d in a minute, logins at most %d", host, len(t.sent), all, logins)
		if logins > 10 {
			m.t.Errorf("%s was sent %d logins in a minute; the budget is 10", host, logins)
		}
		if all > 45 { // a wait of 100 ms to an eighth of the lead, on two lanes
			m.t.Errorf("%s was sent %d requests in a minute", host, all)
		}
	}
	n := commander.Counts()
	m.t.Logf("commander: %+v", n)
	// 15 min sessions: about 2 900 of them, and a few that faults began.
	if n.Logins > 3600 {
		m.t.Errorf("%d logins in 30 days", n.Logins)
	}
	for _, name := range []string{"commander", "cylance", "emnify"} {
		if s := m.token(name).Status(); s.State != agent.StateValid {
			m.t.Errorf("%s ends the month as %s: %s", name, s.State, fmt.Sprint(s.Problems))
		}
	}
}

package http_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	nethttp "net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"renewd/agent"
	"renewd/agent/config"
	"renewd/agent/source/http"
	"renewd/agent/source/sourcetest"
	"renewd/agent/source/standin"
)

// vendor stands in for one API: its routes, its clock and what it accepts.
type vendor struct {
	mux  *nethttp.ServeMux
	mu   sync.Mutex
	skew time.Duration
	live map[string]time.Time // tokens, and until when each is accepted
	seen map[string]bool      // jti
	why  []string             // what was refused, and why
	made int
	asks int
}

func newVendor(routes func(v *vendor)) *vendor {
	v := &vendor{mux: nethttp.NewServeMux(), live: map[string]time.Time{}, seen: map[string]bool{}}
	routes(v)
	return v
}

// ask is a request as a vendor sees it.
type ask struct {
	*nethttp.Request
	body []byte
}

// at is a value of a JSON body, "" where there is none.
func (a *ask) at(path ...string) any {
	var v any
	_ = json.Unmarshal(a.body, &v)
	for _, k := range path {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

func (a *ask) form(key string) string {
	v, _ := url.ParseQuery(string(a.body))
	return v.Get(key)
}

func (a *ask) basic(user, password string) bool {
	u, p, ok := a.BasicAuth()
	return ok && u == user && p == password
}

func (a *ask) bearer() string {
	t, _ := strings.CutPrefix(a.Header.Get("Authorization"), "Bearer ")
	return t
}

// reply is what a vendor answers; header holds name, value, name, value, …
type reply struct {
	status int
	body   any
	header []string
}

type object = map[string]any

func (v *vendor) on(pattern string, f func(a *ask) reply) {
	v.mux.HandleFunc(pattern, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.asks++
		b, _ := io.ReadAll(r.Body)
		out := f(&ask{r, b})
		for i := 0; i+1 < len(out.header); i += 2 {
			w.Header().Set(out.header[i], out.header[i+1])
		}
		if out.body != nil {
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(out.status)
		if out.body != nil {
			_ = json.NewEncoder(w).Encode(out.body)
		}
	})
}

func (v *vendor) ServeHTTP(w nethttp.ResponseWriter, r *nethttp.Request) {
	w.Header().Set("Date", v.now().UTC().Format(nethttp.TimeFormat))
	v.mux.ServeHTTP(w, r)
}

func (v *vendor) now() time.Time { return time.Now().Add(v.skew) }

// mint makes a token that is accepted for life.
func (v *vendor) mint(life time.Duration) string {
	v.made++
	token := fmt.Sprintf("token-%d", v.made)
	v.live[token] = v.now().Add(life)
	return token
}

// mintJWT makes one that says so itself, and nothing else.
func (v *vendor) mintJWT(life time.Duration) string {
	v.made++
	exp := v.now().Add(life).Truncate(time.Second)
	token := segment(object{"alg": "HS256"}) + "." + segment(object{"exp": exp.Unix(), "n": v.made}) + ".c2ln"
	v.live[token] = exp
	return token
}

func segment(v any) string {
	b, _ := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(b)
}

func (v *vendor) good(token string) bool { return v.now().Before(v.live[token]) }

// trial is a preset before its vendor.
type trial struct {
	preset string
	name   string // of several with one preset
	routes func(v *vendor)
	in     values
	over   *http.Overrides

	life   time.Duration // of a token; what is read may be 3 s less
	shown  string        // the header that presents token-1, or %s for the token
	extra  map[string]string
	renews string // refresh, extend, or "": it logs in each time
	spends bool   // a refresh spends its refresh token
	logout bool
	signed bool // a login is signed, so the server's clock can be followed

	wrong   []wrong
	mutants []mutant

	accepts func(v *vendor, token string) bool // nil: those that were minted
}

// wrong is what must be refused.
type wrong struct {
	name string
	in   values          // over the trial's
	do   func(v *vendor) // before the step
	step agent.Step      // login if empty
	kind agent.Kind
	wait time.Duration
}

// mutant is the preset with a mistake in it, which the vendor must notice.
type mutant struct {
	old, new string
	kind     agent.Kind
}

func (tr *trial) source(t testing.TB, v *vendor, in values) *http.Source {
	return bind(t, compile(t, tr.preset, preset(t, tr.preset)), standin.Transport(v), tr.inputs(in), tr.over)
}

func (tr *trial) inputs(in values) values {
	all := maps.Clone(tr.in)
	maps.Copy(all, in)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	return all
}

func (tr *trial) good(v *vendor, token string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if tr.accepts != nil {
		return tr.accepts(v, token)
	}
	return v.good(token)
}

// Every preset gets, presents, renews and ends tokens as its vendor has it, and
// knows its refusals by their kind.
func TestPresetsBeforeTheirVendors(t *testing.T) {
	known := map[string]bool{"commander": true, "cylance": true, "emnify": true} // with stand-ins of their own
	rsaKeys()
	ecKeys()
	for _, tr := range slices.Concat(signedTrials(), oauthTrials(), loginTrials(), deviceTrials()) {
		known[tr.preset] = true
		t.Run(strings.TrimSuffix(tr.preset+" "+tr.name, " "), func(t *testing.T) {
			t.Run("conforms", func(t *testing.T) {
				sourcetest.Run(t, func(t *testing.T) *sourcetest.Harness {
					v := newVendor(tr.routes)
					h := &sourcetest.Harness{Source: tr.source(t, v, nil), Clock: clock, Secrets: []string{"hunter2", "PRIVATE KEY"}}
					if tr.accepts == nil {
						h.Sent = func() int { v.mu.Lock(); defer v.mu.Unlock(); return v.asks }
						h.Refuse = func() { v.mux = nethttp.NewServeMux() }
					}
					return h
				})
			})
			for name, test := range map[string]func(*testing.T, *trial){"obtains": obtains, "renews": renews, "logs out": logsOut, "clock": followsClock} {
				t.Run(name, func(t *testing.T) { bubble(t, func(t *testing.T) { test(t, &tr) }) })
			}
			for _, w := range tr.wrong {
				t.Run(w.name, func(t *testing.T) { bubble(t, func(t *testing.T) { refuses(t, &tr, &w) }) })
			}
			for _, m := range tr.mutants {
				t.Run("with "+m.new, func(t *testing.T) { bubble(t, func(t *testing.T) { notices(t, &tr, &m) }) })
			}
		})
	}
	for _, name := range http.Presets() {
		if !known[name] {
			t.Errorf("%s was never before its vendor", name)
		}
	}
}

func obtains(t *testing.T, tr *trial) {
	v := newVendor(tr.routes)
	src := tr.source(t, v, nil)
	g := mustLogin(t, src)
	if g.Life > tr.life || g.Life < tr.life-3*time.Second {
		t.Errorf("the life is %v; want %v", g.Life, tr.life)
	}
	p := &agent.Publication{Token: g.Token, Extra: g.Extra, Presentation: src.Traits().Presentation}
	name, value := p.Header()
	if want := strings.ReplaceAll(tr.shown, "%s", g.Token.Reveal()); name+": "+value != want {
		t.Errorf("presented as %s: %s; want %s", name, value, want)
	}
	for k, want := range tr.extra {
		if g.Extra[k] != want {
			t.Errorf("extra.%s is %q; want %q", k, g.Extra[k], want)
		}
	}
	if end := src.Traits().Life; end > tr.life {
		t.Errorf("expects a life of %v", end)
	}
	time.Sleep(g.Life - time.Millisecond)
	if !tr.good(v, g.Token.Reveal()) {
		t.Error("the token died before its life was over")
	}
}

func renews(t *testing.T, tr *trial) {
	v := newVendor(tr.routes)
	src := tr.source(t, v, nil)
	g := mustLogin(t, src)
	if src.Traits().CanRefresh != (tr.renews != "") || src.Traits().Rotates != tr.spends {
		t.Fatalf("%+v", src.Traits())
	}
	if tr.renews == "" {
		return
	}
	s := sessionOf(g)
	for range 3 {
		time.Sleep(g.Life / 2)
		next, err := call(t, src, agent.StepRefresh, s)
		if err != nil {
			t.Fatal(err)
		}
		if next.Token.IsZero() != (tr.renews == "extend") {
			t.Fatalf("%s brought %d bytes of a token", tr.renews, len(next.Token.Reveal()))
		}
		if !next.Token.IsZero() {
			s.Token = next.Token
		}
		if !next.RefreshToken.IsZero() {
			s.RefreshToken = next.RefreshToken
		}
		if tr.renews == "extend" && next.IatLife {
			t.Error("nothing ties the same token's new life to now: its clock would not move")
		}
		if next.Life < g.Life/4 {
			t.Errorf("the next life is %v", next.Life)
		}
		g.Life = min(g.Life, next.Life)
	}
	time.Sleep(g.Life - time.Millisecond)
	if !tr.good(v, s.Token.Reveal()) {
		t.Error("the renewed token died before its life was over")
	}
	v.mu.Lock()
	clear(v.live) // ended elsewhere
	v.mu.Unlock()
	_, err := call(t, src, agent.StepRefresh, s)
	wantKind(t, err, agent.SessionOver)
}

func logsOut(t *testing.T, tr *trial) {
	v := newVendor(tr.routes)
	src := tr.source(t, v, nil)
	if src.Traits().CanLogout != tr.logout {
		t.Fatalf("a logout: %v", src.Traits().CanLogout)
	}
	if !tr.logout {
		return
	}
	g := mustLogin(t, src)
	if _, err := call(t, src, agent.StepLogout, sessionOf(g)); err != nil {
		t.Fatal(err)
	}
	if tr.good(v, g.Token.Reveal()) {
		t.Error("the token is still accepted")
	}
}

// followsClock: a wrong clock of this machine keeps nobody out.
func followsClock(t *testing.T, tr *trial) {
	if !tr.signed {
		return
	}
	for _, skew := range []time.Duration{13 * time.Minute, -13 * time.Minute} {
		v := newVendor(tr.routes)
		v.skew = skew
		src := tr.source(t, v, nil)
		g := mustLogin(t, src)
		if g.Life > tr.life || g.Life < tr.life-4*time.Second {
			t.Errorf("%v off: the life is %v", skew, g.Life)
		}
		if len(v.why) > 1 {
			t.Errorf("%v off: refused as %v", skew, v.why)
		}
	}
}

func refuses(t *testing.T, tr *trial, w *wrong) {
	v := newVendor(tr.routes)
	src := tr.source(t, v, w.in)
	s := agent.Session{}
	if w.step != "" && w.step != agent.StepLogin {
		s = sessionOf(mustLogin(t, src))
	} else {
		w.step = agent.StepLogin
	}
	if w.do != nil {
		v.mu.Lock()
		w.do(v)
		v.mu.Unlock()
	}
	_, err := call(t, src, w.step, s)
	if e := wantKind(t, err, w.kind); e.Wait != w.wait {
		t.Errorf("the wait is %v", e.Wait)
	} else if e.Kind == agent.Rejected && e.Hint == "" {
		t.Error("nothing is said of what to do")
	}
}

func notices(t *testing.T, tr *trial, m *mutant) {
	data, _ := http.Preset(tr.preset)
	text := strings.ReplaceAll(string(data), m.old, m.new)
	if text == string(data) {
		t.Fatalf("the preset has no %s", m.old)
	}
	p, problems := config.DecodePreset(tr.preset, "mutant", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	v := newVendor(tr.routes)
	src := bind(t, compile(t, tr.preset, p.Spec), standin.Transport(v), tr.inputs(nil), tr.over)
	g, err := call(t, src, agent.StepLogin, agent.Session{})
	if m.kind == "" {
		if err != nil || tr.good(v, g.Token.Reveal()) {
			t.Errorf("got %v; want a token that is not accepted", err)
		}
		return
	}
	wantKind(t, err, m.kind)
}

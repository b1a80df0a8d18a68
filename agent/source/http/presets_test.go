package http_test

import (
	"fmt"
	nethttp "net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"renewd/agent"
	"renewd/agent/source/http"
	"renewd/agent/source/sourcetest"
	"renewd/agent/source/standin"
)

const base = "https://vendor.example/rest/v3"

// bubble runs a test in a bubble that begins between two seconds, where rounding
// shows.
func bubble(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24*time.Hour + 700*time.Millisecond) // a bubble begins with the year 2000
		f(t)
	})
}

func commander(t testing.TB, o standin.CommanderOptions, in values) (*standin.Commander, *http.Source) {
	t.Helper()
	o.Username, o.Password = "bob", `pa"ss\${x}`
	api := standin.NewCommander(o)
	all := values{"url": base + "/", "username": o.Username, "password": o.Password}
	for k, v := range in {
		all[k] = v
	}
	return api, bind(t, compile(t, "commander", preset(t, "commander")), standin.Transport(api), all, nil)
}

func TestCommanderConforms(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) *sourcetest.Harness {
		api, src := commander(t, standin.CommanderOptions{}, nil)
		return &sourcetest.Harness{Source: src, Clock: clock, Secrets: []string{`pa"ss`, "hunter2"},
			Sent:   func() int { return api.Counts().Tries },
			Refuse: func() { api.SetPassword("another") }}
	})
}

// A token is never believed to live longer than the server accepts it, whatever
// the server's unknowns turn out to be.
func TestCommanderWorstReadings(t *testing.T) {
	for i, o := range []standin.CommanderOptions{
		{}, {FlooredExp: true}, {ExpIsSession: true}, {FlooredExp: true, ExpIsSession: true}, {Opaque: true},
		{RefreshKills: true}, {RefreshStatus: 200}, {Organization: "org1"},
	} {
		for _, skew := range []time.Duration{0, 10 * time.Minute, -10 * time.Minute} {
			for _, noDate := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d skew %v hidden %v", i, skew, noDate), func(t *testing.T) {
					bubble(t, func(t *testing.T) {
						in := values{}
						if o.Organization != "" {
							in["organization"] = o.Organization
						}
						api, src := commander(t, o, in)
						api.SetSkew(skew)
						api.HideDate(noDate)
						g := mustLogin(t, src)
						end := g.Sent.Wall.Add(api.Session())
						for time.Until(end) > time.Minute {
							if g.Life < 58*time.Second || g.Life > time.Minute {
								t.Fatalf("the life is %v", g.Life)
							}
							time.Sleep(g.Life - time.Millisecond)
							if !api.Valid(g.Token.Reveal()) {
								t.Fatalf("the token died before its %v were over", g.Life)
							}
							next, err := call(t, src, agent.StepRefresh, sessionOf(g))
							if err != nil {
								t.Fatal(err)
							}
							g = next
						}
						time.Sleep(time.Until(end))
						_, err := call(t, src, agent.StepRefresh, sessionOf(g))
						wantKind(t, err, agent.SessionOver)
					})
				})
			}
		}
	}
}

func TestCommanderRefusals(t *testing.T) {
	api, src := commander(t, standin.CommanderOptions{}, nil)
	g := mustLogin(t, src)
	s := sessionOf(g)
	s.Valid = false
	if _, err := src.Prepare(t.Context(), agent.StepRefresh, s); err != agent.ErrPassedOver {
		t.Errorf("an expired token is not refreshed: %v", err)
	}
	_, late := commander(t, standin.CommanderOptions{RefreshLate: true}, values{"refresh_only_valid": false})
	if _, err := late.Prepare(t.Context(), agent.StepRefresh, s); err != nil {
		t.Errorf("but where the server takes it, it is: %v", err)
	}
	api.Revoke()
	_, err := call(t, src, agent.StepRefresh, sessionOf(g))
	wantKind(t, err, agent.SessionOver)
	api.SetPassword("x")
	_, err = call(t, src, agent.StepLogin, agent.Session{})
	if e := wantKind(t, err, agent.Rejected); e.Unsent || e.Step != agent.StepLogin {
		t.Errorf("%+v", e)
	}
	_, wrong := commander(t, standin.CommanderOptions{}, values{"url": "https://vendor.example/rest"})
	_, err = call(t, wrong, agent.StepLogin, agent.Session{})
	if e := wantKind(t, err, agent.Misconfigured); e.Hint != "url ends in /rest/v3" {
		t.Errorf("hint %q", e.Hint)
	}
}

// What servers and networks do instead of answering, by what it means.
func TestFaults(t *testing.T) {
	for f, want := range map[standin.Fault]agent.Kind{
		standin.Status500: agent.Transient, standin.Status503: agent.Throttled, standin.Status429: agent.Throttled,
		standin.Outage401: agent.Rejected, standin.HTML200: agent.Misconfigured, standin.Empty200: agent.Misconfigured,
		standin.NoToken200: agent.Misconfigured, standin.ErrorIn200: agent.Misconfigured, standin.OtherThing: agent.Misconfigured,
		standin.Truncated: agent.Transient, standin.Hang: agent.Transient, standin.Drip: agent.Transient,
		standin.Reset: agent.Transient, standin.LostAnswer: agent.Transient, standin.Elsewhere: agent.Misconfigured,
		standin.LongBody: agent.Misconfigured,
	} {
		t.Run(string(f), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				api, src := commander(t, standin.CommanderOptions{}, nil)
				api.Fail(f, 1)
				begin := time.Now()
				_, err := call(t, src, agent.StepLogin, agent.Session{})
				e := wantKind(t, err, want)
				if took := time.Since(begin); took > 31*time.Second {
					t.Errorf("took %v", took)
				}
				if want == agent.Throttled && e.Wait != 7*time.Second {
					t.Errorf("the wait is %v", e.Wait)
				}
				mustLogin(t, src)
			})
		})
	}
	if got := len(standin.Faults()); got != 16 {
		t.Errorf("%d faults, of which 16 are tested", got)
	}
}

func TestOrganizationIsLeftOut(t *testing.T) {
	for org, want := range map[string]string{
		"": `{"password":"p","username":"u"}`, "o": `{"organization":"o","password":"p","username":"u"}`,
	} {
		s := &script{}
		src := bind(t, compile(t, "commander", preset(t, "commander")), s, values{"url": base, "username": "u", "password": "p", "organization": org}, nil)
		mustLogin(t, src)
		if a := s.last(); a.body != want || a.url != base+"/tokens" || a.method != "POST" || a.header.Get("Content-Type") != "application/json" || a.header.Get("Authorization") != "" {
			t.Errorf("asked %+v", a)
		}
	}
}

const tenant, app, key = "22222222-2222-2222-2222-222222222222", "11111111-1111-1111-1111-111111111111", "44444444-4444-4444-4444-444444444444"

func cylance(t testing.TB, o standin.CylanceOptions, in values) (*standin.Cylance, *http.Source) {
	t.Helper()
	o.TenantID, o.AppID, o.AppSecret = tenant, app, key
	api := standin.NewCylance(o)
	all := values{"region": "euc1", "tenant_id": tenant, "app_id": app, "app_secret": key}
	for k, v := range in {
		all[k] = v
	}
	return api, bind(t, compile(t, "cylance", preset(t, "cylance")), standin.Transport(api), all, nil)
}

func TestCylanceConforms(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) *sourcetest.Harness {
		api, src := cylance(t, standin.CylanceOptions{}, nil)
		return &sourcetest.Harness{Source: src, Clock: clock, Secrets: []string{key},
			Sent: func() int { return api.Counts().Tries }, Refuse: func() { api.Fail(standin.Outage401, 1) }}
	})
}

func TestCylanceLives(t *testing.T) {
	for _, o := range []standin.CylanceOptions{{}, {FlooredExp: true}, {Opaque: true}, {Access: 3 * time.Minute}} {
		bubble(t, func(t *testing.T) {
			api, src := cylance(t, o, nil)
			g := mustLogin(t, src)
			life := min(30*time.Minute, max(o.Access, 3*time.Minute))
			if o.Access == 0 {
				life = 30 * time.Minute
			}
			if g.Life > life || g.Life < life-3*time.Second {
				t.Errorf("%+v: the life is %v", o, g.Life)
			}
			time.Sleep(g.Life - time.Millisecond)
			if !api.Valid(g.Token.Reveal()) {
				t.Errorf("%+v: the token died too early", o)
			}
		})
	}
}

// A clock that is off costs one more request at once, and none later.
func TestCylanceClock(t *testing.T) {
	for _, skew := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		bubble(t, func(t *testing.T) {
			// So short that being ahead and being behind both end in a refusal.
			api, src := cylance(t, standin.CylanceOptions{}, values{"auth_lifetime": "5m"})
			api.SetSkew(skew)
			g := mustLogin(t, src)
			if n := api.Counts(); n.Tries != 2 || n.Logins != 1 {
				t.Errorf("%+v", n)
			}
			if d := g.Skew - skew; !g.HasSkew || d.Abs() > time.Second {
				t.Errorf("skew %v", g.Skew)
			}
			if g.Life < 29*time.Minute || g.Life > 30*time.Minute {
				t.Errorf("life %v", g.Life)
			}
			mustLogin(t, src)
			if n := api.Counts(); n.Tries != 3 {
				t.Errorf("the server's clock was forgotten: %+v", n)
			}
		})
	}
}

func TestCylanceClockAndKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		api, src := cylance(t, standin.CylanceOptions{}, values{"app_secret": "hunter2"})
		_, err := call(t, src, agent.StepLogin, agent.Session{})
		wantKind(t, err, agent.Rejected)
		if n := api.Counts(); n.Tries != 1 {
			t.Errorf("with a right clock a refusal is one: %+v", n)
		}
		api.SetSkew(10 * time.Minute)
		_, err = call(t, src, agent.StepLogin, agent.Session{})
		if e := wantKind(t, err, agent.Misconfigured); !strings.Contains(e.Detail, "10m0s ahead of ours") {
			t.Errorf("%v does not say the skew", e)
		}
		if n := api.Counts(); n.Tries != 3 {
			t.Errorf("it is signed again once: %+v", n)
		}
	})
}

func TestCylanceScopesAndRegions(t *testing.T) {
	for _, c := range []struct {
		scopes any
		want   string
	}{{nil, "<nil>"}, {"policy:list, policy:read", "policy:list, policy:read"}, {[]any{"policy:list"}, "[policy:list]"}} {
		in := values{}
		if c.scopes != nil {
			in["scopes"] = c.scopes
		}
		api, src := cylance(t, standin.CylanceOptions{}, in)
		mustLogin(t, src)
		if got := fmt.Sprint(api.Scopes()); got != c.want {
			t.Errorf("scopes %v were sent as %s", c.scopes, got)
		}
	}
	p := compile(t, "cylance", preset(t, "cylance"))
	for _, c := range []struct {
		in   values
		host string
	}{
		{values{"region": "na"}, "protectapi.cylance.com:443"}, {values{"region": "gov"}, "protectapi.us.cylance.com:443"},
		{values{"region": "gov_dash"}, "protectapi-us.cylance.com:443"}, {values{"url": "https://other.example:8443/"}, "other.example:8443"},
		{values{}, ""}, {values{"region": "euc2"}, ""},
	} {
		c.in["tenant_id"], c.in["app_id"], c.in["app_secret"] = tenant, app, key
		src, problems := tryBind(p, &script{}, c.in, nil)
		if c.host == "" {
			if src != nil {
				t.Errorf("%v was taken", c.in)
			}
			continue
		}
		if src == nil || src.Traits().Hosts[0] != c.host {
			t.Errorf("%v: %v", c.in, problems)
		}
	}
	_, problems := tryBind(p, &script{}, values{"tenant_id": tenant, "app_id": app, "app_secret": key}, nil)
	if len(problems) != 1 || problems[0].Hint != "give region or url" {
		t.Errorf("got %v", problems)
	}
}

func emnify(t testing.TB, o standin.EmnifyOptions, in values) (*standin.Emnify, *http.Source) {
	t.Helper()
	api := standin.NewEmnify(o)
	return api, bind(t, compile(t, "emnify", preset(t, "emnify")), standin.Transport(api), in, nil)
}

var (
	emnifyUser = standin.EmnifyOptions{Username: "bob@x.example", Password: "The quick brown fox jumps over the lazy dog", ApplicationToken: "app-token"}
	emnifyIn   = values{"username": emnifyUser.Username, "password": emnifyUser.Password}
)

func TestEmnifyConforms(t *testing.T) {
	for name, in := range map[string]values{"application token": {"application_token": "app-token"}, "user": emnifyIn} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Run(t, func(t *testing.T) *sourcetest.Harness {
				api, src := emnify(t, emnifyUser, in)
				return &sourcetest.Harness{Source: src, Clock: clock, Secrets: []string{"app-token", "quick brown", "2fd4e1c6"},
					Sent: func() int { return api.Counts().Tries }, Refuse: func() { api.Fail(standin.Outage401, 1) }}
			})
		})
	}
}

func TestEmnifyGrants(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, src := emnify(t, emnifyUser, values{"application_token": "app-token"})
		if tr := src.Traits(); tr.CanRefresh || tr.NeedsPerson || tr.Rejected.Tries != 2 || tr.Limits.Requests != 100 || tr.Limits.Per != 5*time.Minute {
			t.Errorf("%+v", tr)
		}
		if g := mustLogin(t, src); !g.RefreshToken.IsZero() || g.Life > 4*time.Hour || g.Life < 4*time.Hour-3*time.Second {
			t.Errorf("life %v", g.Life)
		}
		api, user := emnify(t, emnifyUser, emnifyIn)
		g := mustLogin(t, user)
		if !user.Traits().CanRefresh || g.RefreshLife < 23*time.Hour || g.RefreshLife > 24*time.Hour {
			t.Errorf("refresh life %v", g.RefreshLife)
		}
		next, err := call(t, user, agent.StepRefresh, sessionOf(g))
		if err != nil || next.Token.IsZero() || !next.RefreshToken.IsZero() {
			t.Errorf("only what came replaces what was: %v, %v", next, err)
		}
		s := sessionOf(g)
		s.RefreshToken = agent.NewSecret("hunter2")
		_, err = call(t, user, agent.StepRefresh, s)
		wantKind(t, err, agent.SessionOver)
		if n := api.Counts(); n.Tries != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// A lifetime that the vendor changed without a word is read, not assumed.
func TestEmnifyLifetimeIsRead(t *testing.T) {
	for _, life := range []time.Duration{7 * 24 * time.Hour, 20 * time.Minute} {
		bubble(t, func(t *testing.T) {
			o := emnifyUser
			o.Access = life
			_, src := emnify(t, o, emnifyIn)
			if g := mustLogin(t, src); g.Life > life || g.Life < life-3*time.Second {
				t.Errorf("life %v", g.Life)
			}
		})
	}
}

func TestEmnifyLockout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		api, src := emnify(t, emnifyUser, values{"username": emnifyUser.Username, "password": "hunter2"})
		for range 3 {
			_, err := call(t, src, agent.StepLogin, agent.Session{})
			wantKind(t, err, agent.Rejected)
		}
		_, err := call(t, src, agent.StepLogin, agent.Session{})
		if e := wantKind(t, err, agent.Locked); e.Wait != 5*time.Minute {
			t.Errorf("wait %v", e.Wait)
		}
		for range 100 {
			_, err = call(t, src, agent.StepLogin, agent.Session{})
		}
		if e := wantKind(t, err, agent.Throttled); e.Wait != time.Minute {
			t.Errorf("wait %v", e.Wait)
		}
		if n := api.Counts(); n.Refused != 100 {
			t.Errorf("%+v", n)
		}
	})
}

func TestEmnifySecondFactor(t *testing.T) {
	o := emnifyUser
	o.Fingerprint = "trusted"
	_, src := emnify(t, o, emnifyIn)
	_, err := call(t, src, agent.StepLogin, agent.Session{})
	wantKind(t, err, agent.NeedsHuman)
	_, trusted := emnify(t, o, values{"username": o.Username, "password": o.Password, "fingerprint": "trusted"})
	mustLogin(t, trusted)
}

// A refresh token of the config starts the session; its later ones go on with
// it, and another one in the config begins anew.
func TestEmnifyRefreshTokenOfTheConfig(t *testing.T) {
	o := emnifyUser
	o.Rotates, o.Punishes = true, true
	file := filepath.Join(t.TempDir(), "rt")
	api := standin.NewEmnify(o)
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(api.IssueRefresh())
	src := bind(t, compile(t, "emnify", preset(t, "emnify")), standin.Transport(api), values{"refresh_token": ref(file)}, nil)
	if tr := src.Traits(); !tr.SelfStart || !tr.NeedsPerson || !tr.CanRefresh {
		t.Errorf("%+v", tr)
	}
	if _, err := src.Prepare(t.Context(), agent.StepLogin, agent.Session{}); wantKind(t, err, agent.NeedsHuman).Unsent != true {
		t.Error("a login that cannot be made was sent")
	}
	g, err := call(t, src, agent.StepRefresh, agent.Session{})
	if err != nil || g.Seed == "" || g.RefreshToken.IsZero() {
		t.Fatal(g, err)
	}
	next, err := call(t, src, agent.StepRefresh, sessionOf(g))
	if err != nil || next.Seed != g.Seed {
		t.Fatal(next, err)
	}
	write(api.IssueRefresh())
	stale := sessionOf(next)
	stale.RefreshToken = agent.NewSecret("stale") // it would be refused
	other, err := call(t, src, agent.StepRefresh, stale)
	if err != nil || other.Seed == g.Seed {
		t.Fatal("a changed input does not replace the session's", other, err)
	}
	if got := src.Files(); len(got) != 1 || got[0] != file {
		t.Errorf("files %v", got)
	}
	if n := api.Counts(); n.Refreshes != 3 || n.Refused != 0 {
		t.Errorf("%+v", n)
	}
}

// The names of vendors stand in their presets and stand-ins, nowhere else.
func TestNoVendorInGo(t *testing.T) {
	root := "../../.."
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		switch {
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "standin"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(d.Name(), "demo"):
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for n, line := range strings.Split(string(b), "\n") {
			code, _, _ := strings.Cut(line, "//")                              // a comment may give an example
			code = strings.ReplaceAll(strings.ToLower(code), "go.etcd.io", "") // a library's place
			for _, vendor := range http.Presets() {
				if strings.Contains(line, "Example:") {
					continue // of what a user types
				}
				named := strings.Contains(code, vendor)
				if len(vendor) <= 5 { // part of other words, such as central
					named = slices.Contains(strings.FieldsFunc(code, func(r rune) bool { return r < 'a' || r > 'z' }), vendor)
				}
				if named {
					t.Errorf("%s:%d names %s: a new vendor needs no Go", rel, n+1, vendor)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPresetsAreListed(t *testing.T) {
	const want = "apns app-store-connect auth0 awx box-jwt check-point cisco-apic cisco-fmc commander cylance docker-registry emnify entra etcd f5-bigip " +
		"github-app google-service-account grafana graylog keycloak keystone okta pocketbase proxmox redfish rubrik salesforce-jwt snowflake-keypair " +
		"vault-approle vcenter veeam zabbix zoom-s2s"
	if got := strings.Join(http.Presets(), " "); got != want {
		t.Errorf("got %s", got)
	}
	if _, ok := http.Preset("../spec"); ok {
		t.Error("a path is no preset")
	}
}

var _ nethttp.RoundTripper = (*script)(nil)

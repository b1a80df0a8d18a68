package standin

import (
	"crypto/sha1"
	"encoding/hex"
	"net/http"
	"time"
)

// EmnifyOptions make an Emnify; zero values mean the documented ones.
type EmnifyOptions struct {
	ApplicationToken   string
	Username, Password string
	Fingerprint        string // of a trusted device; "": no second factor is wanted

	Access    time.Duration // 240 min
	Refresh   time.Duration // how long a refresh token lives (24 h; not published)
	Opaque    bool          // auth_tokens are no JWTs
	NoIat     bool          // auth_tokens say nothing of when they were made
	SameTwice bool          // every second login hands the last token out again
	Rotates   bool          // a refresh brings a new refresh token
	Punishes  bool          // a refresh token shown twice ends its session
	LockAfter int           // refusals that lock (3); below 0: never
	PerWindow int           // requests in 5 min (100)
}

// Emnify stands in for the REST API v1: POST /api/v1/authenticate and, for
// consumers, GET /api/v1/user.
type Emnify struct {
	base
	opt      EmnifyOptions
	tokens   map[string]time.Time
	refresh  map[string]time.Time
	spent    map[string]bool
	lockedTo time.Time
	refusals int
	last     string
	window   []time.Time
}

// NewEmnify returns an Emnify with one workspace.
func NewEmnify(o EmnifyOptions) *Emnify {
	if o.Access == 0 {
		o.Access = 240 * time.Minute
	}
	if o.Refresh == 0 {
		o.Refresh = 24 * time.Hour
	}
	if o.LockAfter == 0 {
		o.LockAfter = 3
	}
	if o.PerWindow == 0 {
		o.PerWindow = 100
	}
	return &Emnify{opt: o, tokens: map[string]time.Time{}, refresh: map[string]time.Time{}, spent: map[string]bool{}}
}

// Valid reports whether the API would accept a token now.
func (e *Emnify) Valid(token string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now().Before(e.tokens[token])
}

// IssueRefresh makes a refresh token, as the vendor's portal would.
func (e *Emnify) IssueRefresh() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.newRefresh(e.now())
}

// ServeHTTP implements http.Handler.
func (e *Emnify) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "POST /api/v1/authenticate":
		e.serve(w, r, e.authenticate)
	case "GET /api/v1/user":
		e.date(w)
		if !e.Valid(bearer(r)) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		sendJSON(w, http.StatusOK, []any{})
	default:
		e.date(w)
		sendJSON(w, http.StatusNotFound, map[string]any{"error_token": "NotFound"})
	}
}

func (e *Emnify) authenticate(w http.ResponseWriter, r *http.Request) {
	m := readJSON(r)
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	if e.overLimit(now) {
		sendJSON(w, http.StatusTooManyRequests, map[string]any{"error_code": 1105, "error_token": "TooManyRequests"})
		return
	}
	if shown := text(m, "refresh_token"); shown != "" {
		e.renew(w, shown, now)
		return
	}
	e.counts.Tries++
	if now.Before(e.lockedTo) {
		e.counts.Refused++
		sendJSON(w, http.StatusUnauthorized, map[string]any{"error_code": 1105, "error_token": "TooManyRequests", "message": "hunter2"})
		return
	}
	sum := sha1.Sum([]byte(e.opt.Password))
	_, hasApp := m["application_token"]
	switch {
	case hasApp && text(m, "application_token") == e.opt.ApplicationToken && e.opt.ApplicationToken != "":
		e.grant(w, now, false)
	case !hasApp && e.opt.Username != "" && text(m, "username") == e.opt.Username && text(m, "password") == hex.EncodeToString(sum[:]):
		if e.opt.Fingerprint != "" && text(m, "fingerprint") != e.opt.Fingerprint {
			sendJSON(w, http.StatusOK, map[string]any{"mfa_token": jwtOf(map[string]any{"exp": now.Add(time.Hour).Unix()})})
			return
		}
		e.grant(w, now, true)
	default:
		e.refuse(w, now)
	}
}

func (e *Emnify) overLimit(now time.Time) bool {
	for len(e.window) > 0 && now.Sub(e.window[0]) > 5*time.Minute {
		e.window = e.window[1:]
	}
	if len(e.window) >= e.opt.PerWindow {
		return true
	}
	e.window = append(e.window, now)
	return false
}

// refuse answers bad credentials as the vendor does: 401 without a body.
func (e *Emnify) refuse(w http.ResponseWriter, now time.Time) {
	e.counts.Refused++
	e.refusals++
	if e.opt.LockAfter > 0 && e.refusals >= e.opt.LockAfter {
		e.lockedTo, e.refusals = now.Add(5*time.Minute), 0
	}
	w.WriteHeader(http.StatusUnauthorized)
}

func (e *Emnify) grant(w http.ResponseWriter, now time.Time, user bool) {
	e.refusals = 0
	e.counts.Logins++
	out := map[string]any{}
	if e.opt.SameTwice && e.counts.Logins%2 == 0 && now.Before(e.tokens[e.last]) {
		out["auth_token"] = e.last
	} else {
		out["auth_token"] = e.issue(now)
	}
	if user {
		out["refresh_token"] = e.newRefresh(now)
	}
	sendJSON(w, http.StatusOK, out)
}

func (e *Emnify) renew(w http.ResponseWriter, shown string, now time.Time) {
	if e.spent[shown] && e.opt.Punishes {
		clear(e.refresh)
	}
	if !now.Before(e.refresh[shown]) {
		e.counts.Refused++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	e.counts.Refreshes++
	out := map[string]any{"auth_token": e.issue(now)}
	if e.opt.Rotates {
		delete(e.refresh, shown)
		e.spent[shown] = true
		out["refresh_token"] = e.newRefresh(now)
	}
	sendJSON(w, http.StatusOK, out)
}

func (e *Emnify) issue(now time.Time) string {
	until := now.Add(e.opt.Access).Truncate(time.Second)
	claims := map[string]any{"iss": "node-17", "aud": "/api/v1", "esc.app": 4711, "esc.org": 8623, "iat": now.Unix(), "exp": until.Unix()}
	if e.opt.NoIat {
		delete(claims, "iat")
	}
	t := jwtOf(claims)
	if e.opt.Opaque {
		t = "opaque-" + t[len(t)-40:]
	}
	e.tokens[t], e.last = until, t
	return t
}

func (e *Emnify) newRefresh(now time.Time) string {
	until := now.Add(e.opt.Refresh).Truncate(time.Second)
	t := jwtOf(map[string]any{"typ": "refresh", "exp": until.Unix()})
	e.refresh[t] = until
	return t
}

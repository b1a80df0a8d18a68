package standin

import (
	"net/http"
	"time"

	"renewd/agent/source/signer"
)

// CylanceOptions make a Cylance; zero values mean the documented ones.
type CylanceOptions struct {
	TenantID, AppID, AppSecret string

	Access     time.Duration // how long an access token lives (30 min)
	Tolerance  time.Duration // of clocks (1 min)
	Opaque     bool          // access tokens are no JWTs
	FlooredExp bool          // exp is whole seconds, and the server goes by it
	NoIat      bool          // access tokens say nothing of when they were made
	SameTwice  bool          // every second login hands the last token out again
}

// Cylance stands in for the User API v2: POST /auth/v2/token and, for
// consumers, GET /policies/v2.
type Cylance struct {
	base
	opt    CylanceOptions
	seen   map[string]bool // jti
	tokens map[string]time.Time
	last   string
	scopes any
}

// NewCylance returns a Cylance with one application.
func NewCylance(o CylanceOptions) *Cylance {
	if o.Access == 0 {
		o.Access = 30 * time.Minute
	}
	if o.Tolerance == 0 {
		o.Tolerance = time.Minute
	}
	return &Cylance{opt: o, seen: map[string]bool{}, tokens: map[string]time.Time{}}
}

// Scopes is what scp was at the last login: nil, a string or a list.
func (c *Cylance) Scopes() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scopes
}

// Valid reports whether the API would accept a token now.
func (c *Cylance) Valid(token string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now().Before(c.tokens[token])
}

// ServeHTTP implements http.Handler.
func (c *Cylance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "POST /auth/v2/token":
		c.serve(w, r, c.exchange)
	case "GET /policies/v2":
		c.date(w)
		if !c.Valid(bearer(r)) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		sendJSON(w, http.StatusOK, map[string]any{"page_items": []any{}})
	default:
		c.date(w)
		http.NotFound(w, r)
	}
}

func (c *Cylance) exchange(w http.ResponseWriter, r *http.Request) {
	m := readJSON(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Tries++
	status, why := c.check(text(m, "auth_token"), c.now())
	if status != http.StatusOK {
		c.counts.Refused++
		sendJSON(w, status, map[string]any{"message": why})
		return
	}
	c.counts.Logins++
	if c.opt.SameTwice && c.counts.Logins%2 == 0 && c.now().Before(c.tokens[c.last]) {
		sendJSON(w, http.StatusOK, map[string]any{"access_token": c.last})
		return
	}
	sendJSON(w, http.StatusOK, map[string]any{"access_token": c.issue()})
}

// check judges an auth_token; c.mu is held.
func (c *Cylance) check(token string, now time.Time) (status int, why string) {
	claims, err := signer.Verify(token, "HS256", []byte(c.opt.AppSecret))
	if err != nil {
		return http.StatusUnauthorized, "signature"
	}
	iat, okIat := claims["iat"].(float64)
	exp, okExp := claims["exp"].(float64)
	jti, _ := claims["jti"].(string)
	slack := c.opt.Tolerance.Seconds()
	at := float64(now.Unix())
	switch {
	case claims["iss"] != "http://cylance.com", claims["sub"] != c.opt.AppID, claims["tid"] != c.opt.TenantID:
		return http.StatusUnauthorized, "claims"
	case !okIat || !okExp || exp-iat > 1800:
		return http.StatusBadRequest, "exp"
	case iat > at+slack || exp < at-slack:
		return http.StatusBadRequest, "clock"
	case jti == "" || c.seen[jti]:
		return http.StatusUnauthorized, "jti"
	}
	switch claims["scp"].(type) {
	case nil, string, []any:
	default:
		return http.StatusBadRequest, "scp"
	}
	c.seen[jti] = true
	c.scopes = claims["scp"]
	return http.StatusOK, ""
}

func (c *Cylance) issue() string {
	now := c.now()
	until := now.Add(c.opt.Access)
	if c.opt.FlooredExp {
		until = until.Truncate(time.Second)
	}
	claims := map[string]any{"iat": now.Unix(), "exp": until.Unix(), "scp": c.scopes}
	if c.opt.NoIat {
		delete(claims, "iat")
	}
	token := jwtOf(claims)
	if c.opt.Opaque {
		token = "opaque-" + token[len(token)-40:]
	}
	c.tokens[token] = until
	c.last = token
	return token
}

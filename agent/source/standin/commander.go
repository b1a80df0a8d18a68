package standin

import (
	"net/http"
	"time"
)

// CommanderOptions make a Commander; zero values mean the documented ones. Each
// flag is the worst reading of a fact that nobody has published.
type CommanderOptions struct {
	Username, Password string
	Organization       string // that a portal user must send; "": must not be sent

	SpeedUp int // divides every span of time; 0: 1

	Access  time.Duration // how long a token lives (60 s)
	Session time.Duration // how long a session can be refreshed (15 min)

	Opaque        bool // tokens are no JWTs
	FlooredExp    bool // exp is whole seconds, and the server goes by it
	ExpIsSession  bool // exp is the hard limit, not the access window
	NoIat         bool // tokens say nothing of when they were made
	SameTwice     bool // every second login hands the last token out again
	RefreshKills  bool // a refresh kills the token that was shown
	RefreshLate   bool // a token past its window can be refreshed
	RefreshStatus int  // of a refresh (201)
	LockAfter     int  // refusals that lock the account for 5 min; 0: never
}

// Commander stands in for Commander's REST API v3. It serves POST
// /rest/v3/tokens, POST /rest/v3/tokens/refresh and, for consumers, GET
// /rest/v3/organizations, which wants a good token.
type Commander struct {
	base
	opt      CommanderOptions
	tokens   map[string]*commanderToken
	last     string // the token that was handed out last
	lockedTo time.Time
	refusals int
	logins   int
}

type commanderToken struct {
	until   time.Time // access window
	session time.Time // hard limit
	dead    bool
}

// NewCommander returns a Commander with one account.
func NewCommander(o CommanderOptions) *Commander {
	if o.SpeedUp < 1 {
		o.SpeedUp = 1
	}
	if o.Access == 0 {
		o.Access = time.Minute
	}
	if o.Session == 0 {
		o.Session = 15 * time.Minute
	}
	if o.RefreshStatus == 0 {
		o.RefreshStatus = http.StatusCreated
	}
	o.Access /= time.Duration(o.SpeedUp)
	o.Session /= time.Duration(o.SpeedUp)
	return &Commander{opt: o, tokens: map[string]*commanderToken{}}
}

// Access and Session are the spans that the server really goes by.
func (c *Commander) Access() time.Duration { return c.opt.Access }

// Session is how long a session can be refreshed.
func (c *Commander) Session() time.Duration { return c.opt.Session }

// SetPassword changes the account's password.
func (c *Commander) SetPassword(p string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opt.Password = p
}

// Revoke makes every token useless at once.
func (c *Commander) Revoke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tokens)
	c.last = ""
}

// Valid reports whether the API would accept a token now.
func (c *Commander) Valid(token string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.valid(token)
}

func (c *Commander) valid(token string) bool {
	t := c.tokens[token]
	return t != nil && !t.dead && c.now().Before(t.until)
}

// ServeHTTP implements http.Handler.
func (c *Commander) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "POST /rest/v3/tokens":
		c.serve(w, r, c.login)
	case "POST /rest/v3/tokens/refresh":
		c.serve(w, r, c.refresh)
	case "GET /rest/v3/organizations":
		c.api(w, r)
	default:
		c.date(w)
		http.NotFound(w, r)
	}
}

func (c *Commander) api(w http.ResponseWriter, r *http.Request) {
	c.date(w)
	c.mu.Lock()
	ok := c.valid(bearer(r))
	if ok {
		c.counts.Accepted++
	} else {
		c.counts.Denied++
	}
	c.mu.Unlock()
	if !ok {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	sendJSON(w, http.StatusOK, map[string]any{"items": []any{}})
}

func (c *Commander) login(w http.ResponseWriter, r *http.Request) {
	m := readJSON(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Tries++
	now := c.now()
	_, sent := m["organization"]
	good := text(m, "username") == c.opt.Username && text(m, "password") == c.opt.Password &&
		text(m, "organization") == c.opt.Organization && sent == (c.opt.Organization != "")
	if now.Before(c.lockedTo) || !good {
		c.refuse(now)
		sendJSON(w, http.StatusUnauthorized, map[string]any{"errors": []any{"hunter2"}})
		return
	}
	c.refusals = 0
	c.logins++
	c.counts.Logins++
	if c.opt.SameTwice && c.logins%2 == 0 && c.valid(c.last) {
		sendJSON(w, http.StatusCreated, map[string]any{"token": c.last})
		return
	}
	sendJSON(w, http.StatusCreated, map[string]any{"token": c.issue(now, now.Add(c.opt.Session))})
}

func (c *Commander) refuse(now time.Time) {
	c.counts.Refused++
	c.refusals++
	if c.opt.LockAfter > 0 && c.refusals >= c.opt.LockAfter {
		c.lockedTo = now.Add(5 * time.Minute / time.Duration(c.opt.SpeedUp))
		c.refusals = 0
	}
}

// issue makes a token; c.mu is held.
func (c *Commander) issue(now, session time.Time) string {
	until := now.Add(c.opt.Access)
	if until.After(session) {
		until = session
	}
	exp := until
	if c.opt.ExpIsSession {
		exp = session
	}
	var claim any = float64(exp.UnixMilli()) / 1000
	if c.opt.FlooredExp {
		claim = exp.Unix()
		if !c.opt.ExpIsSession {
			until = exp.Truncate(time.Second)
		}
	}
	claims := map[string]any{"sub": c.opt.Username, "iat": now.Unix(), "exp": claim}
	if c.opt.NoIat {
		delete(claims, "iat")
	}
	token := jwtOf(claims)
	if c.opt.Opaque {
		token = "opaque-" + token[len(token)-40:]
	}
	c.tokens[token] = &commanderToken{until: until, session: session}
	c.last = token
	c.sweep(now)
	return token
}

// sweep forgets tokens that nobody can use any more.
func (c *Commander) sweep(now time.Time) {
	if len(c.tokens) < 1000 {
		return
	}
	for k, t := range c.tokens {
		if now.After(t.session) {
			delete(c.tokens, k)
		}
	}
}

func (c *Commander) refresh(w http.ResponseWriter, r *http.Request) {
	shown := text(readJSON(r), "token")
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	t := c.tokens[shown]
	if t == nil || t.dead || !now.Before(t.session) || !now.Before(t.until) && !c.opt.RefreshLate {
		c.counts.Refused++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	c.counts.Refreshes++
	if c.opt.RefreshKills {
		t.dead = true
	}
	sendJSON(w, c.opt.RefreshStatus, map[string]any{"token": c.issue(now, t.session)})
}

package socket

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"renewd/agent"
)

// handler serves every call; the fast path answers some of them before.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/tokens", s.list)
	mux.HandleFunc("GET /v1/tokens/{name}", s.withToken(s.get))
	mux.HandleFunc("POST /v1/tokens/{name}/rejected", s.withToken(s.rejected))
	mux.HandleFunc("POST /v1/tokens/{name}/proof", s.withToken(s.proof))
	mux.HandleFunc("POST /v1/tokens/{name}/refresh", managersOnly(s.withToken(s.refresh)))
	mux.HandleFunc("POST /v1/tokens/{name}/login", managersOnly(s.withToken(s.login)))
	mux.HandleFunc("POST /v1/tokens/{name}/logout", managersOnly(s.withToken(s.logout)))
	mux.HandleFunc("POST /v1/reload", managersOnly(s.reload))
	mux.HandleFunc("GET /v1/events", s.eventStream)
	mux.HandleFunc("GET /v1/health", s.health)
	mux.HandleFunc("GET /metrics", s.metrics)
	return guard(mux)
}

// guard answers what no call is made for, and keeps bodies away from calls that
// have none: net/http would read up to 256 KiB of one for the sake of the next
// request.
func guard(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := connOf(r)
		c.greeted()
		if _, pattern := mux.Handler(r); pattern == "" {
			hangUp(w, r)
			noSuchCall(mux, w, r, c)
			return
		}
		if r.ContentLength != 0 && r.Method != http.MethodPost {
			hangUp(w, r)
			badRequest(w, "this call has no body")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func noSuchCall(mux *http.ServeMux, w http.ResponseWriter, r *http.Request, c *conn) {
	if !c.manager {
		forbidden(w)
		return
	}
	other := http.MethodGet
	if r.Method == other || r.Method == http.MethodHead {
		other = http.MethodPost
	}
	if _, pattern := mux.Handler(&http.Request{Method: other, URL: r.URL, Host: r.Host}); pattern != "" {
		w.Header().Set("Allow", other)
		(&problem{Detail: "this call is made with " + other}).answer(w, http.StatusMethodNotAllowed, "method")
		return
	}
	notFound(w, "there is no such call")
}

// hangUp ends the connection after the answer where a body is on its way that
// nobody will read.
func hangUp(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
}

func managersOnly(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !connOf(r).manager {
			hangUp(w, r)
			forbidden(w)
			return
		}
		h(w, r)
	}
}

type tokenHandler func(http.ResponseWriter, *http.Request, agent.Token)

// withToken finds the token and judges whether the caller may see it. Managers
// are told that a name does not exist.
func (s *Server) withToken(h tokenHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := connOf(r)
		t, ok := s.o.Agent.Token(r.PathValue("name"))
		switch {
		case ok && c.mayRead(t.Access()):
			h(w, r, t)
			return
		case ok:
			t.CountRead(agent.ReadDenied)
			s.o.Log.Debug("read denied", "peer", c.id, agent.KeyToken, t.Name())
		case c.manager:
			hangUp(w, r)
			notFound(w, "there is no token of that name")
			return
		}
		hangUp(w, r)
		forbidden(w)
	}
}

// caller is on whose account a renewal is asked for.
func caller(r *http.Request) agent.Caller {
	c := connOf(r)
	return agent.Caller{ID: c.id, Manager: c.manager}
}

// query reads the parameters that a call knows and refuses others, which are
// mostly misspelt.
func query(r *http.Request, known ...string) (url.Values, string) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, "the query cannot be read"
	}
	for _, key := range slices.Sorted(maps.Keys(q)) {
		if !slices.Contains(known, key) {
			return nil, "there is no parameter " + strconv.Quote(key) + " here; known are " + strings.Join(known, ", ")
		}
		if len(q[key]) > 1 && key != "name" {
			return nil, "the parameter " + strconv.Quote(key) + " is given twice"
		}
	}
	return q, ""
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

// logRead writes the audit line.
func (s *Server) logRead(c *conn, p *agent.Publication) {
	if s.audit.Load() {
		s.o.Log.Info("token read", "peer", c.id, "pid", c.peer.PID, agent.KeyToken, p.Name, agent.KeyGeneration, p.Generation)
	}
}

// visible lists the tokens that the caller may see, of those named where any are.
func (s *Server) visible(c *conn, names []string) (list []agent.Token, ok bool) {
	all := names
	if len(all) == 0 {
		all = s.o.Agent.Names()
	}
	for _, name := range all {
		t, found := s.o.Agent.Token(name)
		if found && c.mayRead(t.Access()) {
			list = append(list, t)
		} else if len(names) > 0 {
			return nil, false
		}
	}
	return list, true
}

// refuseNames answers for names that the caller may not see or that are not.
func refuseNames(w http.ResponseWriter, c *conn) {
	if c.manager {
		notFound(w, "there is no token of that name")
		return
	}
	forbidden(w)
}

// chosen are the tokens that a call is about: those named in the query, or all
// that the caller may see. Where ok is false the call has been answered.
func (s *Server) chosen(w http.ResponseWriter, r *http.Request) (tokens []agent.Token, ok bool) {
	c := connOf(r)
	q, wrong := query(r, "name")
	if wrong != "" {
		badRequest(w, wrong)
		return nil, false
	}
	if tokens, ok = s.visible(c, q["name"]); !ok {
		refuseNames(w, c)
	}
	return tokens, ok
}

// list tells how the tokens are, without values. It is written token by token: of
// a hundred thousand no whole list is kept.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	c := connOf(r)
	tokens, ok := s.chosen(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	head := struct {
		Version     string    `json:"version,omitempty"`
		Time        time.Time `json:"time"`
		StateError  string    `json:"state_error,omitempty"`
		ConfigError string    `json:"config_error,omitempty"`
		About
	}{Version: s.o.Version, Time: s.o.Agent.Now().Wall.UTC()}
	if c.manager {
		head.ConfigError = s.o.ConfigError()
		if s.o.About != nil {
			head.About = s.o.About()
		}
		if err := s.o.Agent.StateError(); err != nil {
			head.StateError = err.Error()
		}
	}
	b, err := json.Marshal(head)
	if err != nil {
		panic(err) // strings and a time
	}
	_, _ = w.Write(append(b[:len(b)-1], `,"tokens":[`...))
	for i, t := range tokens {
		st := t.Status()
		if !c.manager {
			st.Sinks = nil // paths of the machine are no reader's business
		}
		b, err := json.Marshal(st)
		if err != nil {
			continue
		}
		if i > 0 {
			b = append([]byte(","), b...)
		}
		if _, err := w.Write(b); err != nil {
			return
		}
	}
	_, _ = w.Write([]byte("]}\n"))
}

// ill is one token that health complains of.
type ill struct {
	Name  string      `json:"name"`
	State agent.State `json:"state"`
	Kind  agent.Kind  `json:"kind,omitempty"`
	Why   string      `json:"why"`
}

// unwell finds the tokens that are not valid or whose renewal is overdue.
func unwell(tokens []agent.Token) []ill {
	var list []ill
	for _, t := range tokens {
		st := t.Status()
		overdue := t.Overdue()
		if st.Valid && !overdue {
			continue
		}
		i := ill{Name: st.Name, State: st.State, Why: "not valid"}
		if st.Valid {
			i.Why = "its renewal is overdue"
		}
		if len(st.Problems) > 0 {
			i.Kind = st.Problems[0].Kind
			i.Why += ": " + st.Problems[0].Detail
		}
		list = append(list, i)
	}
	return list
}

// health is 200 while all that the caller may see is well.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	tokens, ok := s.chosen(w, r)
	if !ok {
		return
	}
	if list := unwell(tokens); len(list) > 0 {
		p := &problem{Detail: fmt.Sprintf("%d of %d tokens are not well", len(list), len(tokens)), Unwell: list, wait: 5 * time.Second}
		p.answer(w, http.StatusServiceUnavailable, "unwell")
		return
	}
	writeJSON(w, http.StatusOK, struct {
		OK     bool `json:"ok"`
		Tokens int  `json:"tokens"`
	}{true, len(tokens)})
}

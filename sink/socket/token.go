package socket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"renewd/agent"
	"renewd/sink"
)

const (
	longestWait = 5 * time.Minute
	askedWait   = 10 * time.Second // for a renewal that was asked for
)

// socketFormats are those that a query may ask for; netrc and template need
// settings of their own.
func socketFormats() []string { return []string{"json", "raw", "header", "env", "curl"} }

// wish is what a caller asks of a token; all of it must hold.
type wish struct {
	format   string
	minValid time.Duration
	after    uint64 // a generation above this
	hasAfter bool
	wait     time.Duration
}

func readWish(r *http.Request, wait time.Duration, more ...string) (wish, string) {
	w := wish{format: "json", wait: wait}
	q, wrong := query(r, append([]string{"format", "min_valid", "after", "wait"}, more...)...)
	if wrong != "" {
		return w, wrong
	}
	if q.Has("format") {
		if w.format = q.Get("format"); !slices.Contains(socketFormats(), w.format) {
			return w, "format: it is none of " + strings.Join(socketFormats(), ", ")
		}
	}
	var err error
	if q.Has("min_valid") {
		if w.minValid, err = parseDuration(q.Get("min_valid")); err != nil {
			return w, "min_valid: write it as 90s, 15m or 4h"
		}
	}
	if q.Has("wait") {
		if w.wait, err = parseDuration(q.Get("wait")); err != nil {
			return w, "wait: write it as 90s or 5m"
		}
		w.wait = min(w.wait, longestWait)
	}
	if q.Has("after") {
		w.hasAfter = true
		if w.after, err = strconv.ParseUint(q.Get("after"), 10, 64); err != nil {
			return w, "after: it is no generation's number"
		}
	}
	return w, ""
}

// enough reports whether p lives long enough, whatever its generation.
func (w *wish) enough(p *agent.Publication, now agent.Instant) bool {
	left := p.Remaining(now)
	return left > 0 && left >= w.minValid
}

func (w *wish) met(p *agent.Publication, now agent.Instant) bool {
	return w.enough(p, now) && (!w.hasAfter || p.Generation > w.after)
}

// get answers with the token, waiting and renewing as far as it is asked to.
func (s *Server) get(rw http.ResponseWriter, r *http.Request, t agent.Token) {
	w, wrong := readWish(r, 0)
	if wrong != "" {
		badRequest(rw, wrong)
		return
	}
	p, now := t.Current(), s.o.Agent.Now()
	switch {
	case p != nil && w.met(p, now):
		s.give(rw, r, t, p, w.format, false)
		return
	case w.minValid > 0 && t.Longest() > 0 && w.minValid >= t.Longest():
		(&problem{Name: t.Name(), Detail: fmt.Sprintf("min_valid: %v was asked for, and tokens of this source live %v", w.minValid, t.Longest())}).
			answer(rw, http.StatusConflict, "never-that-long")
		return
	case p != nil && w.hasAfter && w.after > p.Generation:
		// The caller has seen a generation that is not known here: the state was
		// lost since, and it would wait for ever.
		if w.hasAfter = false; w.enough(p, now) {
			s.give(rw, r, t, p, w.format, true)
			return
		}
	}
	if p == nil || !w.enough(p, now) {
		if err := t.Want(caller(r)); err != nil && p != nil && p.Remaining(now) > 0 {
			later(rw, err) // there is a token; it is the wish that costs
			return
		}
	}
	p, ok := s.await(r.Context(), t, &w)
	if ok {
		s.give(rw, r, t, p, w.format, false)
		return
	}
	s.disappoint(rw, r, t, p, &w)
}

// disappoint says that what was asked for did not come about.
func (s *Server) disappoint(rw http.ResponseWriter, r *http.Request, t agent.Token, p *agent.Publication, w *wish) {
	now := s.o.Agent.Now()
	if _, there := s.o.Agent.Token(t.Name()); !there {
		refuseNames(rw, connOf(r))
		return
	}
	if p != nil && w.hasAfter && w.enough(p, now) {
		rw.Header().Set("Cache-Control", "no-store")
		rw.Header().Set("ETag", etag(p, w.format))
		rw.WriteHeader(http.StatusNotModified)
		return
	}
	t.CountRead(agent.ReadNotValid)
	st := t.Status()
	detail := "there is no valid token"
	if st.Valid {
		detail = "the token does not live as long as was asked for"
	}
	notValid(rw, &st, now.Wall, detail)
}

// await waits until the wish is met. Where nothing is on its way but the token
// there is still good, only a newer one is missing: then it waits on, since a
// caller that was sent away would only ask again at once.
func (s *Server) await(ctx context.Context, t agent.Token, w *wish) (*agent.Publication, bool) {
	if w.wait <= 0 {
		return t.Current(), false
	}
	ctx, cancel := context.WithTimeout(ctx, w.wait)
	defer cancel()
	met := func(p *agent.Publication) bool { return w.met(p, s.o.Agent.Now()) }
	p, ok := t.Await(ctx, met)
	if ok || ctx.Err() != nil || !w.hasAfter || p == nil || !w.enough(p, s.o.Agent.Now()) {
		return p, ok
	}
	sub, _, _ := s.o.Agent.Subscribe(0)
	defer sub.Close()
	for {
		if p, ok = t.Await(ctx, met); ok || ctx.Err() != nil {
			return p, ok
		}
		if !nextOf(ctx, sub, t.Name()) {
			return t.Current(), false
		}
	}
}

// nextOf waits for the next event of one token.
func nextOf(ctx context.Context, sub *agent.Subscription, name string) bool {
	for {
		select {
		case e, ok := <-sub.C:
			if !ok || e.Name == name {
				return ok
			}
		case <-ctx.Done():
			return false
		}
	}
}

// give writes the token.
func (s *Server) give(rw http.ResponseWriter, r *http.Request, t agent.Token, p *agent.Publication, format string, reset bool) {
	h := rw.Header()
	tag := etag(p, format)
	if r.Method != http.MethodPost && !reset && matches(r.Header.Values("If-None-Match"), tag) {
		h.Set("Cache-Control", "no-store")
		h.Set("ETag", tag)
		rw.WriteHeader(http.StatusNotModified)
		return
	}
	body, err := s.formats[format].Render(p)
	if errors.Is(err, sink.ErrNoHeader) {
		(&problem{Name: p.Name, Detail: err.Error(), Hint: "ask for it as curl, env or json"}).answer(rw, http.StatusBadRequest, "bad-request")
		return
	}
	if err != nil {
		(&problem{Name: p.Name, Detail: err.Error()}).answer(rw, http.StatusInternalServerError, "format")
		return
	}
	if reset {
		h.Set("Renewd-State-Reset", "true")
		if format == "json" {
			body = append(bytes.TrimSuffix(body, []byte("}\n")), `,"state_reset":true}`+"\n"...)
		}
	}
	s.tokenHeader(h, p, format, len(body))
	t.CountRead(agent.ReadOK)
	s.logRead(connOf(r), p)
	_, _ = rw.Write(body)
}

// matches judges If-None-Match (RFC 9110 section 13.1.2) by weak comparison.
func matches(fields []string, tag string) bool {
	for _, one := range strings.Split(strings.Join(fields, ","), ",") {
		one = strings.TrimSpace(one)
		if one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}

// rejected takes word that an API refused a generation, and answers with another
// one or not at all.
func (s *Server) rejected(rw http.ResponseWriter, r *http.Request, t agent.Token) {
	var body struct {
		Generation *uint64 `json:"generation"`
	}
	if err := readBody(rw, r, &body); err != nil {
		badRequest(rw, err.Error())
		return
	}
	w, wrong := readWish(r, askedWait)
	if wrong == "" && body.Generation == nil {
		wrong = `the body names no generation: {"generation":12}`
	}
	if wrong != "" {
		badRequest(rw, wrong)
		return
	}
	reset, err := t.Reject(*body.Generation, caller(r))
	if err != nil {
		later(rw, err)
		return
	}
	if reset {
		if p := t.Current(); p != nil && w.enough(p, s.o.Agent.Now()) {
			s.give(rw, r, t, p, w.format, true)
			return
		}
		w.hasAfter = false
	} else {
		w.after, w.hasAfter = max(w.after, *body.Generation), true
	}
	s.answerRenewal(rw, r, t, &w, func(p *agent.Publication) bool { return w.met(p, s.o.Agent.Now()) })
}

// refresh renews now.
func (s *Server) refresh(rw http.ResponseWriter, r *http.Request, t agent.Token) {
	w, wrong := readWish(r, askedWait)
	if err := readBody(rw, r, nil); wrong == "" && err != nil {
		wrong = err.Error()
	}
	if wrong != "" {
		badRequest(rw, wrong)
		return
	}
	before := uint64(0)
	if p := t.Current(); p != nil {
		before = p.Revision
	}
	if err := t.Refresh(r.Context(), caller(r)); err != nil {
		later(rw, err)
		return
	}
	s.answerRenewal(rw, r, t, &w, func(p *agent.Publication) bool {
		return p.Revision > before && w.met(p, s.o.Agent.Now())
	})
}

// answerRenewal waits for what a renewal brings; without it the answer is 503,
// even where an older token is still valid.
func (s *Server) answerRenewal(rw http.ResponseWriter, r *http.Request, t agent.Token, w *wish, done func(*agent.Publication) bool) {
	ctx, cancel := context.WithTimeout(r.Context(), w.wait)
	defer cancel()
	p, ok := t.Await(ctx, done)
	if ok {
		s.give(rw, r, t, p, w.format, false)
		return
	}
	if _, there := s.o.Agent.Token(t.Name()); !there {
		refuseNames(rw, connOf(r))
		return
	}
	t.CountRead(agent.ReadNotValid)
	st := t.Status()
	notValid(rw, &st, s.o.Agent.Now().Wall, "the renewal has not brought another token yet")
}

// login logs in anew. It answers with the token's status; where a person is
// needed and the caller can show them a prompt, with what they are to do first.
func (s *Server) login(rw http.ResponseWriter, r *http.Request, t agent.Token) {
	w, wrong := readWish(r, 0, "prompt")
	if err := readBody(rw, r, nil); wrong == "" && err != nil {
		wrong = err.Error()
	}
	if wrong != "" {
		badRequest(rw, wrong)
		return
	}
	if t.NeedsPerson() {
		if r.URL.Query().Get("prompt") == "true" {
			s.signIn(rw, r, t)
			return
		}
		(&problem{Name: t.Name(), Kind: agent.NeedsHuman, Detail: "a person has to sign in, and this call cannot show them how", Hint: "run: renewd login " + t.Name()}).
			answer(rw, http.StatusConflict, "person")
		return
	}
	before := uint64(0)
	if p := t.Current(); p != nil {
		before = p.Revision
	}
	if err := t.SignIn(caller(r)); err != nil {
		later(rw, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), w.wait)
	defer cancel()
	done := w.wait > 0 && t.AwaitLogin(ctx, before)
	st := t.Status()
	switch {
	case done:
		writeJSON(rw, http.StatusOK, st)
	case w.wait > 0 && ctx.Err() == nil:
		loginFailed(rw, &st, s.o.Agent.Now().Wall)
	default:
		writeJSON(rw, http.StatusAccepted, st) // it goes on
	}
}

// logout ends the session; once begun it goes on without the caller.
func (s *Server) logout(rw http.ResponseWriter, r *http.Request, t agent.Token) {
	if err := readBody(rw, r, nil); err != nil {
		badRequest(rw, err.Error())
		return
	}
	out := struct {
		Name    string `json:"name"`
		Revoked bool   `json:"revoked"` // the server was told, or need not be
		Detail  string `json:"detail,omitempty"`
	}{Name: t.Name(), Revoked: true}
	if err := t.Logout(r.Context()); err != nil {
		out.Revoked, out.Detail = false, "the server could not be told"
		if e, ok := errors.AsType[*agent.Error](err); ok {
			out.Detail += ": " + e.Detail
		}
	}
	writeJSON(rw, http.StatusOK, out)
}

// reload reads the config again.
func (s *Server) reload(rw http.ResponseWriter, r *http.Request) {
	if err := readBody(rw, r, nil); err != nil {
		badRequest(rw, err.Error())
		return
	}
	if s.o.Reload == nil {
		(&problem{Detail: "this agent has no config file"}).answer(rw, http.StatusConflict, "no-config")
		return
	}
	again, err := s.o.Reload(context.WithoutCancel(r.Context()))
	if err == nil {
		writeJSON(rw, http.StatusOK, struct {
			OK    bool `json:"ok"`
			Again bool `json:"starts_again,omitempty"`
		}{true, again})
		return
	}
	p := &problem{Detail: "the config has errors; nothing was changed"}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			p.Errors = append(p.Errors, e.Error())
		}
	} else {
		p.Errors = []string{err.Error()}
	}
	p.answer(rw, http.StatusConflict, "config")
}

package socket

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"renewd/agent"
)

// problem is an answer that is no success, as RFC 9457 has it.
type problem struct {
	Type   string     `json:"type"`
	Title  string     `json:"title"`
	Status int        `json:"status"`
	Detail string     `json:"detail"`
	Kind   agent.Kind `json:"kind,omitempty"` // of the failure behind it
	Hint   string     `json:"hint,omitempty"`

	Name       string      `json:"name,omitempty"`
	State      agent.State `json:"state,omitempty"`
	Valid      bool        `json:"valid,omitempty"` // what there was before still is
	StateReset bool        `json:"state_reset,omitempty"`
	Errors     []string    `json:"errors,omitempty"`
	Unwell     []ill       `json:"unwell,omitempty"`

	wait time.Duration // Retry-After
}

// answer writes p; slug ends its type.
func (p *problem) answer(w http.ResponseWriter, status int, slug string) {
	p.Type, p.Title, p.Status = "urn:renewd:problem:"+slug, http.StatusText(status), status
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers alone
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		h.Set("Retry-After", strconv.Itoa(int(max(1, math.Ceil(p.wait.Seconds())))))
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

func badRequest(w http.ResponseWriter, detail string) {
	(&problem{Detail: detail}).answer(w, http.StatusBadRequest, "bad-request")
}

// forbidden says the same whatever was asked for, so that nobody learns which
// names exist.
func forbidden(w http.ResponseWriter) {
	(&problem{Detail: "this caller may not do that", Hint: "a manager, or `allow` of the token, can give access"}).
		answer(w, http.StatusForbidden, "forbidden")
}

func notFound(w http.ResponseWriter, detail string) {
	(&problem{Detail: detail}).answer(w, http.StatusNotFound, "not-found")
}

// later answers an *agent.Later with 429.
func later(w http.ResponseWriter, err error) {
	p := &problem{Detail: "the renewal was not granted", wait: time.Minute}
	if l, ok := errors.AsType[*agent.Later](err); ok {
		p.Detail, p.wait = l.Why, l.Wait
	}
	p.answer(w, http.StatusTooManyRequests, "later")
}

// notValid answers that the token cannot be given, and why.
func notValid(w http.ResponseWriter, st *agent.Status, now time.Time, detail string) {
	p := &problem{Name: st.Name, State: st.State, Detail: detail, wait: retryAfter(st, now)}
	if len(st.Problems) > 0 {
		why := st.Problems[0]
		p.Kind, p.Hint = why.Kind, why.Hint
		p.Detail += ": " + why.Detail
	}
	p.answer(w, http.StatusServiceUnavailable, "not-valid")
}

// loginFailed answers why a login that was asked for has brought nothing.
func loginFailed(w http.ResponseWriter, st *agent.Status, now time.Time) {
	p := &problem{Name: st.Name, State: st.State, Valid: st.Valid, Detail: "the login failed", wait: retryAfter(st, now)}
	for _, why := range st.Problems {
		if why.Step != agent.StepLogin {
			continue
		}
		p.Kind, p.Hint = why.Kind, why.Hint
		p.Detail += ": " + string(why.Kind) + ": " + why.Detail
		if p.Hint == "" && !st.NextRenewal.IsZero() {
			p.Hint = "it is tried again by itself; see: renewd status " + st.Name
		}
		break
	}
	if st.Valid {
		p.Detail += "; the token of before is still valid"
	}
	p.answer(w, http.StatusServiceUnavailable, "login")
}

// retryAfter is when asking again may help.
func retryAfter(st *agent.Status, now time.Time) time.Duration {
	if st.Renewing {
		return time.Second
	}
	wait := time.Duration(0)
	if !st.NextRenewal.IsZero() {
		wait = st.NextRenewal.Sub(now)
	}
	for _, p := range st.Problems {
		if !p.Until.IsZero() {
			wait = max(wait, p.Until.Sub(now))
		}
	}
	return min(max(wait, time.Second), time.Hour)
}

// parseDuration reads Go's durations and days, as the config does.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("it is negative")
	}
	return d, err
}

// readBody decodes a small JSON body into v. Its time is bounded, and too much of
// it ends the connection.
func readBody(w http.ResponseWriter, r *http.Request, v any) error {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(headTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	_ = rc.SetReadDeadline(time.Time{})
	if err != nil {
		w.Header().Set("Connection", "close")
		return errors.New("the body is too long or did not come in time")
	}
	if len(body) == 0 || v == nil {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return errors.New("the body is not the JSON that was expected")
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("the body goes on after its JSON")
	}
	return nil
}

// epoch is different in every process.
func epoch() string { return strings.ToLower(rand.Text()[:8]) }

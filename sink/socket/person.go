package socket

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"renewd/agent"
)

// signInLine is one line of the answer to a login that a person does: first what
// they are to do, in the end the token's status, or why there is none.
type signInLine struct {
	Prompt *agent.Prompt `json:"prompt,omitempty"`
	Status *agent.Status `json:"status,omitempty"`
	Error  *problem      `json:"error,omitempty"`
}

// lineTimeout is how long a client may take to read a line.
const lineTimeout = 5 * time.Second

// signIn leads a person through a login: one JSON object a line.
func (s *Server) signIn(rw http.ResponseWriter, r *http.Request, t agent.Token) {
	h := rw.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Cache-Control", "no-store")
	conn := http.NewResponseController(rw)
	write := func(l signInLine) {
		body, err := json.Marshal(l)
		if err != nil {
			panic(err) // strings and numbers alone
		}
		_ = conn.SetWriteDeadline(time.Now().Add(lineTimeout))
		_, _ = rw.Write(append(body, '\n')) // who is gone is noticed by the request's context
		_ = conn.Flush()
	}
	err := t.SignInWith(r.Context(), func(p agent.Prompt) { write(signInLine{Prompt: &p}) })
	if err == nil {
		st := t.Status()
		write(signInLine{Status: &st})
		return
	}
	p := &problem{Type: "urn:renewd:problem:sign-in", Title: "signing in failed", Name: t.Name(), Detail: "nobody signed in", Kind: agent.NeedsHuman, Hint: "try again: renewd login " + t.Name()}
	if errors.Is(err, agent.ErrStopped) || r.Context().Err() != nil { // who hung up reads nothing
		p.Type, p.Kind, p.Detail = "urn:renewd:problem:stopped", agent.Transient, agent.ErrStopped.Error()
	}
	if e, ok := errors.AsType[*agent.Error](err); ok {
		p.Detail, p.Kind = e.Detail, e.Kind
		if e.Hint != "" {
			p.Hint = e.Hint
		}
	}
	write(signInLine{Error: p})
}

// proof makes a proof that the caller presents with the token. The key stays
// here.
func (s *Server) proof(rw http.ResponseWriter, r *http.Request, t agent.Token) {
	var in struct {
		Method string `json:"method"`
		URL    string `json:"url"`
		Nonce  string `json:"nonce"`
	}
	if err := readBody(rw, r, &in); err != nil {
		badRequest(rw, err.Error())
		return
	}
	proof, err := t.Proof(in.Method, in.URL, in.Nonce)
	switch {
	case errors.Is(err, agent.ErrNoProof):
		(&problem{Name: t.Name(), Detail: "this token is presented without a proof"}).answer(rw, http.StatusConflict, "no-proof")
	case err != nil:
		(&problem{Name: t.Name(), Detail: err.Error()}).answer(rw, http.StatusConflict, "no-proof")
	default:
		writeJSON(rw, http.StatusOK, map[string]string{"proof": proof})
	}
}

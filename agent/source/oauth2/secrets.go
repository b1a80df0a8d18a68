package oauth2

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"iter"
	"os"
	"slices"
	"strings"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/signer"
	"renewd/agent/source/wire"
)

// named is a secret that the Spec names, with the path of its key.
type named struct {
	path string
	ref  *secret.Ref
}

// secrets are those that are given.
func (s *Spec) secrets() []named {
	all := []named{{"client_secret", s.ClientSecret}, {"client_key", s.ClientKey}, {"client_assertion", s.ClientAssertion}, {"refresh_token", s.RefreshToken}, {"password", s.Password}}
	if s.Assertion != nil {
		all = append(all, named{"assertion.key", s.Assertion.Key}, named{"assertion.value", s.Assertion.Value})
	}
	for _, t := range []struct {
		key string
		s   *Subject
	}{{"subject_token", s.SubjectToken}, {"actor_token", s.ActorToken}} {
		if t.s != nil && t.s.Token == "" {
			all = append(all, named{t.key, &t.s.Secret})
		}
	}
	return slices.DeleteFunc(all, func(n named) bool { return n.ref == nil })
}

// Secrets are this source's secrets by the path of the key that names each. All
// of them are its own.
func (s *Source) Secrets(own bool) iter.Seq2[string, secret.Handle] {
	return func(yield func(string, secret.Handle) bool) {
		if !own {
			return
		}
		for _, n := range s.spec.secrets() {
			if !yield(n.path, n.ref.Handle()) {
				return
			}
		}
	}
}

// Files are the files whose change may change a secret of this source.
func (s *Source) Files() []string {
	out := slices.Clone(s.files)
	for _, h := range s.Secrets(true) {
		if f := h.File(); f != "" {
			out = append(out, f)
		}
	}
	return out
}

// Subjects are the other tokens that this one is made from, by the path of the
// key that names each.
func (s *Source) Subjects() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if t := s.spec.SubjectToken; t != nil && t.Token != "" && !yield("subject_token.token", t.Token) {
			return
		}
		if t := s.spec.ActorToken; t != nil && t.Token != "" {
			yield("actor_token.token", t.Token)
		}
	}
}

// tlsFiles notes the client certificate: it is what such a client proves itself
// with.
func (s *Source) tlsFiles(t wire.TLS) {
	if t.CertFile != "" {
		s.files = []string{string(t.CertFile), string(t.KeyFile)}
	}
}

// material is the secrets of one attempt, read.
type material struct {
	clientSecret       string
	clientKey          signer.Key
	clientAlgorithm    string
	clientAssertion    string // made elsewhere
	password           string
	assertionKey       signer.Key
	assertionAlgorithm string
	assertion          string // made elsewhere
	subject, actor     string

	digest hash.Hash // of all that was read
}

// load reads what the step needs. What fails here was never sent.
func (x *exchange) load(ctx context.Context) error {
	x.mat.digest = sha256.New()
	if x.state = readPrivate(x.session.Private); x.step == agent.StepLogin {
		x.state = private{Rotates: x.src.rotated.Load()}
	}
	err := x.loadSecrets(ctx)
	if err == nil && x.src.spec.DPoP && x.step != agent.StepLogout {
		err = x.loadKey()
	}
	if err == nil {
		return nil
	}
	if e, ok := err.(*agent.Error); ok { //nolint:errorlint // made right here
		e.Step = x.step
		return e
	}
	kind := agent.Misconfigured
	if ctx.Err() != nil {
		kind = agent.Transient
	}
	return &agent.Error{Kind: kind, Step: x.step, Detail: err.Error(), Unsent: true, Err: err}
}

func (x *exchange) loadSecrets(ctx context.Context) (err error) {
	s, m := x.src.spec, &x.mat
	if m.clientSecret, err = x.read(ctx, s.ClientSecret); err != nil {
		return err
	}
	if err := x.loadClientKey(ctx); err != nil {
		return err
	}
	if m.clientAssertion, err = x.made(ctx, "client_assertion", s.ClientAssertion); err != nil {
		return err
	}
	for _, f := range x.src.files {
		b, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("read %q: it cannot be read", f)
		}
		m.add("file", string(b))
	}
	if x.step != agent.StepLogin {
		return nil
	}
	if m.password, err = x.read(ctx, s.Password); err != nil {
		return err
	}
	if a := s.Assertion; a != nil && a.Value != nil {
		if m.assertion, err = x.made(ctx, "assertion.value", a.Value); err != nil {
			return err
		}
	} else if a != nil {
		text, err := x.read(ctx, a.Key)
		if err == nil {
			m.assertionAlgorithm, m.assertionKey, err = parseKey(a.Algorithm, text)
		}
		if err != nil {
			return fmt.Errorf("assertion.key: %w", err)
		}
	}
	if m.subject, err = x.subject(ctx, s.SubjectToken); err == nil {
		m.actor, err = x.subject(ctx, s.ActorToken)
	}
	return err
}

func (x *exchange) loadClientKey(ctx context.Context) error {
	s, m := x.src.spec, &x.mat
	if s.ClientKey == nil {
		return nil
	}
	text, err := x.read(ctx, s.ClientKey)
	if err == nil {
		m.clientAlgorithm, m.clientKey, err = parseKey(s.Algorithm, text)
	}
	if err != nil {
		return fmt.Errorf("client_key: %w", err)
	}
	return nil
}

// made reads a JWT that something else signs. One that has expired is not sent:
// it would only be refused.
func (x *exchange) made(ctx context.Context, key string, ref *secret.Ref) (string, error) {
	if ref == nil {
		return "", nil
	}
	text, err := x.read(ctx, ref)
	if err != nil {
		return "", err
	}
	text = strings.TrimSpace(text)
	t := signer.Peek(text)
	switch {
	case !legal(text) || strings.Count(text, ".") != 2:
		return "", fmt.Errorf("%s: is no signed JWT", key)
	case !t.Exp.IsZero() && !t.Exp.After(x.src.now(x.src.home())):
		return "", &agent.Error{Kind: agent.Misconfigured, Unsent: true, Detail: key + " has expired", Hint: "what keeps it fresh does not"}
	}
	return text, nil
}

// parseKey makes a key of its text, for an algorithm or for its usual one.
func parseKey(algorithm, text string) (string, signer.Key, error) {
	var err error
	if algorithm == "" {
		if algorithm, err = signer.AlgorithmFor([]byte(text)); err != nil {
			return "", signer.Key{}, err
		}
	}
	k, err := signer.ParseKey(algorithm, []byte(text))
	return algorithm, k, err
}

// read reads one secret; none gives "".
func (x *exchange) read(ctx context.Context, ref *secret.Ref) (string, error) {
	if ref == nil {
		return "", nil
	}
	v, err := x.src.env.Secrets.Resolve(ctx, *ref)
	if err != nil {
		return "", err
	}
	x.mat.add("secret", v.Reveal())
	return v.Reveal(), nil
}

// subject gives the token to exchange.
func (x *exchange) subject(ctx context.Context, t *Subject) (string, error) {
	if t == nil {
		return "", nil
	}
	if t.Token == "" {
		text, err := x.read(ctx, &t.Secret)
		return strings.TrimSpace(text), err
	}
	if x.src.env.Token == nil {
		return "", &agent.Error{Kind: agent.Misconfigured, Unsent: true, Detail: fmt.Sprintf("the token %q is the agent's, and there is no agent here", t.Token)}
	}
	v, ok := x.src.env.Token(t.Token)
	if !ok || v.IsZero() {
		return "", &agent.Error{Kind: agent.Transient, Unsent: true, Detail: fmt.Sprintf("the token %q, which is to be exchanged, is not valid now", t.Token),
			Hint: "look at: renewd status " + t.Token}
	}
	x.mat.add("token", v.Reveal())
	return v.Reveal(), nil
}

func (m *material) add(what, text string) {
	fmt.Fprintf(m.digest, "%s %d %s\n", what, len(text), text)
}

// credential is what the server would count a try against.
func (x *exchange) credential() agent.Credential {
	principal := x.src.principal()
	if x.mat.assertion != "" { // another one each time, of the same principal
		var who struct {
			Iss any `json:"iss"`
			Sub any `json:"sub"`
		}
		_ = json.Unmarshal(signer.Payload(x.mat.assertion), &who)
		principal += fmt.Sprintf("\x1f%v\x1f%v", who.Iss, who.Sub)
	}
	return agent.Credential{Origin: x.src.client.Host(x.src.home()).Origin, Principal: principal, Digest: [32]byte(x.mat.digest.Sum(nil))}
}

// findRefreshToken decides which refresh token to send: the session's, or the
// config's first one where there is none yet or where it was changed.
func (x *exchange) findRefreshToken(ctx context.Context) error {
	x.refresh = x.session.RefreshToken.Reveal()
	ref := x.src.spec.RefreshToken
	if ref == nil {
		if x.refresh == "" {
			return agent.ErrPassedOver
		}
		return nil
	}
	first, err := x.src.env.Secrets.Resolve(ctx, *ref)
	switch {
	case err != nil && x.refresh != "":
		return nil // the first one may be gone: it was spent long ago
	case err != nil:
		return unbuilt(x.step, err)
	}
	x.seed = seedOf(first.Reveal())
	if x.session.Dead && x.session.Seed == x.seed {
		return agent.ErrPassedOver
	}
	if x.refresh == "" || x.session.Seed != x.seed {
		x.refresh = first.Reveal()
		x.session.Private = agent.Secret{} // what was learnt of another session
	}
	return nil
}

// seedOf names a refresh token of the config without holding it.
func seedOf(token string) string {
	sum := sha256.Sum256([]byte("renewd oauth2 refresh token of the config\x00" + token))
	return fmt.Sprintf("%x", sum[:8])
}

// private is what a Source keeps in the session for itself.
type private struct {
	Key       string `json:"key,omitempty"` // that tokens are bound to: PKCS#8, PEM
	Algorithm string `json:"algorithm,omitempty"`
	Rotates   bool   `json:"rotates,omitempty"` // a refresh brought another refresh token
	Fewer     string `json:"fewer,omitempty"`   // what Grant.Note said of the session's scopes
}

package jwt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/signer"
	"renewd/agent/source/spec"
)

const mostLifetime = 10 * 365 * 24 * time.Hour

// Source signs a token for each login. It implements agent.Source.
type Source struct {
	spec               *Spec
	key                secret.Handle
	secrets            *secret.Resolver
	clock              agent.Clock
	lifetime, backdate time.Duration
	traits             agent.Traits
}

// New checks s and makes its Source; nil where a problem is fatal.
func New(s *Spec, clock agent.Clock, secrets *secret.Resolver) (*Source, []spec.Problem) {
	var p spec.Problems
	if !slices.Contains(signer.Algorithms(), s.Algorithm) {
		p.Add("algorithm", "%q is not known", s.Algorithm).Hint = spec.Meant(s.Algorithm, signer.Algorithms())
	}
	if err := s.Key.Check(); err != nil {
		p.Add("key", "%v", err)
	}
	src := &Source{spec: s, key: s.Key.Handle(), secrets: secrets, clock: clock}
	var err error
	if src.lifetime, err = s.Lifetime.Parse(); err != nil {
		p.Add("lifetime", "%v", err)
	} else if src.lifetime < time.Second || src.lifetime > mostLifetime {
		p.Add("lifetime", "want how long the token is to live").Hint = "lifetime: 20m"
	}
	if src.backdate, err = s.Backdate.Parse(); err != nil {
		p.Add("backdate", "%v", err)
	} else if src.lifetime > 0 && src.backdate >= src.lifetime {
		p.Add("backdate", "is not below the lifetime: the token would be born dead")
	}
	if p.Fatal() {
		return nil, p
	}
	declared, err := json.Marshal([]any{s.Algorithm, s.KeyID, s.Headers, s.Claims})
	if err != nil {
		p.Add("claims", "cannot be written as JSON")
		return nil, p
	}
	sum := sha256.Sum256(declared)
	src.traits = agent.Traits{Type: "jwt", Fingerprint: fmt.Sprintf("jwt %x", sum[:12]), Life: src.lifetime - src.backdate}
	return src, p
}

// Files are the files whose change may change the key.
func (s *Source) Files() []string {
	if f := s.key.File(); f != "" {
		return []string{f}
	}
	return nil
}

// Traits implements agent.Source.
func (s *Source) Traits() *agent.Traits { return &s.traits }

// Prepare implements agent.Source.
func (s *Source) Prepare(ctx context.Context, step agent.Step, _ agent.Session) (*agent.Attempt, error) {
	if step != agent.StepLogin {
		return nil, agent.ErrPassedOver
	}
	material, err := s.secrets.Read(ctx, s.key)
	if err != nil {
		return nil, &agent.Error{Kind: agent.Misconfigured, Step: step, Detail: err.Error(), Unsent: true}
	}
	key, err := signer.ParseKey(s.spec.Algorithm, []byte(material.Reveal()))
	if err != nil {
		return nil, &agent.Error{Kind: agent.Misconfigured, Step: step, Detail: err.Error(), Hint: "the key must fit algorithm " + s.spec.Algorithm, Unsent: true}
	}
	return &agent.Attempt{
		Credential: agent.Credential{Origin: "jwt", Principal: s.traits.Fingerprint, Digest: sha256.Sum256([]byte(material.Reveal()))},
		Send:       func(context.Context) (*agent.Grant, error) { return s.sign(key) },
	}, nil
}

func (s *Source) sign(key signer.Key) (*agent.Grant, error) {
	now := s.clock()
	claims := map[string]any{"jti": rand.Text()}
	for k, v := range s.spec.Claims {
		claims[k] = v.V
	}
	headers := map[string]any{}
	for k, v := range s.spec.Headers {
		headers[k] = v.V
	}
	if claims["jti"] == nil {
		delete(claims, "jti")
	}
	token, err := signer.Sign(signer.Token{Algorithm: s.spec.Algorithm, Key: key, KeyID: s.spec.KeyID, Headers: headers, Claims: claims,
		Now: now.Wall, Lifetime: s.lifetime, Backdate: s.backdate})
	if err != nil {
		return nil, &agent.Error{Kind: agent.Misconfigured, Step: agent.StepLogin, Detail: err.Error(), Unsent: true}
	}
	// iat and exp are whole seconds: the token is as old as its iat says.
	life := s.lifetime - s.backdate - time.Duration(now.Wall.Nanosecond())
	if exp := signer.Peek(token).Exp; !exp.IsZero() {
		life = min(life, exp.Sub(now.Wall))
	}
	return &agent.Grant{Sent: now, Token: agent.NewSecret(token), Life: life}, nil
}

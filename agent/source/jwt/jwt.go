// Package jwt is the source whose token is a JWT signed here.
package jwt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/life"
	"renewd/agent/source/signer"
	"renewd/agent/source/spec"
)

// Spec is what stands beside `type: jwt`. The claims iat, exp and jti (a new
// UUID each time) are made here; one given wins and a null removes it.
type Spec struct {
	Algorithm   string               `yaml:"algorithm"`
	Key         secret.Ref           `yaml:"key"`
	KeyEncoding string               `yaml:"key_encoding"` // utf8 (default), base64, hex; HS only
	KeyID       string               `yaml:"key_id"`
	Lifetime    spec.Duration        `yaml:"lifetime"`
	Backdate    spec.Duration        `yaml:"backdate"`
	Headers     map[string]spec.Tree `yaml:"headers"`
	Claims      map[string]spec.Tree `yaml:"claims"`
	Present     *spec.Present        `yaml:"present"`
}

// Source is one token's source.
type Source struct {
	spec               *Spec
	clock              agent.Clock
	secrets            *secret.Resolver
	lifetime, backdate time.Duration
	traits             agent.Traits
}

// New checks s and makes a Source of it, nil after a problem.
func New(s *Spec, clock agent.Clock, secrets *secret.Resolver) (*Source, []spec.Problem) {
	var p spec.Problems
	src := &Source{spec: s, clock: clock, secrets: secrets}
	if !slices.Contains(signer.Algorithms(), s.Algorithm) {
		p.Add("algorithm", "unknown algorithm %q", s.Algorithm).Hint = spec.Meant(s.Algorithm, signer.Algorithms())
	}
	if !slices.Contains([]string{"", "utf8", "base64", "hex"}, s.KeyEncoding) {
		p.Add("key_encoding", "unknown encoding %q", s.KeyEncoding).Hint = "utf8, base64 or hex"
	} else if s.KeyEncoding != "" && !strings.HasPrefix(s.Algorithm, "HS") {
		p.Add("key_encoding", "is for HS algorithms; a key of %s is PEM", s.Algorithm)
	}
	if err := s.Key.Check(); err != nil {
		p.Add("key", "%v", err)
	}
	var err error
	if src.lifetime, err = s.Lifetime.Parse(); err != nil {
		p.Add("lifetime", "%v", err)
	} else if src.lifetime < time.Second {
		p.Add("lifetime", "a lifetime of at least 1s is needed").Hint = "lifetime: 20m"
	}
	if src.backdate, err = s.Backdate.Parse(); err != nil {
		p.Add("backdate", "%v", err)
	} else if src.backdate > 0 && src.backdate >= src.lifetime {
		p.Add("backdate", "is not below the lifetime")
	}
	present, err := s.Present.Plain()
	if err != nil {
		p.Add("present.value", "%v", err)
	}
	if p.Fatal() {
		return nil, p
	}
	src.traits = agent.Traits{Type: "jwt", Life: src.lifetime - src.backdate, Presentation: present, Fingerprint: fingerprint(s)}
	return src, p
}

func fingerprint(s *Spec) string {
	b, err := json.Marshal([]any{s.Algorithm, s.KeyID, s.Headers, s.Claims})
	if err != nil {
		b = fmt.Append(nil, s.Claims)
	}
	sum := sha256.Sum256(append([]byte("jwt "), b...))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// Traits implements agent.Source.
func (s *Source) Traits() *agent.Traits { return &s.traits }

// Key says where the key is.
func (s *Source) Key() secret.Handle { return s.spec.Key.Handle() }

// Files are the files whose change may change the key.
func (s *Source) Files() []string {
	if f := s.Key().File(); f != "" {
		return []string{f}
	}
	return nil
}

// Prepare implements agent.Source. Signing is all there is, so it is a login.
func (s *Source) Prepare(ctx context.Context, step agent.Step, _ agent.Session) (*agent.Attempt, error) {
	if step != agent.StepLogin {
		return nil, agent.ErrPassedOver
	}
	text, err := s.secrets.Resolve(ctx, s.spec.Key)
	var key signer.Key
	if err == nil {
		key, err = s.parse(text.Reveal())
	}
	if err != nil {
		return nil, &agent.Error{Kind: agent.Misconfigured, Step: step, Detail: err.Error(), Unsent: true, Err: err}
	}
	return &agent.Attempt{Send: func(context.Context) (*agent.Grant, error) { return s.sign(key) }}, nil
}

// parse decodes the key. Errors of the decoders are not shown: they quote it.
func (s *Source) parse(text string) (signer.Key, error) {
	b := []byte(text)
	switch s.spec.KeyEncoding {
	case "base64":
		if b = signer.DecodeSegment(strings.TrimSpace(text)); b == nil {
			return signer.Key{}, errors.New("the key is not base64")
		}
	case "hex":
		var err error
		if b, err = hex.DecodeString(strings.TrimSpace(text)); err != nil {
			return signer.Key{}, errors.New("the key is not hex")
		}
	}
	return signer.ParseKey(s.spec.Algorithm, b)
}

func (s *Source) sign(key signer.Key) (*agent.Grant, error) {
	now := s.clock()
	token, err := signer.Sign(signer.Token{Algorithm: s.spec.Algorithm, Key: key, KeyID: s.spec.KeyID,
		Headers: object(s.spec.Headers, nil), Claims: object(s.spec.Claims, map[string]any{"jti": uuid()}), Now: now.Wall, Lifetime: s.lifetime, Backdate: s.backdate})
	if err != nil {
		return nil, &agent.Error{Kind: agent.Misconfigured, Step: agent.StepLogin, Detail: err.Error(), Unsent: true, Err: err}
	}
	v := life.Compute(life.Facts{Sent: now.Wall, Date: now.Wall, Exp: signer.Peek(token).Exp, Max: s.lifetime - s.backdate})
	if v.Life <= 0 {
		return nil, &agent.Error{Kind: agent.Misconfigured, Step: agent.StepLogin, Unsent: true,
			Detail: "the token had expired when it was signed", Hint: "look at claims.exp and backdate"}
	}
	return &agent.Grant{Sent: now, Token: agent.NewSecret(token), Life: v.Life}, nil
}

func object(m map[string]spec.Tree, made map[string]any) map[string]any {
	out := make(map[string]any, len(m)+len(made))
	maps.Copy(out, made)
	for k, t := range m {
		out[k] = t.V
	}
	return out
}

// uuid is a random UUID (RFC 9562 §5.4).
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

package oauth2

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	nethttp "net/http"
	"net/url"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/source/signer"
	"renewd/agent/source/wire"
)

// readPrivate gives what was kept; what is not ours is none.
func readPrivate(s agent.Secret) private {
	var p private
	if json.Unmarshal([]byte(s.Reveal()), &p) != nil {
		return private{}
	}
	return p
}

// secret is p to be kept, unset where there is nothing.
func (p private) secret() agent.Secret {
	if p == (private{}) {
		return agent.Secret{}
	}
	b, err := json.Marshal(p)
	if err != nil {
		return agent.Secret{}
	}
	return agent.NewSecret(string(b))
}

// loadKey gives the key that the session's tokens are bound to: a login makes
// one, and what follows keeps it (RFC 9449 §5: a refresh token may be bound to
// it too).
func (x *exchange) loadKey() error {
	if x.step == agent.StepLogin || x.state.Key == "" {
		x.state.Algorithm = x.src.spec.DPoPAlgorithm
		if x.state.Algorithm == "" {
			x.state.Algorithm = "ES256"
		}
		pem, err := signer.Generate(x.state.Algorithm)
		if err != nil {
			return err
		}
		x.state.Key = string(pem)
	}
	var err error
	x.key, err = signer.ParseKey(x.state.Algorithm, []byte(x.state.Key))
	return err
}

const longestNonce = 4 << 10

// proof is the one for a request to the token endpoint.
func (x *exchange) proof(u *url.URL, now time.Time) (string, error) {
	return proof(x.state.Algorithm, x.key, nethttp.MethodPost, u, x.src.nonce(u), "", now)
}

// proof signs that a request comes from who has the key (RFC 9449 §4.2).
func proof(algorithm string, key signer.Key, method string, u *url.URL, nonce, token string, now time.Time) (string, error) {
	jwk, err := key.PublicJWK()
	if err != nil {
		return "", err
	}
	target := *u
	target.RawQuery, target.ForceQuery, target.Fragment, target.User = "", false, "", nil
	claims := map[string]any{"jti": newID(), "htm": method, "htu": target.String()}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return signer.Sign(signer.Token{Algorithm: algorithm, Key: key, Now: now, Claims: claims,
		Headers: map[string]any{"typ": "dpop+jwt", "jwk": jwk}})
}

// Proof implements agent.ProofSource.
func (p prover) Proof(s agent.Session, method, url, nonce string) (string, error) {
	return p.prove(s, method, url, nonce)
}

// Proof implements agent.ProofSource.
func (p personProver) Proof(s agent.Session, method, url, nonce string) (string, error) {
	return p.prove(s, method, url, nonce)
}

func (s *Source) prove(session agent.Session, method, to, nonce string) (string, error) {
	state := readPrivate(session.Private)
	if state.Key == "" || session.Token.IsZero() {
		return "", fmt.Errorf("there is no token to prove anything for")
	}
	u, err := url.Parse(to)
	if err != nil || len(to) > 8<<10 || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", fmt.Errorf("the url is not an absolute one of http")
	}
	if method == "" || len(method) > 32 || strings.ContainsFunc(method, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-' && r != '_' }) {
		return "", fmt.Errorf("the method is none of http")
	}
	if !legal(nonce) || len(nonce) > longestNonce {
		return "", fmt.Errorf("the nonce is too long, or has characters that no header can carry")
	}
	key, err := signer.ParseKey(state.Algorithm, []byte(state.Key))
	if err != nil {
		return "", err
	}
	// Whose API it is we never saw; the server that issued the token is the best
	// guess at its clock.
	return proof(state.Algorithm, key, method, u, nonce, session.Token.Reveal(), s.now(s.home()))
}

// nonce is what the server of u last gave us to sign.
func (s *Source) nonce(u *url.URL) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nonces[s.client.Host(u).Origin]
}

// noteNonce remembers a nonce that an answer brought (RFC 9449 §8.2). It
// reports whether it is another one than was known.
func (s *Source) noteNonce(u *url.URL, a *wire.Answer) bool {
	nonce := a.Header.Get("DPoP-Nonce")
	if nonce == "" || !s.spec.DPoP || len(nonce) > longestNonce || !legal(nonce) {
		return false
	}
	origin := s.client.Host(u).Origin
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.nonces[origin] != nonce
	if s.nonces == nil {
		s.nonces = map[string]string{}
	}
	s.nonces[origin] = nonce
	return news
}

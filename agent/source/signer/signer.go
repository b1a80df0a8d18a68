// Package signer signs JSON Web Tokens (RFC 7519) and reads, without trusting
// it, what a token says of its own life. It is the only home of golang-jwt.
package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithms are the names (RFC 7518, RFC 8037) that Sign knows.
func Algorithms() []string {
	return []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// Token is what is to be signed.
type Token struct {
	Algorithm string
	Key       Key
	KeyID     string
	Headers   map[string]any // over alg, typ and kid; nil removes one
	Claims    map[string]any // over iat and exp; nil removes one
	Now       time.Time      // by the clock of who will check it
	Lifetime  time.Duration  // exp = iat + Lifetime; 0: no exp
	Backdate  time.Duration  // iat = Now − Backdate
}

// Key is key material fit for one algorithm.
type Key struct{ k any }

// Sign returns the compact form (RFC 7515 §7.1).
func Sign(t Token) (string, error) {
	if !slices.Contains(Algorithms(), t.Algorithm) {
		return "", fmt.Errorf("sign: unknown algorithm %q", t.Algorithm)
	}
	iat := t.Now.Add(-t.Backdate).Unix()
	claims := jwt.MapClaims{"iat": iat}
	if t.Lifetime > 0 {
		// Counted from the back-dated iat, so that the span never grows.
		claims["exp"] = iat + int64(t.Lifetime/time.Second)
	}
	override(claims, t.Claims)
	tok := jwt.NewWithClaims(jwt.GetSigningMethod(t.Algorithm), claims)
	if t.KeyID != "" {
		tok.Header["kid"] = t.KeyID
	}
	override(tok.Header, t.Headers)
	if tok.Header["alg"] != t.Algorithm {
		return "", errors.New("sign: the header's alg must be the algorithm")
	}
	s, err := tok.SignedString(t.Key.k)
	if err != nil {
		return "", fmt.Errorf("sign: the key does not fit %s", t.Algorithm)
	}
	return s, nil
}

func override(dst, src map[string]any) {
	maps.Copy(dst, src)
	maps.DeleteFunc(dst, func(_ string, v any) bool { return v == nil })
}

// ParseKey makes a Key for an algorithm: for HS the bytes as they are, else a
// private key in PEM (PKCS#8, PKCS#1 or SEC1). Errors never quote it.
func ParseKey(algorithm string, material []byte) (Key, error) {
	if strings.HasPrefix(algorithm, "HS") {
		if len(material) == 0 {
			return Key{}, errors.New("the key is empty")
		}
		return Key{slices.Clone(material)}, nil
	}
	priv, err := parsePEM(material)
	if err != nil {
		return Key{}, err
	}
	fits := false
	switch k := priv.(type) {
	case *rsa.PrivateKey:
		fits = strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PrivateKey:
		fits = curveAlgorithm(k.Curve) == algorithm
	case ed25519.PrivateKey:
		fits = algorithm == "EdDSA"
	}
	if !fits {
		return Key{}, fmt.Errorf("the key does not fit %s: it is %s, and that needs %s", algorithm, describe(priv), wants(algorithm))
	}
	return Key{priv}, nil
}

func parsePEM(material []byte) (crypto.PrivateKey, error) {
	public := false
	for rest := material; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			if public {
				return nil, errors.New("the key is a public key or a certificate; the private key is needed")
			}
			return nil, errors.New("no private key in PEM was found in the key (PKCS#8, PKCS#1 or SEC1)")
		}
		if strings.Contains(b.Type, "ENCRYPTED") || b.Headers["DEK-Info"] != "" {
			return nil, errors.New("the key is encrypted with a passphrase; decrypt it: openssl pkey -in KEY -out KEY.plain")
		}
		public = public || strings.Contains(b.Type, "PUBLIC KEY") || b.Type == "CERTIFICATE"
		if k, err := x509.ParsePKCS8PrivateKey(b.Bytes); err == nil {
			return k, nil
		}
		if k, err := x509.ParsePKCS1PrivateKey(b.Bytes); err == nil {
			return k, nil
		}
		if k, err := x509.ParseECPrivateKey(b.Bytes); err == nil {
			return k, nil
		}
	}
}

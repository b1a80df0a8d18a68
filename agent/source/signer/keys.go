package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// AlgorithmFor is the algorithm that a private key in PEM is mostly used with,
// for those who do not say one.
func AlgorithmFor(material []byte) (string, error) {
	priv, err := parsePEM(material)
	if err != nil {
		return "", err
	}
	switch k := priv.(type) {
	case *rsa.PrivateKey:
		return "RS256", nil
	case *ecdsa.PrivateKey:
		if alg := curveAlgorithm(k.Curve); alg != "" {
			return alg, nil
		}
	case ed25519.PrivateKey:
		return "EdDSA", nil
	}
	return "", fmt.Errorf("no algorithm is known for %s", describe(priv))
}

// curveAlgorithm is the one algorithm of a curve (RFC 7518 §3.4), "" where there
// is none.
func curveAlgorithm(c elliptic.Curve) string {
	return map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[c.Params().BitSize]
}

// describe names a key's type, as an admin would look for it.
func describe(priv crypto.PrivateKey) string {
	switch k := priv.(type) {
	case *rsa.PrivateKey:
		return fmt.Sprintf("an RSA key of %d bits", k.N.BitLen())
	case *ecdsa.PrivateKey:
		return "an EC key on " + k.Curve.Params().Name
	case ed25519.PrivateKey:
		return "an Ed25519 key"
	}
	return "a key of another type"
}

// wants names the key that an algorithm needs.
func wants(algorithm string) string {
	switch {
	case strings.HasPrefix(algorithm, "RS"), strings.HasPrefix(algorithm, "PS"):
		return "an RSA key"
	case algorithm == "EdDSA":
		return "an Ed25519 key"
	}
	return "an EC key on " + map[string]string{"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm]
}

// Generate makes a new private key for an algorithm, as PKCS#8 in PEM.
func Generate(algorithm string) ([]byte, error) {
	var priv crypto.PrivateKey
	var err error
	switch {
	case algorithm == "EdDSA":
		_, priv, err = ed25519.GenerateKey(rand.Reader)
	case strings.HasPrefix(algorithm, "RS"), strings.HasPrefix(algorithm, "PS"):
		priv, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[algorithm]
		if curve == nil {
			return nil, fmt.Errorf("no key can be made for %q", algorithm)
		}
		priv, err = ecdsa.GenerateKey(curve, rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// PublicJWK is the public half of a private key as a JSON Web Key (RFC 7517)
// with its required members alone.
func (k Key) PublicJWK() (map[string]any, error) {
	b64 := base64.RawURLEncoding.EncodeToString
	switch priv := k.k.(type) {
	case *rsa.PrivateKey:
		return map[string]any{"kty": "RSA", "n": b64(priv.N.Bytes()), "e": b64(big.NewInt(int64(priv.E)).Bytes())}, nil
	case *ecdsa.PrivateKey:
		point, err := priv.PublicKey.Bytes() // 4, x, y: both as long as the curve's field
		if err != nil {
			return nil, errors.New("the key has no public half")
		}
		half := (len(point) - 1) / 2
		return map[string]any{"kty": "EC", "crv": priv.Curve.Params().Name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}, nil
	case ed25519.PrivateKey:
		return map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(priv.Public().(ed25519.PublicKey))}, nil
	}
	return nil, errors.New("a secret key has no public half")
}

// Thumbprint is the SHA-256 of the key's public half as RFC 7638 writes it: the
// members that PublicJWK gives, in their order, and nothing else.
func (k Key) Thumbprint() (string, error) {
	jwk, err := k.PublicJWK()
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(jwk)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

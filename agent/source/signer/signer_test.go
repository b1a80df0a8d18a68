package signer_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"renewd/agent/source/signer"
)

var now = time.Unix(1_700_000_000, 0)

func claimsOf(t *testing.T, token string) map[string]any {
	t.Helper()
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(signer.Payload(token)))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

func hs(t *testing.T, tok signer.Token) map[string]any {
	t.Helper()
	var err error
	tok.Algorithm, tok.Now = "HS256", now
	if tok.Key, err = signer.ParseKey("HS256", []byte("k")); err != nil {
		t.Fatal(err)
	}
	s, err := signer.Sign(tok)
	if err != nil {
		t.Fatal(err)
	}
	return claimsOf(t, s)
}

// Backdating never widens the span, a claim given wins, null removes.
func TestClaims(t *testing.T) {
	eq := func(got map[string]any, key, want string) {
		t.Helper()
		if n, ok := got[key].(json.Number); !ok || n.String() != want {
			t.Errorf("%s is %v, want %s", key, got[key], want)
		}
	}
	c := hs(t, signer.Token{Lifetime: 30 * time.Minute, Backdate: time.Minute})
	eq(c, "iat", "1699999940")
	eq(c, "exp", "1700001740")
	c = hs(t, signer.Token{Lifetime: time.Hour, Claims: map[string]any{"exp": 5, "iat": nil, "scp": []any{"a", "b"}}})
	eq(c, "exp", "5")
	if _, ok := c["iat"]; ok {
		t.Error("null did not remove iat")
	}
	if l, ok := c["scp"].([]any); !ok || len(l) != 2 {
		t.Errorf("a list did not stay one: %v", c["scp"])
	}
	if c = hs(t, signer.Token{}); len(c) != 1 {
		t.Errorf("without a lifetime there is no exp: %v", slices.Collect(maps.Keys(c)))
	}
}

// The vector was made with another implementation, claims in its order.
func TestHS256Vector(t *testing.T) {
	enc := base64.RawURLEncoding
	token := enc.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + enc.EncodeToString([]byte(`{"exp":1700001800,"iat":1700000000,"iss":"http://cylance.com","sub":"11111111-1111-1111-1111-111111111111","tid":"22222222-2222-2222-2222-222222222222","jti":"33333333-3333-3333-3333-333333333333"}`)) + ".9usnaULdpwn5TqzpYCQEabV0z-2etwd8guNuCKumCm0"
	key := []byte("44444444-4444-4444-4444-444444444444")
	if _, err := signer.Verify(token, "HS256", key); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Verify(token, "HS256", append(key, 'x')); err == nil {
		t.Error("a wrong key verifies")
	}
	if _, err := signer.Verify(token, "HS384", key); err == nil {
		t.Error("another algorithm verifies")
	}
}

func TestKeys(t *testing.T) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(e)
	if err != nil {
		t.Fatal(err)
	}
	block := func(typ string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
	}
	pkcs8 := func(k crypto.PrivateKey) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return block("PRIVATE KEY", der)
	}
	for _, c := range []struct {
		name string
		key  []byte
		fits []string
	}{
		{"RSA PKCS#8", pkcs8(r), []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}},
		{"RSA PKCS#1", block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r)), []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}},
		{"EC SEC1 after parameters", append(block("EC PARAMETERS", []byte{6, 1, 1}), block("EC PRIVATE KEY", sec1)...), []string{"ES256"}},
		{"Ed25519", pkcs8(ed), []string{"EdDSA"}},
	} {
		for _, alg := range signer.Algorithms() {
			if strings.HasPrefix(alg, "HS") {
				continue
			}
			k, err := signer.ParseKey(alg, c.key)
			if want := slices.Contains(c.fits, alg); (err == nil) != want {
				t.Errorf("%s with %s: %v", c.name, alg, err)
				continue
			}
			if err != nil {
				continue
			}
			if s, err := signer.Sign(signer.Token{Algorithm: alg, Key: k, KeyID: "k1", Now: now}); err != nil || strings.Count(s, ".") != 2 {
				t.Errorf("%s with %s: %v", c.name, alg, err)
			}
		}
	}
	for _, bad := range []string{"", "hunter2", "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n", "-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVudGVyMg==\n-----END ENCRYPTED PRIVATE KEY-----\n"} {
		if _, err := signer.ParseKey("RS256", []byte(bad)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := signer.ParseKey("HS256", nil); err == nil {
		t.Error("an empty key was taken")
	}
	if _, err := signer.Sign(signer.Token{Algorithm: "none", Now: now}); err == nil {
		t.Error("alg none signs")
	}
	k, _ := signer.ParseKey("HS256", []byte("k"))
	if _, err := signer.Sign(signer.Token{Algorithm: "HS256", Key: k, Headers: map[string]any{"alg": "none"}, Now: now}); err == nil {
		t.Error("a header may not change alg")
	}
}

// A key that does not fit says what it is and what is needed.
func TestKeyErrors(t *testing.T) {
	for _, c := range []struct{ algorithm, key, want string }{
		{"RS256", made(t, "ES256"), "it is an EC key on P-256, and that needs an RSA key"},
		{"ES384", made(t, "ES256"), "it is an EC key on P-256, and that needs an EC key on P-384"},
		{"EdDSA", made(t, "RS256"), "it is an RSA key of 2048 bits, and that needs an Ed25519 key"},
		{"PS256", made(t, "EdDSA"), "it is an Ed25519 key, and that needs an RSA key"},
		{"RS256", "-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVudGVyMg==\n-----END ENCRYPTED PRIVATE KEY-----\n", "encrypted with a passphrase; decrypt it: openssl pkey"},
		{"RS256", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\naHVudGVyMg==\n-----END RSA PRIVATE KEY-----\n", "encrypted with a passphrase"},
		{"RS256", "-----BEGIN PUBLIC KEY-----\naHVudGVyMg==\n-----END PUBLIC KEY-----\n", "the private key is needed"},
		{"RS256", "-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----\n", "the private key is needed"},
	} {
		_, err := signer.ParseKey(c.algorithm, []byte(c.key))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.algorithm, err, c.want)
		}
	}
}

func made(t *testing.T, algorithm string) string {
	t.Helper()
	b, err := signer.Generate(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Keys made here fit their algorithm, are recognised, and show a public half
// that holds nothing of the private one.
func TestGenerate(t *testing.T) {
	members := map[string]string{"ES256": "crv kty x y", "ES384": "crv kty x y", "ES512": "crv kty x y", "EdDSA": "crv kty x", "RS256": "e kty n", "PS512": "e kty n"}
	for alg, want := range members {
		pem := []byte(made(t, alg))
		k, err := signer.ParseKey(alg, pem)
		if err != nil {
			t.Fatal(err)
		}
		guess, err := signer.AlgorithmFor(pem)
		if err != nil || guess != alg && alg != "PS512" {
			t.Errorf("%s: guessed %q, %v", alg, guess, err)
		}
		jwk, err := k.PublicJWK()
		if got := strings.Join(slices.Sorted(maps.Keys(jwk)), " "); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", alg, got, err, want)
		}
		if alg == "ES512" && len(jwk["x"].(string)) != 88 { // 66 octets, leading zeros kept (RFC 7518 §6.2.1.2)
			t.Errorf("x of P-521 has %d characters", len(jwk["x"].(string)))
		}
	}
	if _, err := signer.Generate("HS256"); err == nil {
		t.Error("a key was made for HS256")
	}
	hs, _ := signer.ParseKey("HS256", []byte("k"))
	if _, err := hs.PublicJWK(); err == nil {
		t.Error("a secret has a public half")
	}
	if _, err := signer.AlgorithmFor([]byte("k")); err == nil {
		t.Error("no key has an algorithm")
	}
}

func jwtOf(payload string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".sig"
}

func TestPeek(t *testing.T) {
	for _, c := range []struct {
		token    string
		exp, iat int64
	}{
		{jwtOf(`{"exp":1700000060,"iat":1700000000}`), 1700000060, 1700000000},
		{jwtOf(`{"exp":1700000060.5}`), 1700000060, 0},
		{jwtOf(`{"exp":1.70000006e9}`), 1700000060, 0},
		{jwtOf(`{"exp":"1700000060"}`), 1700000060, 0},
		{jwtOf(`{"exp":1700000060000}`), 1700000060, 0},
		{jwtOf(`{"exp":1700000060000000}`), 1700000060, 0},
		{jwtOf(`{"exp":253402300799}`), 253402300799, 0},
		{jwtOf(`{"exp":1e29}`), 253402300799, 0},
		{jwtOf(`{"exp":1e999}`), 0, 0},
		{jwtOf(`{"exp":-1}`), 0, 0},
		{jwtOf(`{"exp":0}`), 0, 0},
		{jwtOf(`{"exp":null,"iat":1700000000}`), 0, 1700000000},
		{jwtOf(`{"exp":{},"iat":[1]}`), 0, 0},
		{jwtOf(`{"exp":true}`), 0, 0},
		{jwtOf(`[1]`), 0, 0},
		{"", 0, 0}, {"a.b", 0, 0}, {"a.b.c", 0, 0}, {"a.b.c.d.e", 0, 0}, {"opaque", 0, 0},
		{"e30." + base64.StdEncoding.EncodeToString([]byte(`{"exp":1700000060,"x":"???>>>"}`)) + ".s", 1700000060, 0},
	} {
		got := signer.Peek(c.token)
		unix := func(t time.Time) int64 {
			if t.IsZero() {
				return 0
			}
			return t.Unix()
		}
		if unix(got.Exp) != c.exp || unix(got.Iat) != c.iat {
			t.Errorf("%s: got %v; want %d %d", c.token, got, c.exp, c.iat)
		}
	}
}

func FuzzPeek(f *testing.F) {
	for _, p := range []string{`{"exp":1700000060}`, `{"exp":"x"}`, `{"exp":1e400}`, `{"exp":-0.0,"iat":9e99}`} {
		f.Add(jwtOf(p))
		f.Add("e30." + p + ".x")
	}
	f.Fuzz(func(t *testing.T, token string) {
		got := signer.Peek(token)
		for _, at := range []time.Time{got.Exp, got.Iat} {
			if !at.IsZero() && (at.Year() < 2000 || at.Year() > 9999) {
				t.Errorf("%q says %v", token, at)
			}
		}
	})
}

// The thumbprint of a key is that of RFC 7638 and RFC 8037.
func TestThumbprint(t *testing.T) {
	const seed = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A" // RFC 8037, appendix A.1
	raw, err := base64.RawURLEncoding.DecodeString(seed)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(raw))
	if err != nil {
		t.Fatal(err)
	}
	k, err := signer.ParseKey("EdDSA", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Thumbprint(); err != nil || got != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" { // appendix A.3
		t.Errorf("%q, %v", got, err)
	}
	secret, err := signer.ParseKey("HS256", []byte("a secret of more than enough octets"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := secret.Thumbprint(); err == nil {
		t.Errorf("a secret has the thumbprint %q", got)
	}
}

package http_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // hashes that are chosen by name
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"
)

// asserts is what a vendor wants of a JWT that is signed for it.
type asserts struct {
	alg           string // of several any
	key           any    // public
	iss, sub, aud any    // nil: must not be there
	head          map[string]any
	most          time.Duration // from iat, and from now, to exp
	jti           bool
}

// wants says what is wrong with a JWT, "" if nothing is.
func (v *vendor) wants(token string, x asserts) string {
	why := v.judge(token, x)
	if why != "" {
		v.why = append(v.why, why)
	}
	return why
}

func (v *vendor) judge(token string, x asserts) string {
	head, claims, ok := verified(token, x.key)
	if alg, _ := head["alg"].(string); !ok || !slices.Contains(strings.Fields(x.alg), alg) {
		return "signature"
	}
	for k, want := range x.head {
		if head[k] != want {
			return "header " + k
		}
	}
	for k, want := range map[string]any{"iss": x.iss, "sub": x.sub, "aud": x.aud} {
		if claims[k] != want {
			return k
		}
	}
	iat, okIat := claims["iat"].(float64)
	exp, okExp := claims["exp"].(float64)
	now := float64(v.now().Unix())
	switch {
	case !okIat || !okExp && x.most > 0:
		return "iat and exp"
	case x.most == 0 && okExp:
		return "exp"
	case x.most == 0:
	case exp-iat > x.most.Seconds() || exp-now > x.most.Seconds():
		return "exp is too far in the future"
	case exp <= now:
		return "exp: expired"
	}
	if iat > now {
		return "iat: issued in the future"
	}
	if id, _ := claims["jti"].(string); x.jti {
		if len(id) < 16 || v.seen[id] {
			return "jti"
		}
		v.seen[id] = true
	}
	return ""
}

// verified checks a signature with a public key.
func verified(token string, key any) (head, claims map[string]any, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, false
	}
	var raw [3][]byte
	for i, p := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.DecodeString(p); err != nil {
			return nil, nil, false
		}
	}
	if json.Unmarshal(raw[0], &head) != nil || json.Unmarshal(raw[1], &claims) != nil {
		return nil, nil, false
	}
	alg, _ := head["alg"].(string)
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[strings.TrimLeft(alg, "RSPE")]
	if hash == 0 {
		return head, claims, false
	}
	h := hash.New()
	h.Write([]byte(parts[0] + "." + parts[1]))
	sum, sig := h.Sum(nil), raw[2]
	switch k := key.(type) {
	case *rsa.PublicKey:
		if strings.HasPrefix(alg, "PS") {
			ok = rsa.VerifyPSS(k, hash, sum, sig, nil) == nil
		} else {
			ok = rsa.VerifyPKCS1v15(k, hash, sum, sig) == nil
		}
	case *ecdsa.PublicKey:
		ok = len(sig) == 64 && ecdsa.Verify(k, sum, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	}
	return head, claims, ok
}

// Two keys of each kind: the vendor knows the public half of the first.
var (
	rsaKeys = sync.OnceValue(func() (out [2]*rsa.PrivateKey) {
		for i := range out {
			out[i], _ = rsa.GenerateKey(rand.Reader, 2048)
		}
		return out
	})
	ecKeys = sync.OnceValue(func() (out [2]*ecdsa.PrivateKey) {
		for i := range out {
			out[i], _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		}
		return out
	})
)

func pemOf(key any) string {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func rsaPEM(i int) string { return pemOf(rsaKeys()[i]) }
func ecPEM(i int) string  { return pemOf(ecKeys()[i]) }

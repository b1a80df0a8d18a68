package signer

import (
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Verify checks a token's signature by the one algorithm that is expected, and
// its times as seen at now, and returns its claims. It is what the stand-in
// servers check their callers with.
func Verify(token, algorithm string, key []byte, now time.Time) (map[string]any, error) {
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims,
		func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithValidMethods([]string{algorithm}), jwt.WithTimeFunc(func() time.Time { return now }),
		jwt.WithIssuedAt())
	if err != nil {
		return nil, errors.New("the token does not verify")
	}
	return claims, nil
}

package signer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// Times are what a token says of its own life. Zero: it does not say.
type Times struct{ Exp, Iat time.Time }

// maxToken bounds what is looked into.
const maxToken = 64 << 10

// Peek reads exp and iat of a JWT without verifying anything; what is no JWT,
// or says nothing sensible, gives zero Times. Servers write the numbers as
// integers, floats, strings and now and then in milliseconds.
func Peek(token string) Times {
	var claims struct {
		Exp json.RawMessage `json:"exp"`
		Iat json.RawMessage `json:"iat"`
	}
	payload := Payload(token)
	if payload == nil || json.Unmarshal(payload, &claims) != nil {
		return Times{}
	}
	return Times{Exp: numericDate(claims.Exp), Iat: numericDate(claims.Iat)}
}

// Payload decodes the second part of a JWS in compact form, nil if it is none.
func Payload(token string) []byte {
	if len(token) > maxToken || strings.Count(token, ".") != 2 {
		return nil
	}
	_, rest, _ := strings.Cut(token, ".")
	part, _, _ := strings.Cut(rest, ".")
	return DecodeSegment(part)
}

// DecodeSegment decodes base64 in either alphabet, padded or not, nil if it is
// neither.
func DecodeSegment(part string) []byte {
	part = strings.TrimRight(part, "=")
	part = strings.ReplaceAll(strings.ReplaceAll(part, "+", "-"), "/", "_")
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return nil
	}
	return b
}

// Years that a claim may sensibly name, in seconds: 2000 to 9999.
const (
	minEpoch = 946684800
	maxEpoch = 253402300799
)

// numericDate reads a NumericDate (RFC 7519 §2). Numbers too large for seconds
// are taken for milliseconds or microseconds, which gives an earlier time than
// the year 50 000; before 2000 there were no tokens, so that is nonsense.
func numericDate(raw json.RawMessage) time.Time {
	s := string(bytes.Trim(bytes.TrimSpace(raw), `"`))
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return time.Time{}
	}
	return Epoch(f)
}

// Epoch reads a number since 1970 whose unit is told by its size; zero for what
// is none.
func Epoch(f float64) time.Time {
	for _, unit := range []float64{1, 1e3, 1e6, 1e9} {
		if v := f / unit; v >= minEpoch && v <= maxEpoch {
			sec, frac := math.Modf(v)
			return time.Unix(int64(sec), int64(frac*1e9)).UTC()
		}
	}
	if f >= maxEpoch && f < 1e30 {
		return time.Unix(maxEpoch, 0).UTC()
	}
	return time.Time{}
}

package agent

import (
	"log/slog"
	"time"
)

// Keys of log attributes, the same everywhere.
const (
	KeyToken      = "token" // its name, never its value
	KeySource     = "source"
	KeySink       = "sink"
	KeyStep       = "step"
	KeyKind       = "kind"
	KeyGeneration = "generation"
	KeyExpires    = "expires_at"
	KeyNext       = "next"
	KeyAt         = "at"
	KeyHint       = "hint"
	KeyError      = "error"
	KeyCount      = "count"
	KeySkew       = "skew"
	KeyHost       = "host"
)

// Messages are facts in the past tense.
const (
	MsgRenewed       = "token renewed"
	MsgRestored      = "token restored from state"
	MsgLapsed        = "token expired"
	MsgProblem       = "renewal failed"
	MsgPersonNeeded  = "a person will have to sign in"
	MsgSinkFailed    = "sink could not be written"
	MsgSinkRecovered = "sink written again"
	MsgStateFailed   = "state could not be written"
	MsgStateSaved    = "state written again"
	MsgLoggedOut     = "old session ended"
	MsgLogoutFailed  = "old session could not be ended"
	MsgClockStepped  = "wall clock stepped"
	MsgResumed       = "machine resumed"
	MsgSkew          = "server clock differs"
	MsgApplied       = "config applied"
	MsgIdle          = "no tokens configured; waiting for the config"
	MsgRejected      = "an API refused the token"
)

func (a *Agent) logRenewed(name string, step Step, r *record, now Instant) {
	a.log.LogAttrs(a.lasting, slog.LevelInfo, MsgRenewed, slog.String(KeyToken, name), slog.String(KeyStep, string(step)),
		slog.Uint64(KeyGeneration, r.generation), slog.Time(KeyExpires, now.At(r.expiry).UTC().Round(time.Millisecond)))
}

// logProblem says a failure once per transition; the lane counts the rest.
func (a *Agent) logProblem(name string, p *Problem) {
	level := slog.LevelWarn
	switch p.Kind {
	case Rejected, Locked, NeedsHuman, Misconfigured:
		level = slog.LevelError
	}
	attrs := []any{KeyToken, name, KeyStep, p.Step, KeyKind, p.Kind, KeyError, p.Detail}
	if p.Hint != "" {
		attrs = append(attrs, KeyHint, p.Hint)
	}
	if !p.Until.IsZero() {
		attrs = append(attrs, KeyNext, p.Until.UTC().Round(time.Second))
	}
	a.log.Log(a.lasting, level, MsgProblem, attrs...)
}

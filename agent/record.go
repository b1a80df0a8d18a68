package agent

import (
	"encoding/json"
	"fmt"
	"time"
)

// record is what is known of one token and must survive: its value, its session
// and their clocks. Times are on the boot clock, 0 meaning none.
type record struct {
	fingerprint string // of the source it came from
	generation  uint64
	revision    uint64

	token  Secret
	typ    string
	extra  map[string]string
	issued time.Duration // when the request that brought it was sent
	expiry time.Duration
	life   time.Duration // that the source gave it; the hard limit may cut the expiry shorter
	jitter time.Duration // drawn once for this value

	refreshToken Secret
	loginSent    time.Duration // the hard limit counts from here
	sessionEnd   time.Duration // as the server told it
	refreshEnd   time.Duration
	idleEnd      time.Duration
	refreshes    int
	spending     bool // a request that spends the refresh token is under way
	note         string
	seed         string
	loggedOut    bool // a manager ended the session; only SignIn begins another
}

func (r *record) has() bool { return !r.token.IsZero() }

// stored is record as it is written; every clock as a Mark.
type stored struct {
	Saved        time.Time         `json:"saved"`
	Fingerprint  string            `json:"fingerprint"`
	Generation   uint64            `json:"generation"`
	Revision     uint64            `json:"revision"`
	Token        string            `json:"token,omitempty"`
	Type         string            `json:"type,omitempty"`
	Extra        map[string]string `json:"extra,omitempty"`
	Issued       Mark              `json:"issued,omitzero"`
	Expiry       Mark              `json:"expiry,omitzero"`
	Life         time.Duration     `json:"life,omitempty"`
	Jitter       time.Duration     `json:"jitter,omitempty"`
	RefreshToken []byte            `json:"refresh_token,omitempty"` // bytes: nothing says that it is UTF-8
	LoginSent    Mark              `json:"login_sent,omitzero"`
	SessionEnd   Mark              `json:"session_end,omitzero"`
	RefreshEnd   Mark              `json:"refresh_end,omitzero"`
	IdleEnd      Mark              `json:"idle_end,omitzero"`
	Refreshes    int               `json:"refreshes,omitempty"`
	Spending     bool              `json:"spending,omitempty"`
	Note         string            `json:"note,omitempty"`
	Seed         string            `json:"seed,omitempty"`
	LoggedOut    bool              `json:"logged_out,omitempty"`
}

// encode gives the bytes that the store seals.
func (r *record) encode(now Instant, bootID string) ([]byte, error) {
	m := func(t time.Duration) Mark { return now.mark(t, bootID) }
	return json.Marshal(stored{
		Saved: now.Wall, Fingerprint: r.fingerprint, Generation: r.generation, Revision: r.revision,
		Token: r.token.Reveal(), Type: r.typ, Extra: r.extra,
		Issued: m(r.issued), Expiry: m(r.expiry), Life: r.life, Jitter: r.jitter,
		RefreshToken: []byte(r.refreshToken.Reveal()), LoginSent: m(r.loginSent), SessionEnd: m(r.sessionEnd),
		RefreshEnd: m(r.refreshEnd), IdleEnd: m(r.idleEnd), Refreshes: r.refreshes, Spending: r.spending, Note: r.note, Seed: r.seed, LoggedOut: r.loggedOut,
	})
}

// decodeRecord restores a record. suspect says that the clocks cannot be
// believed: the machine was rebooted and its wall clock reads earlier than when
// the record was saved.
func decodeRecord(value []byte, now Instant, bootID string) (r record, suspect bool, err error) {
	var s stored
	if err := json.Unmarshal(value, &s); err != nil {
		return record{}, false, fmt.Errorf("decode record: %w", err)
	}
	at := func(m Mark) time.Duration { return m.boot(now, bootID) }
	r = record{
		fingerprint: s.Fingerprint, generation: s.Generation, revision: s.Revision,
		token: NewSecret(s.Token), typ: s.Type, extra: s.Extra,
		issued: at(s.Issued), expiry: at(s.Expiry), life: s.Life, jitter: s.Jitter,
		refreshToken: NewSecret(string(s.RefreshToken)), loginSent: at(s.LoginSent), sessionEnd: at(s.SessionEnd),
		refreshEnd: at(s.RefreshEnd), idleEnd: at(s.IdleEnd), refreshes: s.Refreshes, spending: s.Spending, note: s.Note, seed: s.Seed, loggedOut: s.LoggedOut,
	}
	suspect = s.Expiry.BootID != bootID && now.Wall.Before(s.Saved)
	return r, suspect, nil
}

// errToken is the reason why a value can never be a token.
func errToken(s string) string {
	if s == "" {
		return "the answer held no token"
	}
	if len(s) > 64<<10 {
		return "the token is longer than 64 KiB"
	}
	for i := 0; i < len(s); i++ {
		if s[i] < 0x21 || s[i] > 0x7e {
			return "the token has bytes outside 0x21 to 0x7E, which no header can carry"
		}
	}
	return ""
}

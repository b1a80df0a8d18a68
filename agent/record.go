package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	jsonv1 "github.com/go-json-experiment/json/v1"
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
	private      Secret        // of the source
	loginSent    time.Duration // the hard limit counts from here
	sessionEnd   time.Duration // as the server told it
	refreshEnd   time.Duration
	idleEnd      time.Duration
	tried        time.Duration // when a login last failed for want of another config or of a person
	note         *string       // nil: none
	seed         string
	refreshes    int32
	spending     bool   // a request that spends the refresh token is under way
	forPerson    bool   // tried was for want of a person
	retried      bool   // and was not the first of its kind within ten minutes
	byWall       clocks // those that were read off the wall clock, being from another boot
	dead         bool   // the session is over, so its first refresh token is spent
	loggedOut    bool   // a manager ended the session; only SignIn begins another
}

// clocks are some of a record's.
type clocks uint8

const (
	clockIssued clocks = 1 << iota // and the expiry
	clockLogin
	clockSession
	clockRefresh
	clockIdle
	allClocks clocks = 1<<iota - 1
)

// shift moves the clocks that were read off the wall clock, which was behind by d.
func (r *record) shift(d time.Duration) {
	for _, c := range []struct {
		which clocks
		at    *time.Duration
	}{
		{clockIssued, &r.issued}, {clockIssued, &r.expiry}, {clockLogin, &r.loginSent},
		{clockSession, &r.sessionEnd}, {clockRefresh, &r.refreshEnd}, {clockIdle, &r.idleEnd},
	} {
		if r.byWall&c.which != 0 && *c.at != 0 {
			*c.at -= d
		}
	}
}

// endSession forgets the session, and keeps the token.
func (r *record) endSession() {
	r.refreshToken, r.private, r.extra, r.seed, r.refreshes, r.dead = Secret{}, Secret{}, nil, "", 0, false
	r.loginSent, r.sessionEnd, r.refreshEnd, r.idleEnd = 0, 0, 0, 0
}

// noted keeps a note where there is one.
func noted(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func (r *record) noteText() string {
	if r.note == nil {
		return ""
	}
	return *r.note
}

func (r *record) has() bool { return !r.token.IsZero() }

// stored is record as it is written: as JSON, with the two long texts behind it as
// they are. Its clocks are readings of the boot clock, which Saved lets another
// boot understand.
type stored struct {
	Saved        Mark              `json:"at"`
	Fingerprint  string            `json:"fingerprint"`
	Generation   uint64            `json:"generation"`
	Revision     uint64            `json:"revision"`
	Token        int               `json:"token_length,omitempty"`
	Type         string            `json:"type,omitempty"`
	Extra        map[string]string `json:"extra,omitempty"`
	Clocks       storedClocks      `json:"clocks"`
	ForPerson    bool              `json:"for_person,omitempty"`
	Retried      bool              `json:"retried,omitempty"`
	Life         time.Duration     `json:"life,omitempty"`
	Jitter       time.Duration     `json:"jitter,omitempty"`
	RefreshToken int               `json:"refresh_token_length,omitempty"`
	Private      string            `json:"private,omitempty"`
	Refreshes    int32             `json:"refreshes,omitempty"`
	Spending     bool              `json:"spending,omitempty"`
	Note         string            `json:"note,omitempty"`
	Seed         string            `json:"seed,omitempty"`
	ByWall       clocks            `json:"by_wall,omitempty"`
	Dead         bool              `json:"dead,omitempty"`
	LoggedOut    bool              `json:"logged_out,omitempty"`
}

type storedClocks struct {
	Issued     time.Duration `json:"issued,omitempty"`
	Expiry     time.Duration `json:"expiry,omitempty"`
	LoginSent  time.Duration `json:"login_sent,omitempty"`
	SessionEnd time.Duration `json:"session_end,omitempty"`
	RefreshEnd time.Duration `json:"refresh_end,omitempty"`
	IdleEnd    time.Duration `json:"idle_end,omitempty"`
	Tried      time.Duration `json:"tried,omitempty"`
}

// encode appends the bytes that the store seals to b.
func (r *record) encode(b []byte, now Instant, bootID string) ([]byte, error) {
	token, refresh := r.token.Reveal(), r.refreshToken.Reveal()
	head, err := json.Marshal(stored{
		Saved: now.mark(now.Boot, bootID), Fingerprint: r.fingerprint, Generation: r.generation, Revision: r.revision,
		Token: len(token), Type: r.typ, Extra: r.extra,
		Clocks: storedClocks{r.issued, r.expiry, r.loginSent, r.sessionEnd, r.refreshEnd, r.idleEnd, r.tried}, ForPerson: r.forPerson, Retried: r.retried, Life: r.life, Jitter: r.jitter,
		RefreshToken: len(refresh), Private: r.private.Reveal(), Refreshes: r.refreshes, Spending: r.spending, Note: r.noteText(), Seed: r.seed, ByWall: r.byWall, Dead: r.dead, LoggedOut: r.loggedOut,
	})
	b = slices.Grow(b, len(head)+1+len(token)+len(refresh))
	b = append(append(b, head...), '\n')
	return append(append(b, token...), refresh...), err
}

// decodeRecord restores a record. read is the wall clock's offset by which its clocks
// in byWall are to be understood. suspect says that the clocks cannot be
// believed: the machine was rebooted and its wall clock reads earlier than when
// the record was saved.
func decodeRecord(value []byte, now Instant, bootID string) (r record, read time.Duration, suspect bool, err error) {
	var s stored
	head, texts, _ := bytes.Cut(value, []byte{'\n'})   // JSON as we write it has no line end
	if err := jsonv1.Unmarshal(head, &s); err != nil { // twice as fast, and a start reads all of them
		return record{}, 0, false, fmt.Errorf("decode record: %w", err)
	}
	if s.Token < 0 || s.RefreshToken < 0 || s.Token+s.RefreshToken != len(texts) {
		return record{}, 0, false, errors.New("decode record: it is cut off")
	}
	at := func(t time.Duration) time.Duration { return s.Saved.at(t).boot(now, bootID) }
	c := &s.Clocks
	r = record{
		fingerprint: s.Fingerprint, generation: s.Generation, revision: s.Revision,
		token: NewSecret(string(texts[:s.Token])), typ: s.Type, extra: s.Extra,
		issued: at(c.Issued), expiry: at(c.Expiry), life: s.Life, jitter: s.Jitter,
		refreshToken: NewSecret(string(texts[s.Token:])), private: NewSecret(s.Private), loginSent: at(c.LoginSent), sessionEnd: at(c.SessionEnd),
		refreshEnd: at(c.RefreshEnd), idleEnd: at(c.IdleEnd), tried: at(c.Tried), forPerson: s.ForPerson, retried: s.Retried, refreshes: s.Refreshes, spending: s.Spending, note: noted(s.Note), seed: s.Seed, dead: s.Dead, loggedOut: s.LoggedOut,
	}
	r.byWall, read = s.ByWall, s.Saved.offset()
	if s.Saved.BootID != bootID {
		r.byWall, read = allClocks, now.offset()
	}
	suspect = s.Saved.BootID != bootID && now.Wall.Before(s.Saved.Wall)
	return r, read, suspect, nil
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

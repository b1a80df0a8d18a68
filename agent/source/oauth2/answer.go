package oauth2

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/source/life"
	"renewd/agent/source/signer"
	"renewd/agent/source/wire"
)

func itoa(n int) string { return strconv.Itoa(n) }

// reply is an answer's body, read.
type reply struct {
	members map[string]json.RawMessage // nil: the body is no JSON object
	code    string                     // its `error`, where that is a text
	failed  bool                       // it says that there is an error, whatever its status
}

func readReply(a *wire.Answer) *reply {
	r := &reply{}
	if json.Unmarshal(bytes.TrimPrefix(a.Body, []byte("\xef\xbb\xbf")), &r.members) != nil {
		r.members = nil
	}
	raw := r.members["error"]
	r.code, _ = r.text("error")
	r.failed = r.code != "" || len(raw) > 0 && !slices.Contains([]string{"null", `""`, "false", "0"}, string(raw))
	return r
}

// document is the whole of it, as pointers want it.
func (r *reply) document() any {
	doc := make(map[string]any, len(r.members))
	for k, raw := range r.members {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		var v any
		if d.Decode(&v) == nil {
			doc[k] = v
		}
	}
	return doc
}

// text gives a member that is a string or a number, ok false for what is absent,
// null or empty.
func (r *reply) text(name string) (string, bool) {
	raw := bytes.TrimSpace(r.members[name])
	if len(raw) == 0 {
		return "", false
	}
	var s string
	if raw[0] == '"' && json.Unmarshal(raw, &s) == nil {
		return s, s != ""
	}
	if c := raw[0]; c == '-' || c >= '0' && c <= '9' {
		return string(raw), true
	}
	return "", false
}

// span reads a member that counts time from now, nil where there is none.
// readable is false for one that is no number.
func (r *reply) span(name, unit string) (d *time.Duration, readable bool) {
	text, ok := r.text(name)
	if !ok {
		return nil, len(r.members[name]) == 0 || string(r.members[name]) == "null" || string(r.members[name]) == `""`
	}
	v, err := life.ReadSpan(text, unit)
	if err != nil {
		return nil, false
	}
	return &v, true
}

// legal says whether a value can be presented as a token: 1 byte to 64 KiB of
// visible ASCII.
func legal(token string) bool {
	return len(token) <= 64<<10 && !strings.ContainsFunc(token, func(r rune) bool { return r < 0x21 || r > 0x7e })
}

// grant makes of a success what the agent wants to know.
func (x *exchange) grant(a *wire.Answer, r *reply) (*agent.Grant, error) {
	g := &agent.Grant{Sent: a.Sent, Seed: x.seed, Skew: a.Skew, HasSkew: a.HasSkew}
	if rt, ok := r.text("refresh_token"); ok {
		g.RefreshToken = agent.NewSecret(rt)
	}
	x.notes(g, a, r)
	x.learn(g)
	facts := life.Facts{Sent: a.Sent.Wall, Date: a.ServerNow, Max: x.src.max, Default: x.src.deflt}
	x.refreshEnds(g, r, facts)
	err := x.access(g, r, facts, a.Status)
	if err != nil && x.step == agent.StepRefresh && !g.RefreshToken.IsZero() {
		// The access token is of no use, but the refresh token that came with it
		// may be the only one that still works: it must not be lost.
		g.Token, g.Life = agent.Secret{}, 0
		return g, nil
	}
	if err != nil {
		return nil, err
	}
	return g, nil
}

// learn keeps what later refreshes must know.
func (x *exchange) learn(g *agent.Grant) {
	rt := g.RefreshToken.Reveal()
	if x.step == agent.StepRefresh && rt != "" && rt != x.refresh {
		x.src.rotated.Store(true)
		x.state.Rotates = true
	}
	if x.step == agent.StepLogin || x.state != readPrivate(x.session.Private) {
		g.Private = x.state.secret()
		if x.step == agent.StepRefresh && g.Private.IsZero() {
			g.Private = agent.NewSecret("{}") // unset would leave the old one
		}
	}
}

// access reads the access token and its life.
func (x *exchange) access(g *agent.Grant, r *reply, facts life.Facts, status int) error {
	name := x.src.spec.Token
	if name == "" {
		name = "access_token"
	}
	misses := func(why, hint string) error {
		return &agent.Error{Kind: agent.Misconfigured, Step: x.step, Detail: "server answered " + itoa(status) + ", but " + why, Hint: hint}
	}
	token, ok := r.text(name)
	switch {
	case !ok && name == "id_token":
		return misses("it has no id_token", "scopes: [openid, …]")
	case !ok:
		return misses("it has no access_token", "look at token_url")
	case !legal(token):
		return misses("its "+name+" is longer than 64 KiB or has bytes that no header can carry", "look at token_url")
	}
	typ, _ := r.text("token_type")
	if x.src.spec.DPoP && !strings.EqualFold(typ, "DPoP") {
		return misses("its token is not bound to our key", "this server does not do DPoP for this client: dpop: false")
	}
	if !x.src.spec.DPoP && strings.EqualFold(typ, "DPoP") {
		return misses("its token is bound to a key", "dpop: true")
	}
	g.Token, g.Type = agent.NewSecret(token), tokenType(typ)
	known := x.lifeOf(token, name, r, &facts)
	v := life.Compute(facts)
	g.Life, g.IatLife = v.Life, v.Unanchored
	switch {
	case !v.Known && !known:
		return misses("its expires_in cannot be read", "lifetime: {default: …}")
	case !v.Known:
		return &agent.Error{Kind: agent.Misconfigured, Step: x.step, Detail: "nothing says how long the token lives", Hint: "lifetime: {default: …}"}
	case v.Life <= 0:
		return &agent.Error{Kind: agent.Misconfigured, Step: x.step, Detail: "the token had expired when it came",
			Hint: "compare the clocks; if 0 means for ever here: expires_in: ignore, with lifetime: {default: …}"}
	}
	return nil
}

// lifeOf gathers what is said of the token's life; readable is false where the
// server's own word is no number.
func (x *exchange) lifeOf(token, name string, r *reply, facts *life.Facts) (readable bool) {
	readable = true
	unit := x.src.spec.ExpiresIn
	if name == "access_token" && unit != "ignore" { // it does not speak of an id_token
		if unit == "" {
			unit = "s"
		}
		facts.ExpiresIn, readable = r.span("expires_in", unit)
		if facts.ExpiresIn == nil {
			for _, k := range []string{"expires_at", "expires_on"} {
				if text, ok := r.text(k); ok && facts.ExpiresAt.IsZero() {
					facts.ExpiresAt, _ = life.ReadTime(text, "", "")
				}
			}
		}
	}
	if x.src.jwt {
		t := signer.Peek(token)
		facts.Exp, facts.Iat = t.Exp, t.Iat
	}
	return readable
}

// tokenType writes the usual types as their RFCs do; consumers get others as
// they came, unless they are no words.
func tokenType(t string) string {
	for _, known := range []string{"Bearer", "DPoP"} {
		if strings.EqualFold(t, known) {
			return known
		}
	}
	if len(t) > 32 || !legal(t) || t == "N_A" {
		return ""
	}
	return t
}

// refreshEnds reads when the refresh token ends. No RFC says how that is told;
// these names are those of Keycloak and of GitHub.
func (x *exchange) refreshEnds(g *agent.Grant, r *reply, facts life.Facts) {
	take := func(in *time.Duration, at time.Time) {
		if d, ok := life.Span(facts, in, at); ok && (g.RefreshLife == 0 || d < g.RefreshLife) {
			g.RefreshLife = d
		}
	}
	for _, name := range []string{"refresh_expires_in", "refresh_token_expires_in"} {
		if d, _ := r.span(name, "s"); d != nil {
			take(d, time.Time{})
		}
	}
	if rt := g.RefreshToken.Reveal(); rt != "" && x.src.jwt {
		take(nil, signer.Peek(rt).Exp)
	}
}

// notes says what an admin should know. Only our own words are named.
func (x *exchange) notes(g *agent.Grant, a *wire.Answer, r *reply) {
	if a.FarDate {
		g.Note = "the Date of the server's answer is more than a day off and was not believed"
	}
	granted, ok := r.text("scope")
	switch {
	case !ok && x.step == agent.StepRefresh && g.Note == "":
		g.Note = x.state.Fewer // as it was (RFC 6749 §6)
		return
	case !ok:
		return // as asked (RFC 6749 §5.1)
	}
	x.state.Fewer = ""
	got := strings.FieldsFunc(granted, func(r rune) bool { return r == ' ' || r == ',' })
	missing := slices.DeleteFunc(slices.Clone(x.src.spec.Scopes), func(s string) bool {
		// These two are wishes for other tokens, and not every server lists them
		// among what the access token is good for.
		return slices.Contains(got, s) || s == "openid" || s == "offline_access" && !g.RefreshToken.IsZero()
	})
	if len(missing) > 0 {
		g.Note = "the server granted fewer scopes than asked: without " + strings.Join(missing, ", ")
		x.state.Fewer = g.Note
	}
}

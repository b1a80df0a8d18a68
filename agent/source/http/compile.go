package http

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"renewd/agent"
	"renewd/agent/secret"
	"renewd/agent/source/spec"
)

// Program is a compiled Spec; it is shared by all tokens of it and may be used
// by many goroutines at once.
type Program struct {
	name    string
	spec    *Spec
	inputs  []input // by name
	vars    []evaler
	login   []step
	refresh []step
	logout  []step
	extend  []step
	rules   []rule
	who     *template     // principal; nil: the inputs name it
	secrets []namedSecret // that the Spec itself names
	core    [32]byte      // of what makes a session another one

	mu       sync.Mutex
	room     room
	settings map[[32]byte]*settings
	usual    *settings // of those that override nothing in usualOf; nil: not known yet
	usualOf  *Env
}

// step is a compiled Step.
type step struct {
	name      string     // the word of the Spec
	kind      agent.Step // what it is for the agent
	when      *When
	valid     evaler   // refresh: while_valid
	request   *request // nil: made is the token
	made      *made
	challenge *challenge // nil: none is asked for
	success   success
	extracts  []extract
	rules     []rule
	rejected  *Rejected
	readsJSON bool
}

// Compile checks a Spec and makes a Program of it. name is the source's type:
// "http", or the preset's name. All problems are told at once; the Program is
// nil if one of them is more than a warning.
func Compile(name string, s *Spec) (*Program, []Problem) {
	c := &compiler{spec: s, prog: &Program{name: name, spec: s, settings: map[[32]byte]*settings{}},
		funcs: map[string]*function{}, inputs: map[string]int{}, vars: map[string]int{}, extras: map[string]bool{}, loose: map[string]bool{}}
	for _, f := range functions() {
		c.funcs[f.name] = f
	}
	if s.Language != nil && *s.Language != 1 {
		c.add("language", "unknown language %d", *s.Language).Hint = "this version speaks language 1"
	}
	c.declare()
	c.compileInputs()
	c.compileVars()
	c.steps()
	c.prog.rules = c.rules("errors", s.Errors, "")
	if s.Principal != "" {
		c.only = noSession
		c.prog.who = c.text("principal", s.Principal)
		c.only = nil
	}
	c.overrides("", &s.Overrides)
	c.prog.core = core(s)
	if c.problems.Fatal() {
		return nil, c.problems
	}
	return c.prog, c.problems
}

// declare gathers every name, so that the order of a Spec does not matter.
func (c *compiler) declare() {
	for i, name := range slices.Sorted(maps.Keys(c.spec.Inputs)) {
		c.inputs[name] = i
		c.nameOK(spec.Key("inputs", name), name, name != "refresh_token")
	}
	for i, name := range slices.Sorted(maps.Keys(c.spec.Vars)) {
		c.vars[name] = i
		c.nameOK(spec.Key("vars", name), name, true)
		if _, both := c.inputs[name]; both {
			c.add(spec.Key("vars", name), "%q is an input already", name)
		}
	}
	for _, steps := range [][]Step{c.spec.Login, c.spec.Refresh, c.spec.Extend} {
		for _, s := range steps {
			for name := range s.Extract {
				if extra, ok := strings.CutPrefix(name, "extra."); ok {
					c.extras[extra] = true
					c.loose[extra] = c.loose[extra] || s.Extract[name].As != "url"
				}
			}
		}
	}
}

// specKeys are the words beside inputs, which cannot be inputs' names.
func specKeys() []string {
	return []string{"type", "language", "inputs", "one_of", "vars", "login", "refresh", "logout", "extend", "errors", "principal",
		"lifetime", "session", "present", "tls", "proxy", "rejected", "limits", "steps"}
}

func (c *compiler) nameOK(path, name string, reserved bool) {
	for i := range len(name) {
		if !nameByte(name[i], i == 0) || name[i] == '.' {
			c.add(path, "a name is letters, digits and _, a letter first")
			return
		}
	}
	if slices.Contains(specKeys(), name) || name == "token" || name == "extra" || name == "refresh_token" && reserved {
		c.add(path, "%q is a word of the language", name)
	}
}

func (c *compiler) compileVars() {
	names := slices.Sorted(maps.Keys(c.spec.Vars))
	c.prog.vars = make([]evaler, len(names))
	for i, name := range names {
		v, path := c.spec.Vars[name], spec.Key("vars", name)
		if v.Sign != nil {
			c.prog.vars[i] = c.sign(spec.Key(path, "sign"), v.Sign)
		} else {
			c.prog.vars[i] = c.tree(path, v.Value.V)
		}
	}
	uses := func(i int) (out []int) {
		walk(c.prog.vars[i], func(n *node) {
			if n.kind == nodeVar {
				out = append(out, n.index)
			}
		})
		return out
	}
	for i, name := range names {
		if cyclic(i, len(names), uses) {
			c.add(spec.Key("vars", name), "%q needs itself", name)
		}
	}
}

// cyclic reports whether start is reached from itself.
func cyclic(start, n int, uses func(int) []int) bool {
	seen := make([]bool, n)
	todo := uses(start)
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if i == start {
			return true
		}
		if !seen[i] {
			seen[i] = true
			todo = append(todo, uses(i)...)
		}
	}
	return false
}

func (c *compiler) steps() {
	s := c.spec
	if len(s.Login) == 0 && len(s.Refresh) == 0 {
		c.add("login", "a login is needed, or a refresh with an input refresh_token")
	}
	if len(s.Login) == 0 && len(s.Refresh) > 0 {
		if _, ok := c.inputs["refresh_token"]; !ok {
			c.add("login", "without a login the first refresh token must be an input named refresh_token")
		}
	}
	if len(s.Refresh) > 0 && len(s.Extend) > 0 {
		c.add("extend", "refresh and extend exclude each other: a renewal brings a new value or it does not")
	}
	c.prog.login = c.stepList("login", agent.StepLogin, s.Login)
	c.prog.refresh = c.stepList("refresh", agent.StepRefresh, s.Refresh)
	c.prog.extend = c.stepList("extend", agent.StepRefresh, s.Extend)
	c.prog.logout = c.stepList("logout", agent.StepLogout, s.Logout)
}

func (c *compiler) stepList(name string, kind agent.Step, list []Step) []step {
	out := make([]step, len(list))
	for i := range list {
		path := name
		if len(list) > 1 {
			path = spec.Index(name, i)
			if i < len(list)-1 && list[i].When == nil {
				c.add(path, "holds always, so what follows is never used").Hint = "give it a `when`"
			}
		}
		out[i] = c.step(path, name, kind, &list[i])
	}
	return out
}

func (c *compiler) step(path, name string, kind agent.Step, s *Step) step {
	c.only = nil
	if kind == agent.StepLogin {
		c.only = noSession
	}
	out := step{name: name, kind: kind, when: s.When, rejected: s.Rejected}
	if s.Challenge != nil && (name != "login" || s.Request == nil) {
		c.add(spec.Key(path, "challenge"), "is for a login with a request")
	}
	out.challenge = c.challenge(spec.Key(path, "challenge"), s.Challenge)
	c.challenged = s.Challenge != nil
	defer func() { c.challenged = false }()
	if s.Token != "" || s.MinAge != "" {
		out.made = c.made(path, name, s)
	} else {
		out.request = c.request(path, s.Request)
	}
	out.success = c.success(path, s.Success)
	out.rules = c.rules(spec.Key(path, "errors"), s.Errors, name)
	out.extracts = c.extracts(spec.Key(path, "extract"), s.Extract)
	c.only = nil
	c.when(spec.Key(path, "when"), s.When)
	if !s.WhileValid.IsZero() {
		if name != "refresh" {
			c.add(spec.Key(path, "while_valid"), "is for refresh")
		}
		out.valid = c.tree(spec.Key(path, "while_valid"), s.WhileValid.V)
	}
	c.stepRules(path, name, s, &out)
	return out
}

// noSession is for what stands before a session.
func noSession(n *node) string {
	if n.kind == nodeToken || n.kind == nodeExtra || n.kind == nodeRefresh && n.index < 0 {
		return fmt.Sprintf("a login comes before there is a session, so %s has no value", n.text)
	}
	return ""
}

func (c *compiler) stepRules(path, name string, s *Step, out *step) {
	tok, hasToken := s.Extract["token"]
	switch {
	case name == "logout" && len(s.Extract) > 0:
		c.add(spec.Key(path, "extract"), "a logout brings nothing")
	case name == "extend" && hasToken:
		c.add(spec.Key(path, "extract"), "an extend keeps the token; what brings a new one is a refresh")
	case out.made != nil:
	case (name == "login" || name == "refresh") && (!hasToken || tok.Optional):
		c.add(spec.Key(path, "extract"), "a %s must say where the token is: extract: {token: …}", name)
	}
	if s.Rejected != nil && name != "login" {
		c.add(spec.Key(path, "rejected"), "is for logins")
	}
	s.Rejected.Check(spec.Key(path, "rejected"), &c.problems)
	if name == "login" && s.Request != nil && s.Request.Bearer {
		c.add(spec.Key(spec.Key(path, "request"), "bearer"), "a login comes before there is a token")
	}
	out.readsJSON = len(out.success.present)+len(out.success.absent)+len(out.success.equals) > 0
	for _, x := range out.extracts {
		out.readsJSON = out.readsJSON || (len(x.ptrs) > 0 || x.body == "json") && !x.optional
	}
}

func (c *compiler) when(path string, w *When) {
	if w == nil {
		return
	}
	check := func(key, name string) {
		if _, ok := c.inputs[name]; !ok {
			c.add(spec.Key(path, key), "%q is no input", name).Hint = spec.Meant(name, slices.Collect(maps.Keys(c.inputs)))
		}
	}
	for _, n := range w.Given {
		check("given", n)
	}
	for _, n := range w.Missing {
		check("missing", n)
	}
	for n := range w.Is {
		check("is", n)
	}
}

// core digests what makes a session another one: the requests and the values
// they are made of, not how failures are read, nor where secrets are kept.
func core(s *Spec) [32]byte {
	type request struct {
		Method, URL              string
		Query, Headers           any
		JSON, Form, Raw, Alt, Is any
	}
	type signed struct {
		Algorithm, KeyID string
		Headers, Claims  any
	}
	var all []any
	for _, st := range slices.Concat(s.Login, s.Refresh, s.Extend) {
		if st.Challenge != nil {
			all = append(all, st.Challenge.URL)
		}
		if r := st.Request; r != nil {
			all = append(all, request{r.Method, r.URL, r.Query, r.Headers, r.JSON, r.Form, r.Raw, r.Basic, st.When})
		} else {
			all = append(all, st.Token, st.When)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Vars)) {
		if j := s.Vars[name].Sign; j != nil {
			all = append(all, name, signed{j.Algorithm, j.KeyID, j.Headers, j.Claims})
		} else if _, isSecret := s.Vars[name].Value.V.(secret.Ref); !isSecret {
			all = append(all, name, s.Vars[name].Value)
		}
	}
	b, err := json.Marshal(all)
	if err != nil { // a NaN in a body; its text will do
		b = fmt.Append(nil, all)
	}
	return sha256.Sum256(b)
}

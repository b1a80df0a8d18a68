package exec

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/secret/child"
	"renewd/agent/source/life"
	"renewd/agent/source/signer"
	"renewd/agent/source/spec"
)

const defaultTimeout = 30 * time.Second

// Formats are what a command may print.
var formats = []string{"raw", "json", "exec_credential", "aws"}

// Source runs a command for each login. It implements agent.Source.
type Source struct {
	command child.Command
	format  string
	clock   agent.Clock
	max     time.Duration
	deflt   time.Duration
	traits  agent.Traits
}

// New checks s and makes its Source; nil where a problem is fatal.
func New(s *Spec, clock agent.Clock) (*Source, []spec.Problem) {
	var p spec.Problems
	src := &Source{format: s.Format, clock: clock}
	if src.format == "" {
		src.format = "raw"
	}
	if !slices.Contains(formats, src.format) {
		p.Add("format", "%q is not known", s.Format).Hint = spec.Meant(s.Format, formats)
	}
	switch {
	case len(s.Command) == 0 || s.Command[0] == "":
		p.Add("command", "is missing").Hint = "write a list, the program first: [/usr/bin/vendor-cli, token]"
	case !filepath.IsAbs(s.Command[0]) && strings.ContainsAny(s.Command[0], `/\`):
		p.Add("command", "is neither a name nor an absolute path").Hint = "write the program's whole path"
	}
	timeout, err := s.Timeout.Parse()
	if err != nil {
		p.Add("timeout", "%v", err)
	}
	if timeout == 0 || timeout > defaultTimeout {
		if timeout > defaultTimeout {
			p.Add("timeout", "is above the %v that any attempt may take", defaultTimeout)
		}
		timeout = defaultTimeout
	}
	if src.max, err = s.Lifetime.Max.Parse(); err != nil {
		p.Add("lifetime.max", "%v", err)
	}
	if src.deflt, err = s.Lifetime.Default.Parse(); err != nil {
		p.Add("lifetime.default", "%v", err)
	}
	if p.Fatal() {
		return nil, p
	}
	env := make([]string, 0, len(s.Env))
	for _, k := range sortedKeys(s.Env) {
		env = append(env, k+"="+s.Env[k])
	}
	src.command = child.Command{Argv: s.Command, Env: env, Timeout: timeout}
	sum := sha256.Sum256([]byte(strings.Join(append(append([]string{src.format}, s.Command...), env...), "\x00")))
	src.traits = agent.Traits{Type: "exec", Fingerprint: fmt.Sprintf("exec %x", sum[:12]), Life: firstSet(src.max, src.deflt)}
	return src, p
}

// Program is the path of the program, which others must not be able to change.
func (s *Source) Program() string { return s.command.Argv[0] }

// Traits implements agent.Source.
func (s *Source) Traits() *agent.Traits { return &s.traits }

// Prepare implements agent.Source.
func (s *Source) Prepare(_ context.Context, step agent.Step, _ agent.Session) (*agent.Attempt, error) {
	if step != agent.StepLogin {
		return nil, agent.ErrPassedOver
	}
	return &agent.Attempt{
		Credential: agent.Credential{Origin: "exec", Principal: s.traits.Fingerprint},
		Send:       s.send,
	}, nil
}

func (s *Source) send(ctx context.Context) (*agent.Grant, error) {
	sent := s.clock()
	out, err := child.Run(ctx, s.command)
	if err != nil {
		return nil, s.failed(err)
	}
	v, err := read(s.format, out)
	if err != nil {
		return nil, &agent.Error{Kind: agent.Misconfigured, Step: agent.StepLogin, Detail: err.Error(),
			Hint: "run the command by hand and compare with format: " + s.format}
	}
	t := signer.Peek(v.token)
	verdict := life.Compute(life.Facts{Sent: sent.Wall, ExpiresAt: v.expiresAt, ExpiresIn: v.expiresIn, Exp: t.Exp, Iat: t.Iat, Max: s.max, Default: s.deflt,
		Date: time.Time{}})
	if !verdict.Known {
		return nil, &agent.Error{Kind: agent.Misconfigured, Step: agent.StepLogin, Detail: "nothing says how long the token lives",
			Hint: "set lifetime: {default: …} beside the command"}
	}
	return &agent.Grant{Sent: sent, Token: agent.NewSecret(v.token), Type: v.typ, Life: verdict.Life, IatLife: verdict.Unanchored}, nil
}

// failed says why a run brought nothing. What the program wrote on stderr may
// hold secrets and is not shown.
func (s *Source) failed(err error) error {
	e := &agent.Error{Kind: agent.Transient, Step: agent.StepLogin, Detail: err.Error(), Err: err}
	if x, ok := errors.AsType[*osexec.ExitError](err); ok {
		e.Detail = fmt.Sprintf("the program ended with status %d", x.ExitCode())
		e.Hint = "run it by hand as the agent's user to see what it says: " + s.command.Argv[0]
	} else if _, ok := errors.AsType[*osexec.Error](err); ok {
		e.Kind, e.Unsent = agent.Misconfigured, true
		e.Detail = fmt.Sprintf("the program %q cannot be started", s.command.Argv[0])
		e.Hint = "name it by its whole path, and see that the agent's user may run it"
	} else if errors.Is(err, child.ErrTooLong) {
		e.Kind = agent.Misconfigured
	}
	return e
}

// value is what a command printed.
type value struct {
	token, typ string
	expiresAt  time.Time
	expiresIn  *time.Duration
}

func read(format string, out []byte) (value, error) {
	if format == "raw" {
		return value{token: strings.TrimRight(string(out), "\r\n")}, nil
	}
	var doc struct {
		// json: this program's own format, and that of many others
		Token         string          `json:"token"`
		AccessToken   string          `json:"access_token"`
		Type          string          `json:"type"`
		ExpiresAt     string          `json:"expires_at"`
		ExpiresAtUnix json.Number     `json:"expires_at_unix"`
		ExpiresIn     json.RawMessage `json:"expires_in"`
		// client.authentication.k8s.io ExecCredential
		Status struct {
			Token               string `json:"token"`
			ExpirationTimestamp string `json:"expirationTimestamp"`
		} `json:"status"`
		// AWS credential_process
		Version         int    `json:"Version"`
		SessionToken    string `json:"SessionToken"`
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string `json:"SecretAccessKey"`
		Expiration      string `json:"Expiration"`
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return value{}, errors.New("the output is not the JSON that was expected")
	}
	switch format {
	case "exec_credential":
		return timed(value{token: doc.Status.Token}, doc.Status.ExpirationTimestamp)
	case "aws":
		return timed(value{token: doc.SessionToken}, doc.Expiration)
	}
	v := value{token: doc.Token, typ: doc.Type}
	if v.token == "" {
		v.token = doc.AccessToken
	}
	if len(doc.ExpiresIn) > 0 && string(doc.ExpiresIn) != "null" {
		d, err := life.ReadSpan(strings.Trim(string(doc.ExpiresIn), `"`), "s")
		if err != nil {
			return v, errors.New("expires_in in the output is no number of seconds")
		}
		v.expiresIn = &d
	}
	return timed(v, doc.ExpiresAt)
}

func timed(v value, at string) (value, error) {
	if v.token == "" {
		return v, errors.New("the output holds no token")
	}
	if at == "" {
		return v, nil
	}
	t, err := life.ReadTime(at, "", "")
	if err != nil {
		return v, errors.New("the expiry in the output is no time")
	}
	v.expiresAt = t
	return v, nil
}

func firstSet(ds ...time.Duration) time.Duration {
	for _, d := range ds {
		if d > 0 {
			return d
		}
	}
	return 0
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

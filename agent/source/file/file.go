package file

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"renewd/agent"
	"renewd/agent/source/life"
	"renewd/agent/source/signer"
	"renewd/agent/source/spec"
)

const largest = 128 << 10

// Source reads a file for each login. It implements agent.Source.
type Source struct {
	path       string
	format     string
	clock      agent.Clock
	max, deflt time.Duration
	traits     agent.Traits
}

// New checks s and makes its Source; nil where a problem is fatal.
func New(s *Spec, clock agent.Clock) (*Source, []spec.Problem) {
	var p spec.Problems
	src := &Source{path: string(s.Path), format: s.Format, clock: clock}
	if s.Path == "" {
		p.Add("path", "is missing").Hint = "name the file that something else keeps: path: /run/vendor/token"
	}
	switch s.Format {
	case "":
		src.format = "raw"
	case "raw", "json":
	default:
		p.Add("format", "%q is not known", s.Format).Hint = spec.Meant(s.Format, []string{"raw", "json"})
	}
	var err error
	if src.max, err = s.Lifetime.Max.Parse(); err != nil {
		p.Add("lifetime.max", "%v", err)
	}
	if src.deflt, err = s.Lifetime.Default.Parse(); err != nil {
		p.Add("lifetime.default", "%v", err)
	}
	if p.Fatal() {
		return nil, p
	}
	src.traits = agent.Traits{Type: "file", Fingerprint: "file " + src.format + " " + src.path, Life: max(src.max, src.deflt)}
	return src, p
}

// SourceFile is the file to watch.
func (s *Source) SourceFile() string { return s.path }

// Traits implements agent.Source.
func (s *Source) Traits() *agent.Traits { return &s.traits }

// Prepare implements agent.Source.
func (s *Source) Prepare(_ context.Context, step agent.Step, _ agent.Session) (*agent.Attempt, error) {
	if step != agent.StepLogin {
		return nil, agent.ErrPassedOver
	}
	return &agent.Attempt{Credential: agent.Credential{Origin: "file", Principal: s.path}, Send: s.read}, nil
}

func (s *Source) read(context.Context) (*agent.Grant, error) {
	now := s.clock()
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, failed(agent.Transient, "the file is not there", "whatever writes it is to write "+s.path)
	case err != nil:
		return nil, failed(agent.Misconfigured, "the file cannot be read", "let the agent's user read "+s.path)
	case !info.Mode().IsRegular() || info.Size() > largest:
		return nil, failed(agent.Misconfigured, "it is not a file that holds a token", "")
	}
	b, err := os.ReadFile(s.path)
	if err != nil {
		return nil, failed(agent.Misconfigured, "the file cannot be read", "let the agent's user read "+s.path)
	}
	token, typ, at, err := s.parse(b)
	if err != nil {
		return nil, failed(agent.Transient, err.Error(), "")
	}
	t := signer.Peek(token)
	v := life.Compute(life.Facts{Sent: now.Wall, Date: now.Wall, ExpiresAt: at, Exp: t.Exp, Iat: t.Iat, Max: s.max, Default: s.deflt})
	switch {
	case !v.Known:
		return nil, failed(agent.Misconfigured, "nothing says how long the token lives", "set lifetime: {default: …} beside the path")
	case v.Life <= 0:
		return nil, failed(agent.Transient, "the token in the file has expired", "whatever writes it is late")
	}
	return &agent.Grant{Sent: now, Token: agent.NewSecret(token), Type: typ, Life: v.Life, IatLife: v.Unanchored}, nil
}

func failed(kind agent.Kind, detail, hint string) error {
	return &agent.Error{Kind: kind, Step: agent.StepLogin, Detail: detail, Hint: hint}
}

func (s *Source) parse(b []byte) (token, typ string, at time.Time, err error) {
	if s.format == "raw" {
		if token = strings.TrimRight(string(b), "\r\n"); token == "" {
			err = errors.New("the file is empty")
		}
		return token, "", time.Time{}, err
	}
	var doc struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		Type        string `json:"type"`
		ExpiresAt   string `json:"expires_at"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return "", "", time.Time{}, errors.New("the file is not JSON, or half written")
	}
	if doc.Token == "" {
		doc.Token = doc.AccessToken
	}
	if doc.Token == "" {
		return "", "", time.Time{}, errors.New("the file holds no token")
	}
	if doc.ExpiresAt != "" {
		if at, err = life.ReadTime(doc.ExpiresAt, "", ""); err != nil {
			return "", "", at, errors.New("expires_at in the file is no time")
		}
	}
	return doc.Token, doc.Type, at, nil
}

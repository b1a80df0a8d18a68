// Package sink lays a token out for those who read it: the formats that files
// and the socket share. Each kind of sink has a package of its own below it.
package sink

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"renewd/agent"
)

// Options choose a format. The zero value is the raw token without a newline.
type Options struct {
	Format   string // one of Names; empty: raw, or template where Template is set
	Newline  bool   // raw: end with a newline
	Machine  string // netrc: the host
	Login    string // netrc: the account
	Template string // template: text/template over the fields of json
}

// Format lays publications out. It is safe for concurrent use.
type Format struct {
	name   string
	ctype  string
	render func(b []byte, p *agent.Publication) ([]byte, error) // appends
}

// Append lays p out at the end of b, without an allocation where b has room and
// the format is raw or json. An error never holds the token.
func (f *Format) Append(b []byte, p *agent.Publication) ([]byte, error) {
	out, err := f.render(b, p)
	if err != nil {
		return b, fmt.Errorf("lay out as %s: %w", f.name, err)
	}
	return out, nil
}

const plainText = "text/plain; charset=utf-8"

// Names lists the formats, in the order of the documentation.
func Names() []string {
	return []string{"raw", "header", "json", "env", "curl", "netrc", "template"}
}

// New checks the options and returns their format. Its errors name the option
// that is wrong.
func New(o Options) (*Format, error) {
	if o.Format == "" && o.Template != "" {
		o.Format = "template"
	}
	if o.Format == "" {
		o.Format = "raw"
	}
	if err := o.misplaced(); err != nil {
		return nil, err
	}
	f := &Format{name: o.Format, ctype: plainText}
	switch o.Format {
	case "raw":
		f.render = rawFormat(o.Newline)
	case "header":
		f.render = renderHeader
	case "json":
		f.ctype, f.render = "application/json", renderJSON
	case "env":
		f.render = renderEnv
	case "curl":
		f.render = renderCurl
	case "netrc":
		return f.netrc(o)
	case "template":
		return f.template(o.Template)
	default:
		return nil, fmt.Errorf("format: %q is none of %s", o.Format, strings.Join(Names(), ", "))
	}
	return f, nil
}

// misplaced refuses options that the format would ignore: their writer believes
// that they do something.
func (o Options) misplaced() error {
	if !slices.Contains(Names(), o.Format) {
		return nil // New says so
	}
	for _, m := range []struct {
		option, format string
		set            bool
	}{
		{"newline", "raw", o.Newline},
		{"machine", "netrc", o.Machine != ""},
		{"login", "netrc", o.Login != ""},
		{"template", "template", o.Template != ""},
	} {
		if m.set && o.Format != m.format {
			return fmt.Errorf("%s: it belongs to format %s, not %s", m.option, m.format, o.Format)
		}
	}
	return nil
}

// Name is the format's name.
func (f *Format) Name() string { return f.name }

// ContentType is what HTTP calls the rendering.
func (f *Format) ContentType() string { return f.ctype }

// Render is Append to nothing.
func (f *Format) Render(p *agent.Publication) ([]byte, error) { return f.Append(nil, p) }

func rawFormat(newline bool) func([]byte, *agent.Publication) ([]byte, error) {
	return func(b []byte, p *agent.Publication) ([]byte, error) {
		b = append(b, p.Token.Reveal()...)
		if newline {
			b = append(b, '\n')
		}
		return b, nil
	}
}

// renderHeader gives one header line, for curl -H @file.
func renderHeader(b []byte, p *agent.Publication) ([]byte, error) {
	line, err := headerLine(p)
	return append(append(b, line...), '\n'), err
}

// ErrNoHeader says that the token is not presented in a header.
var ErrNoHeader = errors.New("this token goes in the query of the URL, so there is no header")

// headerLine refuses what would become a second header (RFC 9110 section 5.5): an
// extra that a server chose may stand in it.
func headerLine(p *agent.Publication) (string, error) {
	name, value := p.Header()
	if name == "" {
		return "", ErrNoHeader
	}
	line := name + ": " + value
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return "", errors.New("the header would hold a control character")
	}
	return line, nil
}

// renderCurl gives a config for curl -K. In its double quotes a backslash escapes
// (curl(1), --config).
func renderCurl(b []byte, p *agent.Publication) ([]byte, error) {
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\t", `\t`)
	if query := queryPair(p); query != "" {
		// Of curl 7.87 and later; get and data-urlencode would take a request's
		// own data for the query too. A leading + says that it is encoded.
		return fmt.Appendf(b, "url-query = \"+%s\"\n", quoted.Replace(query)), nil
	}
	line, err := headerLine(p)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(b, "header = \"%s\"\n", quoted.Replace(line)), nil
}

// queryPair is the parameter that presents the token, as a URL has it; empty where
// a header does.
func queryPair(p *agent.Publication) string {
	name, value := p.Query()
	if name == "" {
		return ""
	}
	return url.QueryEscape(name) + "=" + url.QueryEscape(value)
}

// netrc gives one entry of a .netrc. Its words are split at white space, and no
// reader agrees with another on quoting, so what would need it is refused.
func (f *Format) netrc(o Options) (*Format, error) {
	for _, v := range [][2]string{{"machine", o.Machine}, {"login", o.Login}} {
		if v[1] == "" {
			return nil, fmt.Errorf("%s: format netrc needs it", v[0])
		}
		if strings.ContainsFunc(v[1], func(r rune) bool { return r <= ' ' || r == 0x7f || r == '"' || r == '\\' }) {
			return nil, fmt.Errorf("%s: %q holds a character that a .netrc cannot", v[0], v[1])
		}
	}
	f.render = func(b []byte, p *agent.Publication) ([]byte, error) {
		token := p.Token.Reveal()
		if strings.HasPrefix(token, `"`) {
			return nil, errors.New("the token begins with a quote, which a .netrc cannot hold")
		}
		return fmt.Appendf(b, "machine %s login %s password %s\n", o.Machine, o.Login, token), nil
	}
	return f, nil
}

// renderEnv gives assignments for a shell and for systemd's EnvironmentFile=,
// which part ways only over a single quote inside a value.
func renderEnv(b []byte, p *agent.Publication) ([]byte, error) {
	suffix, shown := "_QUERY", queryPair(p)
	if shown == "" {
		line, err := headerLine(p)
		if err != nil {
			return nil, err
		}
		suffix, shown = "_HEADER", line
	}
	name := EnvName(p.Name)
	for _, v := range [][2]string{
		{"_TOKEN", p.Token.Reveal()},
		{"_EXPIRES_AT", stamp(p.ExpiresAt)},
		{"_EXPIRES_UNIX", fmt.Sprint(p.ExpiresAt.Unix())},
		{suffix, shown},
	} {
		b = fmt.Appendf(b, "%s%s=%s\n", name, v[0], envQuote(v[1]))
	}
	return b, nil
}

// EnvName makes a token's name the name of a variable: [A-Z0-9_], a leading digit
// after an underscore.
func EnvName(token string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, token)
	if name != "" && name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}

func envQuote(s string) string {
	bare := !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._~+/=:-", r))
	})
	if bare {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// stamp drops fractions: a time that is read back is never later than it was.
func stamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func load(t *testing.T, files map[string]string) (*Config, Problems) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, problems, err := Load(filepath.Join(dir, "renewd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range problems {
		problems[i].File = strings.TrimPrefix(problems[i].File, dir+"/")
	}
	return c, problems
}

const one = "tokens:\n  %: {source: {type: exec, command: [/bin/true]}}\n"

func tokenFile(name string) string { return strings.Replace(one, "%", name, 1) }

func TestConfDAddsTokensAndNothingElse(t *testing.T) {
	c, problems := load(t, map[string]string{
		"renewd.yaml":            tokenFile("a"),
		"conf.d/b.yaml":          tokenFile("b"),
		"conf.d/empty.yaml":      "",
		"conf.d/.hidden.yaml":    "not: [yaml",
		"conf.d/#edited.yaml":    "not: [yaml",
		"conf.d/b.yaml~":         "not: [yaml",
		"conf.d/b.yaml.dpkg-old": "not: [yaml",
	})
	if len(problems) > 0 || len(c.Tokens) != 2 {
		t.Fatalf("%d tokens, %v", len(c.Tokens), problems)
	}
	_, problems = load(t, map[string]string{"renewd.yaml": "", "conf.d/b.yaml": "log: {level: debug}\n"})
	if len(problems) != 1 || problems[0].String() != "conf.d/b.yaml:1:1: log: unknown key (there are: tokens)" {
		t.Fatal(problems)
	}
}

func TestATokenGivenTwiceNamesBothPlaces(t *testing.T) {
	_, problems := load(t, map[string]string{"renewd.yaml": tokenFile("a"), "conf.d/z.yaml": tokenFile("a")})
	if len(problems) != 1 {
		t.Fatal(problems)
	}
	if s := problems[0].String(); !strings.HasPrefix(s, "conf.d/z.yaml:2:6: tokens.a: the token is declared twice (it is also in ") || !strings.HasSuffix(s, "renewd.yaml:2)") {
		t.Error(s)
	}
}

func TestPathsAreRelativeToTheirFile(t *testing.T) {
	c, problems := load(t, map[string]string{
		"renewd.yaml":   "state: {dir: st}\n",
		"conf.d/b.yaml": "tokens:\n  b:\n    source: {type: commander, url: https://x.test, username: u, password: {file: pw}, tls: {ca_file: ../ca.pem}}\n",
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if !filepath.IsAbs(string(c.State.Dir)) || filepath.Base(string(c.State.Dir)) != "st" {
		t.Errorf("state.dir is %s", c.State.Dir)
	}
	use := c.Tokens["b"].Source.Use
	if ca := string(use.TLS.CAFile); !strings.HasSuffix(ca, "/ca.pem") || strings.Contains(ca, "conf.d") {
		t.Errorf("ca_file is %s", ca)
	}
}

func TestScalarsKeepTheirSpelling(t *testing.T) {
	c, problems := load(t, map[string]string{"renewd.yaml": `
hosts: {"a.test": {concurrency: 4, requests: 100/5m}}
tokens:
  t:
    source: {type: exec, command: [/bin/echo, 007, 1e3, "true", 0x10], timeout: 5s}
    renew: {before: 1m30s, jitter: 5%, min_interval: 2s}
    sinks: [{type: file, mode: 0640}, {type: file, path: other, mode: "0600"}]
`})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	tok := c.Tokens["t"]
	if got := strings.Join(tok.Source.Exec.Command, " "); got != "/bin/echo 007 1e3 true 0x10" {
		t.Errorf("command %q", got)
	}
	if *tok.Sinks[0].Mode != 0o640 || *tok.Sinks[1].Mode != 0o600 {
		t.Errorf("modes %o %o", *tok.Sinks[0].Mode, *tok.Sinks[1].Mode)
	}
	if *tok.Renew.Jitter != 0.05 || c.Hosts["a.test"].Requests.N != 100 {
		t.Errorf("%+v %+v", tok.Renew, c.Hosts)
	}
}

// A config that is no config must neither crash the agent nor be quoted.
func FuzzDecode(f *testing.F) {
	f.Add(tokenFile("a"))
	f.Add("a: &a [*a]")
	f.Add("tokens: {a: &x {source: *x}}")
	f.Add("a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]\ntokens: *c")
	f.Add("tokens:\n  a:\n    source: {type: http, vars: {p: ${x}}, login: {request: {url: 'https://${p}'}}}\n")
	f.Add("socket: {mode: 0o777}\n<<: {a: 1}\n? [a]\n: b")
	f.Add(strings.Repeat("[", 2000))
	f.Fuzz(func(t *testing.T, text string) {
		const secret = "s3cr3t-Marker"
		c := &Config{}
		for _, p := range decodeFile("f.yaml", []byte(text+"\n# "+secret+"\npw: "+secret+"\n"), c) {
			if strings.Contains(p.String(), secret) {
				t.Errorf("a problem quotes the file: %s", p)
			}
		}
	})
}

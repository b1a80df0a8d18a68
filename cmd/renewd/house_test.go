package main

import (
	"os/exec"
	"strings"
	"testing"
)

// ban says who must not depend on what, and why.
type ban struct {
	from, to string // package prefixes; to without a dot is of the standard library
	why      string
	except   string // a prefix of from that may
}

var bans = []ban{
	{"renewd/agent", "renewd/", "the core imports nothing of ours, so that it can be read and tested alone", "renewd/agent/"},
	{"renewd/platform/", "renewd/agent", "platform code knows the system, not the product", ""},
	{"renewd/platform/", "renewd/sink", "platform code knows the system, not the product", ""},
	{"renewd/platform/", "renewd/cmd", "platform code knows the system, not the product", ""},
	{"renewd/sink", "renewd/agent/source", "sinks and sources never import each other", ""},
	{"renewd/sink", "renewd/agent/config", "sinks are given what they need", ""},
	{"renewd/agent/source/", "renewd/sink", "sinks and sources never import each other", ""},
	{"renewd/agent/source/http", "renewd/agent/source/exec", "sources never import each other", ""},
	{"renewd/agent/source/exec", "renewd/agent/source/http", "sources never import each other", ""},
	{"renewd/agent/source/file", "renewd/agent/source/exec", "sources never import each other", ""},
	{"renewd/agent/source/oauth2", "renewd/agent/source/http", "sources never import each other", ""},
	{"renewd/agent/source/http", "renewd/agent/source/oauth2", "sources never import each other", ""},
	{"renewd/agent/", "renewd/cmd", "nothing depends on the program", ""},
	{"renewd/sink", "renewd/cmd", "nothing depends on the program", ""},
	{"renewd/", "testing", "the program links no test code", ""},
	{"renewd/", "net/http/httptest", "it registers a flag at its start", ""},
}

// homes are the only packages that may import a module directly.
var homes = map[string]string{
	"github.com/fsnotify/fsnotify":        "renewd/agent/watch",
	"github.com/golang-jwt/jwt/v5":        "renewd/agent/source/signer",
	"github.com/lmittmann/tint":           "renewd/cmd/renewd",
	"rsc.io/qr":                           "renewd/cmd/renewd",
	"github.com/spf13/cobra":              "renewd/cmd/renewd",
	"go.yaml.in/yaml/v4":                  "renewd/agent/config",
	"go.etcd.io/bbolt":                    "renewd/agent/state",
	"github.com/Microsoft/go-winio":       "renewd/platform/ipc",
	"github.com/kardianos/service":        "renewd/platform/service",
	"github.com/zalando/go-keyring":       "renewd/platform/keyring",
	"github.com/landlock-lsm/go-landlock": "renewd/platform/harden",
}

func goList(t *testing.T, args ...string) [][]string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 0 {
			rows = append(rows, f)
		}
	}
	return rows
}

// The arrows between packages point one way; what a package links, however far
// away, is what counts.
func TestPackagesKeepTheirArrows(t *testing.T) {
	rows := goList(t, "-f", `{{.ImportPath}} {{join .Deps " "}}`, "renewd/...")
	if len(rows) < 15 {
		t.Fatalf("only %d packages", len(rows))
	}
	for _, row := range rows {
		pkg := row[0]
		if strings.HasSuffix(pkg, "test") {
			continue // conformance suites
		}
		for _, b := range bans {
			exact := pkg == strings.TrimSuffix(b.from, "/") || strings.HasPrefix(pkg, strings.TrimSuffix(b.from, "/")+"/")
			if !exact || b.except != "" && strings.HasPrefix(pkg, b.except) {
				continue
			}
			for _, dep := range row[1:] {
				if dep == b.to || strings.HasSuffix(b.to, "/") && strings.HasPrefix(dep, b.to) || strings.HasPrefix(dep, b.to+"/") && strings.Contains(b.to, "/") {
					t.Errorf("%s depends on %s: %s", pkg, dep, b.why)
				}
			}
		}
	}
}

// Each module has one home, so that replacing it is one package's work.
func TestModulesHaveOneHome(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "renewd/...") {
		for _, imp := range row[1:] {
			for module, home := range homes {
				if imp != module && !strings.HasPrefix(imp, module+"/") {
					continue
				}
				seen[module] = true
				if row[0] != home {
					t.Errorf("%s imports %s, whose home is %s", row[0], imp, home)
				}
			}
			if strings.HasPrefix(imp, "golang.org/x/sys") && !strings.HasPrefix(row[0], "renewd/platform/") && !strings.HasPrefix(row[0], "renewd/agent/secret") {
				t.Errorf("%s imports %s: system calls belong to platform", row[0], imp)
			}
		}
	}
	for module := range homes {
		if !seen[module] && module != "github.com/Microsoft/go-winio" { // Windows only
			t.Errorf("nobody imports %s", module)
		}
	}
}

// The top level is a table of contents.
func TestTopLevel(t *testing.T) {
	allowed := " go.mod go.sum cmd agent sink platform packaging README.md LICENSE CHANGELOG.md "
	out, err := exec.Command("git", "ls-tree", "--name-only", "HEAD", "../../").Output()
	if err != nil {
		t.Skip("this is no checkout")
	}
	for line := range strings.Lines(string(out)) {
		name := strings.TrimPrefix(strings.TrimSpace(line), "../../")
		if !strings.HasPrefix(name, ".") && !strings.Contains(allowed, " "+name+" ") {
			t.Errorf("%s stands at the top level", name)
		}
	}
}

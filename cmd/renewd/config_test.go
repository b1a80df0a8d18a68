package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is printed now as what is expected")

// checkFile runs renewd check on a copy of a file in a directory of its own, so
// that its messages name no place of this machine.
func checkFile(t *testing.T, data []byte, more map[string]string) (stdout, stderr string, code int) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "renewd.yaml")
	write := func(path string, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, data)
	for name, text := range more {
		write(filepath.Join(dir, name), []byte(text))
	}
	t.Setenv("RUNTIME_DIRECTORY", filepath.Join(dir, "run"))
	t.Setenv("STATE_DIRECTORY", filepath.Join(dir, "state"))
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	var o, e bytes.Buffer
	code = run([]string{"check", "--config", path}, strings.NewReader(""), &o, &e)
	clean := func(b bytes.Buffer) string { return strings.ReplaceAll(b.String(), dir+"/", "") }
	return clean(o), clean(e), code
}

// Every way in which a config can be wrong has its exact message beside it.
func TestBadConfigs(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d bad configs, %v", len(files), err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			_, got, code := checkFile(t, data, nil)
			if code != exitUsage {
				t.Errorf("exit code %d, want %d: %s", code, exitUsage, got)
			}
			expected := strings.TrimSuffix(f, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(expected, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(expected)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// The examples that are shipped are accepted as they stand.
func TestExamplesAreAccepted(t *testing.T) {
	files, err := filepath.Glob("../../packaging/examples/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			secrets := map[string]string{"commander.password": "x", "cylance.secret": "x", "emnify.token": "x",
				"github-app.pem": "x", "vault.secret-id": "x", "vcenter.password": "x"}
			out, errs, code := checkFile(t, data, secrets)
			if code != exitOK || strings.Contains(errs, "warning") {
				t.Errorf("exit code %d\n%s%s", code, out, errs)
			}
		})
	}
}

// Editors complete by the schema that is shipped; it is the code's own.
func TestSchemaIsTheCodes(t *testing.T) {
	var got bytes.Buffer
	if err := printSchema(&got); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(got.Bytes()) {
		t.Fatal("the schema is not JSON")
	}
	const path = "../../packaging/renewd.schema.json"
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s is not what `renewd check --schema` prints; run: go test ./cmd/renewd -run Schema -update", path)
	}
}

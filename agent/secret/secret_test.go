package secret_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"renewd/agent"
	"renewd/agent/secret"
)

func write(t *testing.T, content string) secret.Ref {
	t.Helper()
	p := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return secret.Ref{File: secret.Path(p)}
}

func TestFileContent(t *testing.T) {
	for _, c := range []struct{ name, in, want, err string }{
		{"plain", "hunter2", "hunter2", ""},
		{"one LF", "hunter2\n", "hunter2", ""},
		{"one CRLF", "hunter2\r\n", "hunter2", ""},
		{"only one line end goes", "hunter2\n\n", "hunter2\n", ""},
		{"spaces are the secret's", " hunter2 ", " hunter2 ", ""},
		{"BOM", "\xef\xbb\xbfhunter2", "", "byte order mark"},
		{"UTF-16LE", "\xff\xfeh\x00u\x00", "", "UTF-16"},
		{"UTF-16BE", "\xfe\xff\x00h\x00u", "", "UTF-16"},
		{"UTF-16 without mark", "h\x00u\x00", "", "UTF-16"},
		{"NUL", "hun\x00ter", "", "NUL"},
		{"empty", "", "", "is empty"},
		{"only a line end", "\n", "", "is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := secret.NewResolver().Resolve(t.Context(), write(t, c.in))
			if c.err == "" {
				if err != nil || got.Reveal() != c.want {
					t.Fatalf("got %q, %v; want %q", got.Reveal(), err, c.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), "printf") {
				t.Fatalf("got %v; want an error saying %q and how to write it", err, c.err)
			}
			if strings.Contains(err.Error(), "hun") {
				t.Fatalf("error quotes the secret: %v", err)
			}
		})
	}
}

func TestOtherPlaces(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SECRET_TEST_ENV", "from-env")
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if err := os.WriteFile(filepath.Join(dir, "cred"), []byte("from-cred\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ref       secret.Ref
		want, err string
	}{
		{secret.Plain("inline"), "inline", ""},
		{secret.Ref{Env: "SECRET_TEST_ENV"}, "from-env", ""},
		{secret.Ref{Env: "SECRET_TEST_NONE"}, "", "not set"},
		{secret.Ref{Credential: "cred"}, "from-cred", ""},
		{secret.Ref{Credential: "other"}, "", "LoadCredential=other"},
		{secret.Ref{Credential: "../etc/shadow"}, "", "not a path"},
		{secret.Ref{Keyring: "a"}, "", "SERVICE/ACCOUNT"},
		{secret.Ref{}, "", "empty"},
		{secret.Ref{Env: "A", Credential: "b"}, "", "one place"},
		{secret.Ref{File: secret.Path(dir)}, "", "regular file"},
		{secret.Ref{File: "/nonexistent/x"}, "", "no such file"},
	} {
		got, err := secret.NewResolver().Resolve(t.Context(), c.ref)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v: got %v; want %q", c.ref, err, c.err)
			}
		} else if err != nil || got.Reveal() != c.want {
			t.Errorf("%v: got %q, %v; want %q", c.ref, got.Reveal(), err, c.want)
		}
	}
}

func TestFromTree(t *testing.T) {
	abs := func(p string) string { return "/base/" + p }
	r, err := secret.FromTree(map[string]any{"file": "p"}, abs)
	if err != nil || r.File != "/base/p" {
		t.Errorf("got %v, %v", r.File, err)
	}
	r, err = secret.FromTree(map[string]any{"command": []any{"pass", "show"}}, abs)
	if err != nil || len(r.Command) != 2 {
		t.Errorf("got %v, %v", r.Command, err)
	}
	for _, m := range []map[string]any{{}, {"fiel": "x"}, {"file": "a", "env": "b"}, {"command": "x y"}, {"file": int64(1)}, {"env": ""}} {
		if _, err := secret.FromTree(m, abs); err == nil {
			t.Errorf("%v was taken", m)
		}
	}
}

func TestNothingPrintsASecret(t *testing.T) {
	r := secret.Plain("hunter2")
	for _, v := range []any{r, &r, r.Handle(), []any{r.Handle()}, struct{ h secret.Handle }{r.Handle()}} {
		for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
			if s := fmt.Sprintf(f, v); strings.Contains(s, "hunter2") {
				t.Errorf("%s of %T: %s", f, v, s)
			}
		}
	}
}

// A changed file is read again until it rests; a truncated one is never taken.
func TestChangedFileSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ref := write(t, "old")
		path := string(ref.File)
		v := secret.NewResolver()
		if _, err := v.Resolve(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		put := func(s string) {
			if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
				t.Error(err)
			}
		}
		put("half")
		go func() {
			time.Sleep(400 * time.Millisecond)
			put("")
			time.Sleep(400 * time.Millisecond)
			put("whole")
		}()
		begin := time.Now()
		got, err := v.Resolve(t.Context(), ref)
		if err != nil || got.Reveal() != "whole" {
			t.Fatalf("got %q, %v; want the settled value", got.Reveal(), err)
		}
		if time.Since(begin) < time.Second {
			t.Errorf("settled after %v", time.Since(begin))
		}
		put("one")
		go func() {
			time.Sleep(400 * time.Millisecond)
			put("another")
			time.Sleep(500 * time.Millisecond)
			put("two") // no two readings agreed before
		}()
		if got, err := v.Resolve(t.Context(), ref); err != nil || got.Reveal() != "two" {
			t.Errorf("got %q, %v", got.Reveal(), err)
		}
		begin = time.Now()
		if _, err := v.Resolve(t.Context(), ref); err != nil || time.Since(begin) != 0 {
			t.Errorf("an unchanged file took %v, %v", time.Since(begin), err)
		}
		put("")
		if _, err := v.Resolve(t.Context(), ref); err == nil {
			t.Error("an empty file was taken")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Resolve(t.Context(), ref); err == nil {
			t.Error("a missing file was taken")
		}
	})
}

func TestNilResolver(t *testing.T) {
	var v *secret.Resolver
	got, err := v.Resolve(t.Context(), write(t, "x"))
	if err != nil || !got.Equal(agent.NewSecret("x")) {
		t.Fatal(err)
	}
}

func TestHandle(t *testing.T) {
	f := secret.Ref{File: "/a/b"}.Handle()
	if f.File() != "/a/b" || f.Inline() || f.AtStart() {
		t.Error("file")
	}
	if h := secret.Plain("x").Handle(); h.File() != "" || !h.Inline() {
		t.Error("plain")
	}
	if h := (secret.Ref{Env: "x"}).Handle(); !h.AtStart() {
		t.Error("env")
	}
}

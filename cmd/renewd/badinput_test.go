package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// oddServer answers each account well or oddly, as it is told.
type oddServer struct {
	*httptest.Server
	odd   atomic.Bool
	mu    sync.Mutex
	cases map[string]oddCase
	tries map[string]int
	n     int
}

// oddCase is one way of an answer to be no good.
type oddCase struct {
	answer func(w http.ResponseWriter, r *http.Request)
	want   string // in what status says of it
	taken  bool   // it looks odd, and is a good token
}

func (s *oddServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	_, _ = io.Copy(io.Discard, r.Body)
	s.mu.Lock()
	s.tries[name]++
	s.n++
	n, c := s.n, s.cases[name]
	s.mu.Unlock()
	if s.odd.Load() && c.answer != nil {
		c.answer(w, r)
		return
	}
	sendToken(w, fmt.Sprintf("good-%d", n))
}

func (s *oddServer) tried(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries[name]
}

func sendToken(w http.ResponseWriter, token string) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token})
}

// jwtWith is a token with exp as it is given.
func jwtWith(exp string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"none"}`)) + "." + enc([]byte(`{"n":`+fmt.Sprint(time.Now().UnixNano())+`,"exp":`+exp+`}`)) + ".c2ln"
}

func oddCases() map[string]oddCase {
	send := func(contentType, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = io.WriteString(w, body)
		}
	}
	token := func(tok func() string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { sendToken(w, tok()) }
	}
	text := func(s string) func() string { return func() string { return s } }
	exp := func(s string) func() string { return func() string { return jwtWith(s) } }
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	// Made once: a busy machine takes longer over it than an answer may.
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = io.WriteString(z, `{"token":"`)
	_, _ = z.Write(bytes.Repeat([]byte("A"), 64<<20))
	_, _ = io.WriteString(z, `"}`)
	_ = z.Close()
	return map[string]oddCase{
		"unreachable": {answer: func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, want: "ended its answer too early"},
		"slow":        {answer: hang, want: "gave no whole answer within"},
		"drip": {answer: func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(50 * time.Millisecond)
			}
		}, want: "gave no whole answer within"},
		"truncated": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "4096")
			_, _ = io.WriteString(w, `{"token":"half`)
		}, want: "ended its answer too early"},
		"redirect": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusTemporaryRedirect)
		}, want: "redirect"},
		"html":      {answer: send("text/html", "<!doctype html><title>hotel</title>"), want: "a page for people"},
		"notoken":   {answer: send("application/json", `{"ok":true}`), want: "has no token"},
		"tokennull": {answer: send("application/json", `{"token":null}`), want: "has no token"},
		"tokenlist": {answer: send("application/json", `{"token":["a"]}`), want: "has no token"},
		"empty":     {answer: send("application/json", ``), want: "is not JSON"},
		"crlf":      {answer: token(text("a\r\nX-Evil: 1")), want: "no header can carry"},
		"nul":       {answer: token(text("a\x00b")), want: "no header can carry"},
		"mib":       {answer: token(func() string { return strings.Repeat("A", 900<<10) }), want: "64 KiB"},
		"overmib":   {answer: token(func() string { return strings.Repeat("A", 2<<20) }), want: "more than 1048576 bytes"},
		"gzipbomb": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		}, want: "more than 1048576 bytes"},
		"exppast":   {answer: token(exp("1000000000")), want: "expired"},
		"expneg":    {answer: token(exp("-5")), taken: true},
		"exp9999":   {answer: token(exp("253402300799")), taken: true},
		"expstring": {answer: token(func() string { return jwtWith(fmt.Sprintf(`"%d"`, time.Now().Unix()+3600)) }), taken: true},
		"expfloat":  {answer: token(func() string { return jwtWith(fmt.Sprintf("%d.75", time.Now().Unix()+3600)) }), taken: true},
		"expword":   {answer: token(exp(`"soon"`)), taken: true},
		"exphuge":   {answer: token(exp(`1e400`)), taken: true},
		"opaque":    {answer: token(text(`%%~not/base64!{"}`)), taken: true},
		"onebyte":   {answer: token(text("x")), taken: true},
		"almost64k": {answer: token(func() string { return strings.Repeat("z", 64<<10) }), taken: true},
	}
}

func (s *oddServer) config(more string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "hosts: {%q: {concurrency: 64}}\ntokens:\n", strings.TrimPrefix(s.URL, "http://"))
	for _, name := range sortedKeys(s.cases) {
		fmt.Fprintf(&b, `  %s:
    source:
      type: http
      vars: {user: %s, password: {file: password}}
      login:
        request: {method: POST, url: "%s/%s", json: {p: "${password}"}}
        extract: {token: {pointer: /token}}
      lifetime: {max: 8s}
    renew: {before: 6s, jitter: 0%%, min_interval: 100ms}
    sinks: [{type: file}]
`, name, name, s.URL, name)
	}
	return b.String() + more
}

// problemOf is what status says of a token, in one string.
func (r *rig) problemsOf() map[string]string {
	r.t.Helper()
	_, m := r.http("/v1/tokens")
	out := map[string]string{}
	list, _ := m["tokens"].([]any)
	for _, x := range list {
		t := x.(map[string]any)
		b, _ := json.Marshal(t["problems"])
		out[t["name"].(string)] = fmt.Sprintf("%v %s", t["state"], b)
	}
	return out
}

// Whatever a server answers: the token that was good stays published, status
// says what is wrong and what to do, and all is well by itself when the server
// is.
func TestBadAnswersLoseNothing(t *testing.T) {
	s := &oddServer{cases: oddCases(), tries: map[string]int{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.CloseClientConnections)
	t.Cleanup(s.Close)
	r := newRig(t, s.config(""))
	r.write("password", "hunter2")
	r.start()
	before := map[string]string{}
	for name := range s.cases {
		before[name] = r.waitFile(name)
	}
	s.odd.Store(true)
	waiting := map[string]bool{}
	for name := range s.cases {
		waiting[name] = true
	}
	var last map[string]string
	defer func() {
		for name := range waiting {
			t.Logf("was not told: %s: %.300s", name, last[name])
		}
	}()
	// Every odd answer is met while the good token is valid, 6 s before its
	// end.
	eventually(t, "every case is told", 20*time.Second, func() bool {
		said := r.problemsOf()
		for name, c := range s.cases {
			b, err := os.ReadFile(r.token(name))
			switch {
			case err != nil:
				t.Fatalf("%s: the file is gone: %v", name, err)
			case waiting[name] && (c.taken && string(b) != before[name] || !c.taken && strings.Contains(said[name], c.want)):
				delete(waiting, name)
				if !c.taken && !strings.Contains(said[name], `"hint":"`) && !strings.Contains(said[name], `"kind":"transient"`) {
					t.Errorf("%s: nothing says what to do: %s", name, said[name])
				}
			}
			if !c.taken && string(b) != before[name] {
				t.Fatalf("%s: %.100q was published", name, b)
			}
		}
		last = said
		return len(waiting) == 0
	})
	s.odd.Store(false)
	s.CloseClientConnections()
	for name, c := range s.cases {
		if c.taken {
			continue
		}
		// Where this took so long that the good token is over, the next login that was
		// misconfigured comes a minute after the one before.
		eventually(t, name+" recovers by itself", 90*time.Second, func() bool {
			b, _ := os.ReadFile(r.token(name))
			return strings.HasPrefix(string(b), "good-") && string(b) != before[name]
		})
	}
	r.leaks("hunter2", "good-")
	r.stop()
}

// leaks looks for words in all that people see.
func (r *rig) leaks(words ...string) {
	r.t.Helper()
	seen := map[string]string{"the log": r.log.String()}
	for _, args := range [][]string{{"status"}, {"status", "-o", "json"}, {"check", "--config", r.path("renewd.yaml")}} {
		o, e, _ := r.cli(args...)
		seen[strings.Join(args, " ")] = o + e
	}
	for where, text := range seen {
		for _, w := range words {
			if i := strings.Index(text, w); i >= 0 {
				r.t.Errorf("%s holds %q: …%s…", where, w, text[max(0, i-80):min(len(text), i+20)])
			}
		}
	}
}

// A secret file that cannot be what was meant is never sent, and told; mended, it
// is used at once. One that goes bad later costs nothing that is there.
func TestBadSecretFiles(t *testing.T) {
	bad := map[string]struct{ content, want string }{
		"missing": {"", "no such file"},
		"empty":   {"", "is empty"},
		"newline": {"\n", "is empty"},
		"binary":  {"hun\x00ter2", "NUL"},
		"utf16":   {"\xff\xfeh\x00u\x00n\x00", "UTF-16"},
		"bom":     {"\xef\xbb\xbfhunter2", "byte order mark"},
		"dir":     {"", "not a regular file"},
	}
	s := &oddServer{cases: map[string]oddCase{}, tries: map[string]int{}}
	for name := range bad {
		s.cases[name] = oddCase{}
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	config := s.config("")
	for name := range bad {
		config = strings.Replace(config, "user: "+name+", password: {file: password}", "user: "+name+", password: {file: s-"+name+"}", 1)
	}
	r := newRig(t, config)
	spoil := func(name string) {
		path := r.path("s-" + name)
		_ = os.RemoveAll(path)
		switch name {
		case "missing":
		case "dir":
			_ = os.Mkdir(path, 0o700)
		default:
			r.write("s-"+name, bad[name].content)
		}
	}
	told := func(when string) {
		t.Helper()
		for name, b := range bad {
			var said string
			eventually(t, name+" is told "+when, 20*time.Second, func() bool {
				said = r.problemsOf()[name]
				return strings.Contains(said, b.want) && strings.Contains(said, "s-"+name)
			})
		}
	}
	mend := func() {
		for name := range bad {
			_ = os.RemoveAll(r.path("s-" + name))
			r.write("s-"+name, "hunter2\n")
		}
	}
	for name := range bad {
		spoil(name)
	}
	r.start()
	eventually(t, "it answers", 10*time.Second, func() bool { _, _, code := r.cli("status"); return code != exitNoAgent })
	told("at the start")
	for name := range bad {
		if n := s.tried(name); n != 0 {
			t.Errorf("%s: the server counts %d tries", name, n)
		}
	}
	mend()
	first := map[string]string{}
	for name := range bad {
		first[name] = r.waitFile(name)
	}
	for name := range bad {
		spoil(name)
		go r.cli("refresh", name)
	}
	told("later")
	for name := range bad {
		if b, _ := os.ReadFile(r.token(name)); string(b) != first[name] && s.tried(name) < 2 {
			t.Errorf("%s: the file holds %q", name, b)
		}
	}
	mend()
	for name := range bad {
		eventually(t, name+" is renewed", 30*time.Second, func() bool {
			b, _ := os.ReadFile(r.token(name))
			return len(b) > 0 && string(b) != first[name]
		})
	}
	r.leaks("hunter2", "good-", "hun\x00")
	r.stop()
}

// A state that cannot be used is refused with the command to go on, and kept byte
// for byte.
func TestBadStates(t *testing.T) {
	for name, spoil := range map[string]func(dir string) (want string){
		"truncated": func(dir string) string {
			_ = os.Truncate(filepath.Join(dir, "state.db"), 12<<10)
			return "cannot be used"
		},
		"cut to a page": func(dir string) string {
			_ = os.Truncate(filepath.Join(dir, "state.db"), 4096)
			return "cannot be used"
		},
		"another key": func(dir string) string {
			_ = os.WriteFile(filepath.Join(dir, "state.key"), bytes.Repeat([]byte("k"), 32), 0o600)
			return "sealed with another key"
		},
		"no key": func(dir string) string { _ = os.Remove(filepath.Join(dir, "state.key")); return "state.key is missing" },
		"newer version": func(dir string) string {
			path := filepath.Join(dir, "state.db")
			b, _ := os.ReadFile(path)
			was := append([]byte("version"), 0, 0, 0, 0, 0, 0, 0, 1)
			is := append([]byte("version"), 0, 0, 0, 0, 0, 0, 0, 9)
			_ = os.WriteFile(path, bytes.ReplaceAll(b, was, is), 0o600)
			return "written by a newer renewd (format 9, this one knows 1)"
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "tokens:\n  a: {source: {type: exec, command: [/bin/echo, tok], lifetime: {max: 1h}}, sinks: [{type: file}]}\n")
			r.start()
			r.waitFile("a")
			r.stop()
			want := spoil(r.path("state"))
			before, _ := os.ReadFile(r.path("state/state.db"))
			_, errs, code := r.cli("run", "--config", r.path("renewd.yaml"))
			if code != exitUsage || !strings.Contains(errs, want) || !strings.Contains(errs, "renewd state reset --keep-broken") {
				t.Errorf("exit code %d: %s\nwant %q", code, errs, want)
			}
			if after, _ := os.ReadFile(r.path("state/state.db")); !bytes.Equal(before, after) {
				t.Error("the state was changed")
			}
			if b, _ := os.ReadFile(r.token("a")); string(b) != "tok" {
				t.Errorf("the token's file holds %q", b)
			}
			out, errs, code := r.cli("state", "reset", "--keep-broken", "--config", r.path("renewd.yaml"))
			if code != exitOK {
				t.Fatalf("reset: exit code %d: %s", code, errs)
			}
			aside, _ := filepath.Glob(r.path("state/state.db.broken-*"))
			if len(aside) != 1 || !strings.Contains(out, aside[0]) {
				t.Fatalf("put aside: %v; said: %s", aside, out)
			}
			if after, _ := os.ReadFile(aside[0]); !bytes.Equal(before, after) {
				t.Error("what was put aside is not what was there")
			}
			r.start()
			eventually(t, "all is well", 20*time.Second, func() bool { _, _, code := r.cli("status"); return code == exitOK })
			r.stop()
		})
	}
}

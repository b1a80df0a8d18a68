package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// freePort finds a port on loopback that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// server runs a real server until the test ends.
func server(t *testing.T, name string, args ...string) {
	t.Helper()
	c := exec.Command(name, args...)
	out := &logBuffer{}
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(name), tail(out.String(), 15))
		}
	})
}

// post sends JSON and gives the answer's status and JSON.
func post(t *testing.T, method, url, auth string, body any) (int, map[string]any) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, url, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	m := map[string]any{}
	b, _ = io.ReadAll(resp.Body)
	_ = json.Unmarshal(b, &m)
	return resp.StatusCode, m
}

// consume calls an API with the file's content again and again; every call must
// be accepted.
func consume(t *testing.T, r *rig, name string, length time.Duration, accepted func(token string) (bool, string)) {
	t.Helper()
	calls, seen := 0, map[string]bool{}
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(r.token(name))
		if err != nil {
			t.Fatal(err)
		}
		calls++
		seen[string(b)] = true
		if ok, why := accepted(string(b)); !ok {
			t.Fatalf("call %d with the file's content was refused: %s", calls, why)
		}
	}
	t.Logf("%d calls, %d tokens, none refused", calls, len(seen))
	if len(seen) < 2 {
		t.Error("the token never changed: this proves nothing")
	}
}

const etcdConfig = `
tokens:
  etcd:
    source: {type: etcd, url: "http://127.0.0.1:%s", username: root, password: {file: password}}
    sinks: [{type: file}, {type: file, format: header}]
`

// etcd: 5 s JWTs, no renew call, the bare token in the header, 400 for a wrong
// password. Nothing but YAML knows it.
func TestE2EEtcd(t *testing.T) {
	bin := required(t, "etcd")
	dir, port, peer := t.TempDir(), freePort(t), freePort(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "rs.key"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	writePEM(t, filepath.Join(dir, "rs.pub"), "PUBLIC KEY", pub)
	u, p := "http://127.0.0.1:"+port, "http://127.0.0.1:"+peer
	server(t, bin, "--name", "t", "--data-dir", filepath.Join(dir, "d"), "--listen-client-urls", u, "--advertise-client-urls", u,
		"--listen-peer-urls", p, "--initial-advertise-peer-urls", p, "--initial-cluster", "t="+p,
		"--auth-token", fmt.Sprintf("jwt,pub-key=%s/rs.pub,priv-key=%s/rs.key,sign-method=RS256,ttl=5s", dir, dir))
	eventually(t, "etcd is up", 30*time.Second, func() bool {
		s, _ := post(t, http.MethodPost, u+"/v3/maintenance/status", "", struct{}{})
		return s == 200
	})
	for _, step := range [][2]any{
		{"user/add", map[string]string{"name": "root", "password": "rootpw"}},
		{"role/add", map[string]string{"name": "root"}},
		{"user/grant", map[string]string{"user": "root", "role": "root"}},
		{"enable", struct{}{}},
	} {
		if s, m := post(t, http.MethodPost, u+"/v3/auth/"+step[0].(string), "", step[1]); s != 200 {
			t.Fatalf("%s: %d %v", step[0], s, m)
		}
	}
	r := newRig(t, fmt.Sprintf(etcdConfig, port))
	r.write("password", "wrong\n")
	r.start()
	eventually(t, "the wrong password is held", 10*time.Second, func() bool {
		out, _, _ := r.cli("status")
		return bytes.Contains([]byte(out), []byte("held"))
	})
	r.write("password", "rootpw\n") // noticed by itself
	r.waitFile("etcd")
	consume(t, r, "etcd", proofLength(2*time.Minute), func(token string) (bool, string) {
		s, m := post(t, http.MethodPost, u+"/v3/kv/range", token, map[string]string{"key": "Zm9v"})
		return s == 200, fmt.Sprint(s, m)
	})
	r.stop()
}

const pocketbaseConfig = `
tokens:
  pb:
    source: {type: pocketbase, url: "http://127.0.0.1:%s", identity: alice@lab.test, password: {file: password}}
    sinks: [{type: file}, {type: file, format: json}]
`

// PocketBase: a token renews itself, no expires_in, life by the JWT's exp without
// iat, the bare token in the header.
func TestE2EPocketBase(t *testing.T) {
	bin := required(t, "pocketbase")
	dir, port := t.TempDir(), freePort(t)
	data := filepath.Join(dir, "data")
	if out, err := exec.Command(bin, "superuser", "upsert", "root@lab.test", "rootpassword1", "--dir", data).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	server(t, bin, "serve", "--http", "127.0.0.1:"+port, "--dir", data)
	api := "http://127.0.0.1:" + port + "/api"
	eventually(t, "PocketBase is up", 30*time.Second, func() bool {
		resp, err := http.Get(api + "/health")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil && resp.StatusCode == 200
	})
	_, m := post(t, http.MethodPost, api+"/collections/_superusers/auth-with-password", "", map[string]string{"identity": "root@lab.test", "password": "rootpassword1"})
	su, _ := m["token"].(string)
	if s, m := post(t, http.MethodPatch, api+"/collections/users", su, map[string]any{"authToken": map[string]int{"duration": 10}, "listRule": `@request.auth.id != ""`}); s != 200 {
		t.Fatalf("set the life of tokens: %d %v", s, m)
	}
	if s, m := post(t, http.MethodPost, api+"/collections/users/records", su, map[string]any{"email": "alice@lab.test", "password": "alicepass1", "passwordConfirm": "alicepass1", "verified": true}); s != 200 {
		t.Fatalf("add a user: %d %v", s, m)
	}
	r := newRig(t, fmt.Sprintf(pocketbaseConfig, port))
	r.write("password", "alicepass1")
	r.start()
	r.waitFile("pb")
	consume(t, r, "pb", proofLength(2*time.Minute), func(token string) (bool, string) {
		// A dead token is not refused here: the list is empty.
		req, _ := http.NewRequest(http.MethodGet, api+"/collections/users/records", nil)
		req.Header.Set("Authorization", token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		var list struct {
			TotalItems int `json:"totalItems"`
		}
		_ = json.NewDecoder(resp.Body).Decode(&list)
		return resp.StatusCode == 200 && list.TotalItems == 1, fmt.Sprint(resp.StatusCode, list)
	})
	r.stop()
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

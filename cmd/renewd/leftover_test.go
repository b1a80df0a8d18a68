package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"renewd/agent/source/standin"
)

// An agent that comes back after its token expired, and cannot have another, still
// knows its files: they go where on_expiry says so, and when the token leaves the
// config, by one reload or two, but for one that holds something else by then.
func TestE2ELeftFilesGoWithTheirToken(t *testing.T) {
	t.Parallel()
	r, _, srv := commanderRig(t, standin.CommanderOptions{Access: 3 * time.Second, Session: 9 * time.Second})
	config := strings.Replace(readFile(t, r.path("renewd.yaml")), "      - {type: file, format: json}\n",
		"      - {type: file, format: json}\n      - {type: file, path: changed, format: header}\n      - {type: file, path: expires, on_expiry: remove}\n", 1)
	r.write("renewd.yaml", config)
	r.start()
	for _, name := range []string{"c", "c.json", "changed", "expires"} {
		r.waitFile(name)
	}
	srv.Close()
	r.stop()
	var left struct {
		ExpiresAt time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal([]byte(readFile(t, r.token("c.json"))), &left); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.token("changed"), []byte("mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the token's end", 20*time.Second, func() bool { return time.Since(left.ExpiresAt) > time.Second }) // which is told in whole seconds
	r.start()
	gone := func(name string) bool { _, err := os.Lstat(r.token(name)); return errors.Is(err, fs.ErrNotExist) }
	eventually(t, "the end of the file that is to go with its token's life", 20*time.Second, func() bool { return gone("expires") })
	if gone("c") || gone("c.json") {
		t.Error("a file that is to stay is gone")
	}
	r.write("renewd.yaml", strings.Replace(config, "allow: {users: [nobody]}", "allow: {users: [root]}", 1))
	if _, errs, code := r.cli("reload"); code != exitOK {
		t.Fatalf("reload: %d %s", code, errs)
	}
	r.write("renewd.yaml", "tokens: {}\n")
	if _, errs, code := r.cli("reload"); code != exitOK {
		t.Fatalf("reload: %d %s", code, errs)
	}
	eventually(t, "the end of the token's files", 10*time.Second, func() bool { return gone("c") && gone("c.json") })
	if readFile(t, r.token("changed")) != "mine\n" {
		t.Error("somebody else's file is gone")
	}
}

package standin_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"renewd/agent/source/standin"
)

func post(t *testing.T, rt http.RoundTripper, url, body string) (int, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// Over a socket and in-process a stand-in is the same.
func TestServeAndTransport(t *testing.T) {
	api := standin.NewCommander(standin.CommanderOptions{Username: "u", Password: "p"})
	srv, err := standin.Serve(api, true)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(srv.CAPEM) {
		t.Fatal("the CA is no PEM")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer tr.CloseIdleConnections()
	for _, rt := range []http.RoundTripper{tr, standin.Transport(api)} {
		status, body, err := post(t, rt, srv.URL+"/rest/v3/tokens", `{"username":"u","password":"p"}`)
		if err != nil || status != 201 || !strings.Contains(body, "token") {
			t.Errorf("%d %q %v", status, body, err)
		}
		status, _, err = post(t, rt, srv.URL+"/rest/v3/tokens", `{"username":"u","password":"p","organization":""}`)
		if err != nil || status != 401 {
			t.Errorf("an administrator who sends an organization: %d %v", status, err)
		}
		for _, f := range []standin.Fault{standin.Reset, standin.Truncated, standin.LostAnswer} {
			api.Fail(f, 1)
			if status, _, err = post(t, rt, srv.URL+"/rest/v3/tokens", `{}`); err == nil {
				t.Errorf("%s: %d, no error", f, status)
			}
		}
	}
	if n := api.Counts(); n.Logins != 2 || n.Refused != 4 {
		t.Errorf("%+v", n)
	}
}

func TestLockout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := standin.NewCommander(standin.CommanderOptions{Username: "u", Password: "p", LockAfter: 3})
		rt := standin.Transport(api)
		login := func(password string) int {
			status, _, err := post(t, rt, "https://x.example/rest/v3/tokens", `{"username":"u","password":"`+password+`"}`)
			if err != nil {
				t.Fatal(err)
			}
			return status
		}
		for range 3 {
			login("wrong")
		}
		if got := login("p"); got != 401 {
			t.Errorf("locked: %d", got)
		}
		time.Sleep(5*time.Minute + time.Second)
		if got := login("p"); got != 201 {
			t.Errorf("after the lockout: %d", got)
		}
	})
}

// Hanging and dripping end with the client, and leave nothing behind: the bubble
// would not end.
func TestSlowAnswersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := standin.NewCommander(standin.CommanderOptions{Username: "u", Password: "p"})
		for _, f := range []standin.Fault{standin.Hang, standin.Drip} {
			api.Fail(f, 1)
			if _, _, err := post(t, standin.Transport(api), "https://x.example/rest/v3/tokens", "{}"); err == nil {
				t.Errorf("%s: an answer came", f)
			}
		}
	})
}

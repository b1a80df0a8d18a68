package socket

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"renewd/agent"
)

// Who comes by a listener that cannot name it reads what names no readers, and
// nothing else; it does not even learn what else there is.
func TestWhoCannotBeNamed(t *testing.T) {
	listed, nobody := spec("listed", &source{life: time.Hour}), spec("nobody", &source{life: time.Hour})
	listed.Access, nobody.Access = &agent.Access{UIDs: []uint32{0}}, &agent.Access{}
	w := newWorld(t, func(o *Options) { o.About = func() About { return About{Config: "/etc/renewd/renewd.yaml"} } },
		listed, nobody, spec("plain", &source{life: time.Hour}))
	for _, name := range []string{"listed", "nobody", "plain"} {
		w.ready(name)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = w.server.ServeUnknown(l) }()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	do := func(method, path, body string) answer {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+l.Addr().String()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer{resp.StatusCode, resp.Header, string(text)}
	}
	for _, path := range []string{"/v1/tokens/plain", "/v1/tokens/plain?format=raw", "/v1/health", "/v1/health?name=plain"} {
		want(t, do("GET", path, ""), 200)
	}
	missing := do("GET", "/v1/tokens/missing", "")
	want(t, missing, 403)
	for _, call := range []string{"GET /v1/tokens/listed", "GET /v1/tokens/listed?format=raw", "GET /v1/tokens/nobody", "GET /v1/health?name=listed", "GET /v1/events?name=nobody",
		"POST /v1/tokens/listed/rejected", "POST /v1/tokens/plain/refresh", "POST /v1/tokens/plain/login", "POST /v1/tokens/plain/logout", "POST /v1/reload", "GET /v1/nowhere"} {
		method, path, _ := strings.Cut(call, " ")
		if a := do(method, path, ""); a.status != 403 || a.body != missing.body {
			t.Errorf("%s: %d %s", call, a.status, a.body)
		}
	}
	want(t, do("POST", "/v1/tokens/plain/rejected", `{"generation":1}`), 200)
	for _, path := range []string{"/v1/tokens", "/metrics"} {
		text := do("GET", path, "").body
		if !strings.Contains(text, `plain"`) || strings.Contains(text, "listed") || strings.Contains(text, "nobody") || strings.Contains(text, "renewd.yaml") {
			t.Errorf("%s tells:\n%s", path, text)
		}
	}
}

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fleetSize is how many tokens the fleet has: RENEWD_BENCH_TOKENS, else few
// enough for a look.
func fleetSize(b *testing.B) int {
	n, err := strconv.Atoi(os.Getenv("RENEWD_BENCH_TOKENS"))
	if err != nil {
		return 2000
	}
	if n < 10 {
		b.Fatal("RENEWD_BENCH_TOKENS is too small")
	}
	return n
}

// vendor is a server with a login and a refresh, which hands out tokens of 1.5 KB.
type vendor struct {
	addr  string
	life  time.Duration
	count [2]atomic.Int64 // logins, refreshes
	users []atomic.Int64  // when each last asked, Unix ns
	pad   string
}

func startVendor(t testing.TB, users int, life time.Duration) *vendor {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &vendor{addr: l.Addr().String(), life: life, users: make([]atomic.Int64, users), pad: strings.Repeat("x", 1500)}
	srv := &http.Server{Handler: http.HandlerFunc(v.answer)}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return v
}

func (v *vendor) answer(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	var in struct{ Username, Password, Refresh string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Refresh == "" && in.Password != "secret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	user, step := in.Username, 0
	if in.Refresh != "" {
		user, step = strings.TrimPrefix(in.Refresh, "refresh."), 1
	}
	n := v.count[step].Add(1)
	if i, err := strconv.Atoi(user[1:]); err == nil {
		v.users[i].Store(now.UnixNano())
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"token":"%s.%d.%s","refresh":"refresh.%s","ttl":%v}`, user, n, v.pad[:1500-len(user)-len(strconv.FormatInt(n, 10))-2], user, v.life.Seconds())
}

// fleetPreset is the vendor as an admin would declare it.
func (v *vendor) preset() string {
	return fmt.Sprintf(`language: 1
inputs:
  url:      {type: url, default: "http://%s"}
  username: {required: true}
  password: {secret: true, required: true}
login:
  request: {url: "${url}/login", json: {username: "${username}", password: "${password}"}}
  extract: {token: {pointer: /token}, refresh_token: {pointer: /refresh}, expires_in: {pointer: /ttl}}
refresh:
  request: {url: "${url}/refresh", json: {refresh: "${refresh_token}"}}
  extract: {token: {pointer: /token}, expires_in: {pointer: /ttl}}
errors: [{status: 401, means: rejected}]
`, v.addr)
}

// fleetRig writes a config of n tokens, files of them with a file sink, in files
// of a thousand tokens; more are further tokens as YAML.
func fleetRig(b testing.TB, v *vendor, n, files int, more string) *rig {
	r := newRig(b, fmt.Sprintf(`
metrics: {listen: "127.0.0.1:0"}
hosts: {"%s": {concurrency: 256}}
tokens:
%s
`, v.addr, more))
	for _, d := range []string{"conf.d", "presets"} {
		if err := os.Mkdir(r.path(d), 0o700); err != nil {
			b.Fatal(err)
		}
	}
	r.write("password", "secret\n")
	r.write("presets/fleet.yaml", v.preset())
	for at := 0; at < n; at += 1000 {
		var text strings.Builder
		text.WriteString("tokens:\n")
		for i := at; i < min(n, at+1000); i++ {
			fmt.Fprintf(&text, "  %s:\n    source: {type: fleet, username: u%06d, password: {file: ../password}}\n    allow: {users: [nobody]}\n", fleetName(i), i)
			if i < files {
				text.WriteString("    sinks: [{type: file}]\n")
			}
		}
		r.write(fmt.Sprintf("conf.d/%03d.yaml", at/1000), text.String())
	}
	return r
}

func fleetName(i int) string { return fmt.Sprintf("t%06d", i) }

// waitServed returns when the socket serves a token.
func (r *rig) waitServed(name string, within time.Duration) {
	r.t.Helper()
	eventually(r.t, "the socket serves "+name, within, func() bool {
		c, err := net.Dial("unix", r.socket())
		if err != nil {
			return false
		}
		defer c.Close()
		status, err := (&kept{c, bufio.NewReader(c)}).get(head("/v1/tokens/" + name))
		return err == nil && status == "HTTP/1.1 200 OK"
	})
}

// due reads from the metrics when the agent will renew every token of the fleet.
func (r *rig) due(n int) []float64 {
	r.t.Helper()
	c, err := net.Dial("unix", r.socket())
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /metrics HTTP/1.0\r\n\r\n") // 1.0: not in chunks
	out := make([]float64, n)
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), `renewd_next_renewal_timestamp_seconds{name="t`)
		if !ok {
			continue
		}
		name, value, _ := strings.Cut(rest, `"} `)
		i, err := strconv.Atoi(name)
		if err != nil {
			continue // not one of the fleet's
		}
		if out[i], err = strconv.ParseFloat(value, 64); err != nil {
			r.t.Fatal(err)
		}
	}
	return out
}

// readCost is the CPU time of a server for one read, and the time that one read
// takes its reader, over kept connections, each of a token drawn from n.
func readCost(t testing.TB, socket string, pid, conns, n, reads int) (cpu, wall time.Duration) {
	t.Helper()
	done := make(chan error, conns)
	start, began := time.Now(), cpuOf(t, pid)
	for range conns {
		go func() {
			k := keep(t, socket)
			defer k.conn.Close()
			for range reads / conns {
				status, err := k.get(head("/v1/tokens/" + fleetName(rand.IntN(n))))
				if err == nil && status != "HTTP/1.1 200 OK" {
					err = fmt.Errorf("answered %s", status)
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range conns {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	return (cpuOf(t, pid) - began) / time.Duration(reads), time.Since(start) / time.Duration(reads/conns)
}

// compareReads reports reads of r's n tokens as ratios to reads of the one token
// of single: the time of a reader who is alone, and of eight who keep the agent
// busy, with the agent's CPU time. Beside each stands the same ratio of a server
// that only looks a token up and writes it: what the machine takes for memory that
// is not in its cache, whoever reads it. Rounds are short and in turns, since two
// processors that wake each other have moods that last.
func compareReads(b *testing.B, r, single *rig, n int) {
	many, one := startBare(b, n), startBare(b, 1)
	for _, load := range []struct {
		conns, rounds, reads int
		name                 string
	}{{1, 41, 2000, "read"}, {8, 15, 10_000, "busy-read"}} {
		var cpus, walls, bareCPUs, bareWalls []float64
		for range load.rounds {
			cpu1, wall1 := readCost(b, single.socket(), single.pid(), load.conns, 1, load.reads)
			cpuN, wallN := readCost(b, r.socket(), r.pid(), load.conns, n, load.reads)
			cpus, walls = append(cpus, float64(cpuN)/float64(cpu1)), append(walls, float64(wallN)/float64(wall1))
			bare1, bareWall1 := readCost(b, one.socket, one.pid, load.conns, 1, load.reads)
			bareN, bareWallN := readCost(b, many.socket, many.pid, load.conns, n, load.reads)
			bareCPUs, bareWalls = append(bareCPUs, float64(bareN)/float64(bare1)), append(bareWalls, float64(bareWallN)/float64(bareWall1))
			b.Logf("%s: %v beside %v, CPU %v beside %v; bare: %v beside %v, CPU %v beside %v",
				load.name, wallN, wall1, cpuN, cpu1, bareWallN, bareWall1, bareN, bare1)
		}
		b.ReportMetric(median(walls), load.name+"/one-token")
		b.ReportMetric(median(cpus), load.name+"-cpu/one-token")
		b.ReportMetric(median(bareWalls), "bare-"+load.name+"/one-token")
		b.ReportMetric(median(bareCPUs), "bare-"+load.name+"-cpu/one-token")
	}
}

// BenchmarkFleet runs RENEWD_BENCH_TOKENS tokens (100 000 is the size to judge
// by), each renewed as often as a hundred thousand of ten minutes are altogether,
// but never below 20 s. Beside them stands a token whose server never answers.
// It reports memory a token above an agent without tokens, how late renewals
// reach the server, how long a read takes a reader beside one of an agent with
// one token, and what it costs the agent where eight readers keep it busy, and
// how soon a killed agent serves all of it again.
func BenchmarkFleet(b *testing.B) {
	n := fleetSize(b)
	files := min(n, 1000)
	life := max(20*time.Second, 10*time.Minute*time.Duration(n)/100_000)
	empty := newRig(b, "metrics: {listen: \"127.0.0.1:0\"}\n")
	empty.startLogging()
	one := startVendor(b, 1, time.Hour)
	single := fleetRig(b, one, 1, 1, "")
	single.startLogging()
	single.waitServed(fleetName(0), 10*time.Second)

	dead, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		b.Fatal(err)
	}
	defer dead.Close()
	v := startVendor(b, n, life)
	r := fleetRig(b, v, n, files, fmt.Sprintf(`  dead:
    source: {type: fleet, url: "http://%s", username: dead, password: {file: password}}
`, dead.Addr()))
	for b.Loop() {
		began := time.Now()
		r.startLogging()
		eventually(b, "every token is obtained", 5*time.Minute, func() bool { return v.count[0].Load() >= int64(n) })
		b.Logf("all logged in after %v", time.Since(began).Round(time.Millisecond))
		r.waitServed(fleetName(n-1), 30*time.Second)
		time.Sleep(collapseTime + 2*time.Second) // as it lies in memory from now on

		var memory []int
		base := memoryOf(b, empty.pid(), "RssAnon")
		sample := func() { memory = append(memory, (memoryOf(b, r.pid(), "RssAnon")-base)/n) }
		sample()
		b.Logf("memory after logging in: %d B a token", memory[0])
		if rollup := fmt.Sprintf("/proc/%d/smaps_rollup", r.pid()); unix.Access(rollup, unix.R_OK) == nil {
			b.ReportMetric(float64(statusOf(b, rollup, "AnonHugePages"))/float64(statusOf(b, rollup, "Anonymous")), "huge-share")
		}

		// Nothing is renewed yet: what is used is used for reading.
		compareReads(b, r, single, n)

		// A lateness is how long after the time that the agent told a renewal
		// reached its server. Each token is due once in the window.
		due := r.due(n)
		first := due[0]
		for _, d := range due {
			first = min(first, d)
		}
		time.Sleep(time.Until(time.UnixMilli(int64(first * 1000))))
		before, cpu, start := v.count[1].Load(), cpuOf(b, r.pid()), time.Now()
		window := min(life/6, time.Minute)
		for time.Since(start) < window {
			time.Sleep(window / 20)
			sample()
		}
		renewed := v.count[1].Load() - before
		b.Logf("%d renewals in %v, %v CPU each", renewed, window, (cpuOf(b, r.pid())-cpu)/time.Duration(max(1, renewed)))
		var late []time.Duration
		end := float64(time.Now().UnixMilli())/1000 - 1
		for i, d := range due {
			at := float64(v.users[i].Load()) / 1e9
			if d < first || d > end {
				continue
			}
			if at < d-0.01 { // due, and not renewed: so late at least
				at = end + 1
			}
			late = append(late, time.Duration((at-d)*1e9))
		}
		b.ReportMetric(float64(percentile(late, 0.5))/1e6, "late-p50-ms")
		b.ReportMetric(float64(percentile(late, 0.99))/1e6, "late-p99-ms")
		b.ReportMetric(float64(median(memory)), "B/token")

		sample()
		b.Logf("memory at the end: %d B a token", memory[len(memory)-1])

		logins := v.count[0].Load()
		r.kill()
		began = time.Now()
		r.startLogging()
		r.waitServed(fleetName(n-1), time.Minute)
		b.ReportMetric(time.Since(began).Seconds(), "restart-s")
		time.Sleep(5 * time.Second) // what starting left behind, as in BenchmarkIdle
		b.ReportMetric(float64((memoryOf(b, r.pid(), "RssAnon")-base)/n), "restarted-B/token")
		k := keep(b, r.socket())
		for i := range n {
			if status, err := k.get(head("/v1/tokens/" + fleetName(i))); err != nil || status != "HTTP/1.1 200 OK" {
				b.Fatalf("token %d after the restart: %s, %v", i, status, err)
			}
		}
		_ = k.conn.Close()
		if more := v.count[0].Load() - logins; more > 0 {
			b.Errorf("%d logins after the restart", more)
		}
		r.kill()
		r.wipe()
		for i := range v.count {
			v.count[i].Store(0)
		}
	}
}

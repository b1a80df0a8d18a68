package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkSocket reads one token of 1.5 KB over kept connections, beside nginx
// serving a file as long over a Unix socket. It reports the CPU time of both
// servers for one request and ours/nginx, the ratio of requests for the same CPU
// time; and the memory of a connection that is idle.
func BenchmarkSocket(b *testing.B) {
	v := startVendor(b, 1, time.Hour)
	r := fleetRig(b, v, 1, 1, "")
	r.startLogging()
	r.waitServed(fleetName(0), 10*time.Second)
	_, body := r.http("/v1/tokens/" + fleetName(0))
	length := len(fmt.Sprint(body["header_value"])) + len(fmt.Sprint(body["token"])) + 250
	nginx, pids := startNginx(b, r, length)
	for _, conns := range []int{8, 64} {
		b.Run(fmt.Sprint(conns, "conns"), func(b *testing.B) {
			const requests = 40_000
			var ours, theirs, ratio, wall []float64
			for b.Loop() {
				for range 3 {
					t, tw := drive(b, nginx, "/t", conns, requests, pids...)
					o, ow := drive(b, r.socket(), "/v1/tokens/"+fleetName(0), conns, requests, r.pid())
					ours, theirs = append(ours, float64(o)/1e3), append(theirs, float64(t)/1e3)
					ratio, wall = append(ratio, float64(t)/float64(o)), append(wall, float64(tw)/float64(ow))
				}
			}
			b.ReportMetric(median(ours), "ours-cpu-µs")
			b.ReportMetric(median(theirs), "nginx-cpu-µs")
			b.ReportMetric(median(ratio), "ours/nginx")
			b.ReportMetric(median(wall), "ours/nginx-wall")
		})
	}
	b.Run("idle", func(b *testing.B) {
		const conns = 1000
		for b.Loop() {
			before := memoryOf(b, r.pid(), "RssAnon")
			var all []*kept
			for range conns {
				k := keep(b, r.socket())
				if _, err := k.get(head("/v1/tokens/" + fleetName(0))); err != nil {
					b.Fatal(err)
				}
				all = append(all, k)
			}
			time.Sleep(time.Second)
			b.ReportMetric(float64(memoryOf(b, r.pid(), "RssAnon")-before)/conns, "B/conn")
			for _, k := range all {
				_ = k.conn.Close()
			}
		}
	})
}

// drive sends requests over kept connections and gives the CPU time of the
// servers and the wall time for each.
func drive(b *testing.B, socket, path string, conns, requests int, pids ...int) (cpu, wall time.Duration) {
	b.Helper()
	var all []*kept
	for range conns {
		k := keep(b, socket)
		defer k.conn.Close()
		if status, err := k.get(head(path)); err != nil || status != "HTTP/1.1 200 OK" {
			b.Fatalf("%s: %s, %v", path, status, err)
		}
		all = append(all, k)
	}
	used := func() (sum time.Duration) {
		for _, p := range pids {
			sum += cpuOf(b, p)
		}
		return sum
	}
	request := head(path)
	before, began := used(), time.Now()
	var group sync.WaitGroup
	for _, k := range all {
		group.Go(func() {
			for range requests / conns {
				if _, err := k.get(request); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	n := time.Duration(requests)
	return (used() - before) / n, time.Since(began) / n
}

// startNginx serves a file of a length over a Unix socket and gives the pids of
// its workers.
func startNginx(b *testing.B, r *rig, length int) (socket string, pids []int) {
	bin := required(b, "nginx")
	dir, err := os.MkdirTemp("", "ngx")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	_ = os.Chmod(dir, 0o755)
	socket = filepath.Join(dir, "s")
	user := "user root; "
	if os.Geteuid() != 0 {
		user = ""
	}
	conf := fmt.Sprintf(`daemon off; %[3]sworker_processes 2; pid %[1]s/pid; error_log %[1]s/err;
events { worker_connections 1024; }
http { access_log off; keepalive_requests 1000000000; open_file_cache max=10; sendfile on; tcp_nopush on; default_type application/json;
client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
server { listen unix:%[2]s; root %[1]s; } }`, dir, socket, user)
	for name, text := range map[string]string{"conf": conf, "t": strings.Repeat("x", length)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	cmd := exec.Command(bin, "-p", dir, "-c", filepath.Join(dir, "conf"), "-e", filepath.Join(dir, "err"))
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() }) // the master ends its workers
	eventually(b, "nginx answers", 10*time.Second, func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	var children []byte
	eventually(b, "nginx has its workers", 10*time.Second, func() bool {
		children, err = os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", cmd.Process.Pid))
		return err != nil || len(strings.Fields(string(children))) == 2
	})
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range strings.Fields(string(children)) {
		pid, _ := strconv.Atoi(f)
		pids = append(pids, pid)
	}
	return socket, pids
}

// BenchmarkGet runs `renewd get` beside curl on the same socket, and reports the
// ratio of their times from fork to exit.
func BenchmarkGet(b *testing.B) {
	curl := required(b, "curl")
	v := startVendor(b, 1, time.Hour)
	r := fleetRig(b, v, 1, 1, "")
	r.startLogging()
	r.waitServed(fleetName(0), 10*time.Second)
	process := func(args ...string) (wall, cpu time.Duration) {
		c := exec.Command(args[0], args[1:]...)
		c.Env = []string{"RENEWD_SOCKET=" + r.socket(), "PATH=/bin:/usr/bin"}
		began := time.Now()
		out, err := c.Output()
		wall = time.Since(began)
		if err != nil || len(out) < 1500 {
			b.Fatalf("%v: %v: %d bytes", args, err, len(out))
		}
		return wall, c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	}
	var ours, theirs, cpuOurs, cpuTheirs []time.Duration
	for b.Loop() {
		for range 40 {
			t, tc := process(curl, "-s", "--unix-socket", r.socket(), "http://renewd/v1/tokens/"+fleetName(0)+"?format=raw")
			o, oc := process(theBinary(b), "get", fleetName(0))
			ours, theirs, cpuOurs, cpuTheirs = append(ours, o), append(theirs, t), append(cpuOurs, oc), append(cpuTheirs, tc)
		}
	}
	b.ReportMetric(float64(median(ours))/1e6, "get-ms")
	b.ReportMetric(float64(median(theirs))/1e6, "curl-ms")
	b.ReportMetric(float64(median(ours))/float64(median(theirs)), "get/curl")
	b.ReportMetric(float64(median(cpuOurs))/float64(median(cpuTheirs)), "get/curl-cpu")
}

// A verb pays for what every package that is linked does at its start.
func TestNoWorkAtStart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	yardstick := filepath.Join(t.TempDir(), "yardstick")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", yardstick, "./testdata/yardstick")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as theBinary
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// One binary takes 0.4 ms or 0.65 by the hour, on a machine whose cores are
	// shared, so what is judged is what it would take where a client of HTTP takes
	// the usual 0.25 ms. A package too many costs more than a tenth.
	const most, usual, bound = 2000, 0.25, 0.5
	ours, theirs := inits{}, inits{}
	judged, total, dearest := 0.0, 0.0, ""
	for n := 1; n <= most && (n <= 100 || judged > bound); n++ {
		theirs.add(t, yardstick)
		ours.add(t, theBinary(t), "get", "x", "--socket", filepath.Join(t.TempDir(), "none"))
		slow, _ := theirs.sum()
		total, dearest = ours.sum()
		judged = total / max(1, slow/usual)
	}
	t.Logf("%d packages take %.2f ms to initialise, %.2f by the yardstick", len(ours), total, judged)
	if len(ours) == 0 || len(theirs) == 0 || judged > bound {
		t.Errorf("packages take %.2f ms to initialise, want at most %.1f ms; the dearest is %s", judged, bound, dearest)
	}
}

// inits are the least that each package took to initialise, in ms: other
// processes can only add to the time on the wall, which is what the trace tells.
type inits map[string]float64

var initLine = regexp.MustCompile(`(?m)^init (\S+) @\S+ ms, (\S+) ms clock`)

// add starts a program once.
func (in inits) add(t *testing.T, argv ...string) {
	t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = []string{"GODEBUG=inittrace=1"}
	out, _ := c.CombinedOutput() // it may fail, as no agent answers
	for _, m := range initLine.FindAllStringSubmatch(string(out), -1) {
		ms, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		if was, ok := in[m[1]]; !ok || ms < was {
			in[m[1]] = ms
		}
	}
}

// sum is what all packages take together, and the dearest of them.
func (in inits) sum() (total float64, dearest string) {
	for pkg, ms := range in {
		if total += ms; ms > in[dearest] {
			dearest = pkg
		}
	}
	return total, dearest
}

// BenchmarkStart is the time from exec to the first token's file, of an agent
// that has no state yet and a source on loopback.
func BenchmarkStart(b *testing.B) {
	v := startVendor(b, 1, time.Hour)
	r := fleetRig(b, v, 1, 1, "")
	var took []time.Duration
	for b.Loop() {
		for range 11 {
			r.wipe()
			began := time.Now()
			r.startLogging()
			for {
				if fi, err := os.Stat(r.token(fleetName(0))); err == nil && fi.Size() > 0 {
					break
				}
				if time.Since(began) > 10*time.Second {
					b.Fatal("no token")
				}
				time.Sleep(200 * time.Microsecond)
			}
			took = append(took, time.Since(began))
			r.kill()
		}
	}
	b.ReportMetric(float64(median(took))/1e6, "file-ms")
}

// BenchmarkIdle is what an agent with one token costs while nothing happens:
// resident memory and wake-ups of all threads, beside the stripped binary's size.
// RENEWD_PROOF=full watches for a minute.
func BenchmarkIdle(b *testing.B) {
	v := startVendor(b, 1, time.Hour)
	r := fleetRig(b, v, 1, 1, "")
	r.startLogging()
	r.waitFile(fleetName(0))
	fi, err := os.Stat(theBinary(b)) // is stripped
	if err != nil {
		b.Fatal(err)
	}
	window := 10 * time.Second
	if os.Getenv("RENEWD_PROOF") == "full" {
		window = time.Minute
	}
	for b.Loop() {
		time.Sleep(5 * time.Second) // what starting left behind
		before := switchesOf(b, r.pid())
		time.Sleep(window)
		b.ReportMetric(float64(switchesOf(b, r.pid())-before)/window.Seconds(), "wake-ups/s")
		b.ReportMetric(float64(memoryOf(b, r.pid(), "VmRSS"))/(1<<20), "MB-resident")
		b.ReportMetric(float64(memoryOf(b, r.pid(), "RssAnon"))/(1<<20), "MB-anon")
	}
	b.ReportMetric(float64(fi.Size())/(1<<20), "MB-binary")
}

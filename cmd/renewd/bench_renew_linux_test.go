package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkRenewals runs an agent whose tokens are renewed about once a second
// each, every one durable in the state and published to a file on tmpfs and to
// the socket. Beside it a bare tuned net/http client of another process sends the
// same requests and reads the answers, once at the pace at which the agent sent
// them and once as fast as 64 connections go: waking up for each costs twice what
// a request in a full pipe does. It reports the CPU time for one renewal, and as
// client/agent the share of the client's speed that is left, for either pace.
func BenchmarkRenewals(b *testing.B) {
	const n = 6000
	tmpfs, err := os.MkdirTemp("/dev/shm", "renewd-bench-")
	if err != nil {
		b.Skipf("there is no tmpfs: %v", err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(tmpfs) })
	v := startVendor(b, n, 4*time.Second)
	r := fleetRig(b, v, n, n, "")
	r.env = append(r.env, "RUNTIME_DIRECTORY="+tmpfs)
	r.startLogging()
	eventually(b, "every token is obtained", time.Minute, func() bool { return v.count[0].Load() >= n })
	eventually(b, "every file is there", time.Minute, func() bool {
		all, err := os.ReadDir(filepath.Join(tmpfs, "tokens"))
		return err == nil && len(all) >= n
	})
	var ours, paced, flat, ratio, flatRatio, rate []float64
	for b.Loop() {
		for range 9 { // a single round is 15 % off now and then
			before, cpu, began := v.count[1].Load(), cpuOf(b, r.pid()), time.Now()
			time.Sleep(2 * time.Second)
			renewed := float64(v.count[1].Load() - before)
			o := float64(cpuOf(b, r.pid())-cpu) / renewed / 1e3
			rate = append(rate, renewed/time.Since(began).Seconds())
			t, f := bareClient(b, v, 2*rate[len(rate)-1], rate[len(rate)-1]), bareClient(b, v, 5000, 0)
			ours, paced, flat = append(ours, o), append(paced, t), append(flat, f)
			ratio, flatRatio = append(ratio, t/o), append(flatRatio, f/o)
		}
	}
	b.ReportMetric(median(rate), "renewals/s")
	b.ReportMetric(median(ours), "renewal-cpu-µs")
	b.ReportMetric(median(paced), "client-cpu-µs")
	b.ReportMetric(median(flat), "flat-out-cpu-µs")
	b.ReportMetric(median(ratio), "client/agent")
	b.ReportMetric(median(flatRatio), "flat-out/agent")
}

// bareClient runs the yardstick in a process of its own and gives its CPU time
// for one request in µs. It sends so many a second; 0: as fast as it can.
func bareClient(b *testing.B, v *vendor, requests, perSecond float64) float64 {
	b.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestBareClient$")
	c.Env = append(os.Environ(), fmt.Sprintf("RENEWD_BARE_CLIENT=%s %d %d %d", v.addr, len(v.users), int(requests), int(perSecond)))
	out, err := c.CombinedOutput()
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	_, rest, _ := strings.Cut(string(out), "µs ")
	us, err := strconv.ParseFloat(strings.Fields(rest + " -")[0], 64)
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return us
}

// TestBareClient is no test but the client of BenchmarkRenewals.
func TestBareClient(t *testing.T) {
	var addr string
	var users, requests, perSecond int
	if _, err := fmt.Sscan(os.Getenv("RENEWD_BARE_CLIENT"), &addr, &users, &requests, &perSecond); err != nil {
		t.Skip("the other side of BenchmarkRenewals")
	}
	const conns = 64
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: conns, MaxIdleConns: conns}}
	send := func(user int) {
		resp, err := client.Post("http://"+addr+"/refresh", "application/json", bytes.NewReader(fmt.Appendf(nil, `{"refresh":"refresh.u%06d"}`, user)))
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	run := func(requests, perSecond int) {
		var all sync.WaitGroup
		defer all.Wait()
		if perSecond > 0 {
			began := time.Now()
			for sent := 0; sent < requests; time.Sleep(time.Millisecond) {
				for due := int(time.Since(began).Seconds() * float64(perSecond)); sent < min(due, requests); sent++ {
					user := sent % users
					all.Go(func() { send(user) })
				}
			}
			return
		}
		for w := range conns {
			all.Go(func() {
				for i := range requests / conns {
					send((w + i*conns) % users)
				}
			})
		}
	}
	run(conns*4, 0) // connections are kept from here on
	used := func() (ts unix.Timespec) {
		if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
			t.Fatal(err)
		}
		return ts
	}
	before := used()
	run(requests, perSecond)
	after := used()
	fmt.Printf("µs %.2f\n", float64(after.Nano()-before.Nano())/float64(requests)/1e3)
}

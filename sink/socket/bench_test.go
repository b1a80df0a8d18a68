package socket

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkAgainstNginx reports ours/nginx: requests a second for one token over
// kept connections, against nginx serving a file of the same length over a Unix
// socket. The two take turns. RENEWD_NGINX names the program.
func BenchmarkAgainstNginx(b *testing.B) {
	w := newWorld(b, nil, spec("t", &source{life: time.Hour, pad: 600}))
	w.ready("t")
	length := len(w.get("/v1/tokens/t").body)
	nginx := startNginx(b, length)
	for _, conns := range []int{8, 64} {
		b.Run(fmt.Sprint(conns, "conns"), func(b *testing.B) {
			var ours, theirs float64
			rounds := 0
			for b.Loop() {
				theirs += perSecond(b, nginx, "GET /t HTTP/1.1\r\nHost: renewd\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n", conns)
				ours += perSecond(b, w.path, "GET /v1/tokens/t HTTP/1.1\r\nHost: renewd\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n", conns)
				rounds++
			}
			b.ReportMetric(ours/float64(rounds), "ours/s")
			b.ReportMetric(theirs/float64(rounds), "nginx/s")
			b.ReportMetric(ours/theirs, "ours/nginx")
		})
	}
}

func startNginx(b *testing.B, length int) (socket string) {
	bin := os.Getenv("RENEWD_NGINX")
	if bin == "" {
		var err error
		if bin, err = exec.LookPath("nginx"); err != nil {
			b.Skip("nginx is not here; RENEWD_NGINX names it")
		}
	}
	dir, err := os.MkdirTemp("", "ngx")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	_ = os.Chmod(dir, 0o755)
	socket = filepath.Join(dir, "s")
	conf := fmt.Sprintf(`daemon off; user root; worker_processes auto; pid %[1]s/pid; error_log %[1]s/err;
events { worker_connections 1024; }
http { access_log off; keepalive_requests 1000000000; open_file_cache max=10; sendfile on; tcp_nopush on; default_type application/json;
client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
server { listen unix:%[2]s; root %[1]s; } }`, dir, socket)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "t"), []byte(strings.Repeat("x", length)), 0o644); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, "-p", dir, "-c", filepath.Join(dir, "conf"), "-e", filepath.Join(dir, "err"))
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() }) // the master ends its workers
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			_ = c.Close()
			return socket
		} else if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(dir, "err"))
			b.Fatalf("nginx does not answer: %v: %s", err, log)
		}
	}
}

// perSecond drives a server with kept connections, one request under way on each.
func perSecond(b *testing.B, socket, request string, conns int) float64 {
	var count atomic.Int64
	var all sync.WaitGroup
	var start sync.WaitGroup
	start.Add(conns)
	stop := make(chan struct{})
	for range conns {
		all.Go(func() {
			c, err := net.Dial("unix", socket)
			if err != nil {
				start.Done()
				b.Error(err)
				return
			}
			defer c.Close()
			buf := make([]byte, 8<<10)
			length, n := 0, int64(0)
			once := func() bool {
				if _, err := io.WriteString(c, request); err != nil {
					b.Error(err)
					return false
				}
				for got := 0; got == 0 || got < length; {
					k, err := c.Read(buf)
					if err != nil {
						b.Error(err)
						return false
					}
					if got += k; length == 0 {
						// The first answer tells how long all are.
						time.Sleep(20 * time.Millisecond)
						_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
						for {
							k, err := c.Read(buf)
							if err != nil {
								break
							}
							got += k
						}
						_ = c.SetReadDeadline(time.Time{})
						length = got
					}
				}
				return true
			}
			ok := once()
			start.Done()
			start.Wait()
			for ok {
				select {
				case <-stop:
					count.Add(n)
					return
				default:
				}
				if ok = once(); ok {
					n++
				}
			}
		})
	}
	start.Wait()
	began := time.Now()
	time.Sleep(time.Second)
	close(stop)
	all.Wait()
	return float64(count.Load()) / time.Since(began).Seconds()
}

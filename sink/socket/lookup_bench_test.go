package socket

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"renewd/agent"
)

// nowhere is a connection that takes every write.
type nowhere struct{ net.Conn }

func (nowhere) Write(b []byte) (int, error)      { return len(b), nil }
func (nowhere) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkAnswer is what one read costs beside the kernel: of one token, and of
// one drawn from a hundred thousand that nobody has read before.
func BenchmarkAnswer(b *testing.B) {
	for _, n := range []int{1, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			specs := make([]*agent.Spec, n)
			for i := range specs {
				specs[i] = spec(fmt.Sprintf("t%06d", i), &source{life: time.Hour, pad: 1500})
			}
			w := newWorld(b, nil, specs...)
			w.ready(specs[n-1].Name)
			for _, s := range specs {
				w.ready(s.Name)
			}
			f := fast{conn: &conn{Conn: nowhere{}, server: w.server, manager: true}}
			heads := make([][]byte, 4096)
			for b.Loop() {
				b.StopTimer()
				for i := range heads {
					heads[i] = fmt.Appendf(heads[i][:0], "GET /v1/tokens/t%06d HTTP/1.1\r\nHost: renewd\r\n\r\n", rand.IntN(n))
				}
				b.StartTimer()
				for _, head := range heads {
					if !f.answer(head) {
						b.Fatalf("%s was not answered", head)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(len(heads)), "ns/read")
		})
	}
}

package socket

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"time"

	"renewd/agent"
)

// The text format is written here and not by a library: it is a dozen lines, the
// numbers live in the agent, and what a library registers every verb would pay
// for at its start.

const metricsType = "text/plain; version=0.0.4; charset=utf-8"

// metrics shows managers everything and others their own tokens.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	c := connOf(r)
	tokens, _ := s.visible(c, nil)
	w.Header().Set("Content-Type", metricsType)
	s.writeMetrics(w, tokens, c.manager)
}

// MetricsHandler serves /metrics and /healthz alone, for TCP, where nobody is
// known by name.
func (s *Server) MetricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", metricsType)
		s.writeMetrics(w, s.allTokens(), true)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if n := len(unwell(s.allTokens())); n > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, "%d not well\n", n)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

func (s *Server) allTokens() (list []agent.Token) {
	for _, name := range s.o.Agent.Names() {
		if t, ok := s.o.Agent.Token(name); ok {
			list = append(list, t)
		}
	}
	return list
}

// exposition writes the Prometheus text format, one family after another.
type exposition struct{ *bufio.Writer }

func (x exposition) family(name, kind, help string) {
	fmt.Fprintf(x, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// sample writes one line; labels are names and values in turn.
func (x exposition) sample(name string, value float64, labels ...string) {
	x.WriteString(name)
	for i := 0; i < len(labels); i += 2 {
		if i == 0 {
			x.WriteByte('{')
		} else {
			x.WriteByte(',')
		}
		x.WriteString(labels[i] + `="`)
		x.escape(labels[i+1])
		x.WriteByte('"')
	}
	if len(labels) > 0 {
		x.WriteByte('}')
	}
	x.WriteByte(' ')
	x.WriteString(strconv.FormatFloat(value, 'f', -1, 64))
	x.WriteByte('\n')
}

func (x exposition) escape(value string) {
	for i := range len(value) {
		switch c := value[i]; c {
		case '\n':
			x.WriteString(`\n`)
		case '\\', '"':
			x.WriteByte('\\')
			x.WriteByte(c)
		default:
			x.WriteByte(c)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// row is what the families need of one token; the whole Status of a hundred
// thousand would be a hundred megabytes.
type row struct {
	t          agent.Token
	source     string
	state      agent.State
	valid      bool
	generation uint64

	expires, session, next, person time.Time
}

func rowOf(t agent.Token, now time.Time) row {
	st := t.Status()
	r := row{t, st.Source, st.State, st.Valid, st.Generation, st.ExpiresAt, st.SessionExpiresAt, st.NextRenewal, st.PersonBy}
	if st.State == agent.StateNeedsHuman && r.person.IsZero() {
		r.person = now
	}
	return r
}

func (s *Server) writeMetrics(w io.Writer, tokens []agent.Token, whole bool) {
	x := exposition{bufio.NewWriterSize(w, 32<<10)}
	defer x.Flush()
	now := s.o.Agent.Now().Wall
	rows := make([]row, 0, len(tokens))
	for _, t := range tokens {
		rows = append(rows, rowOf(t, now))
	}
	x.tokens(rows)
	x.counters(rows)
	if whole {
		s.machine(x)
	}
}

func (x exposition) tokens(rows []row) {
	x.family("renewd_token_valid", "gauge", "Whether the token is accepted.")
	for _, r := range rows {
		x.sample("renewd_token_valid", truth(r.valid), "name", r.t.Name())
	}
	times := func(name, help string, of func(row) time.Time) {
		x.family(name, "gauge", help)
		for _, r := range rows {
			if t := of(r); !t.IsZero() {
				x.sample(name, unix(t), "name", r.t.Name())
			}
		}
	}
	times("renewd_token_expires_timestamp_seconds", "When the token stops being accepted.", func(r row) time.Time { return r.expires })
	times("renewd_session_expires_timestamp_seconds", "When only a login helps.", func(r row) time.Time { return r.session })
	times("renewd_next_renewal_timestamp_seconds", "When the next renewal starts.", func(r row) time.Time { return r.next })
	times("renewd_person_needed_timestamp_seconds", "When a person has to sign in.", func(r row) time.Time { return r.person })
	x.family("renewd_token_generation", "gauge", "Number of the token's value.")
	for _, r := range rows {
		x.sample("renewd_token_generation", float64(r.generation), "name", r.t.Name())
	}
	x.family("renewd_token_state", "gauge", "1 for the state that the token is in; the others are left out.")
	for _, r := range rows {
		x.sample("renewd_token_state", 1, "name", r.t.Name(), "state", string(r.state))
	}
}

func (x exposition) counters(rows []row) {
	x.family("renewd_renewals_total", "counter", "Renewal steps by what came of them.")
	for _, r := range rows {
		r.t.Counters(func(kind agent.Kind, n uint32) {
			x.sample("renewd_renewals_total", float64(n), "name", r.t.Name(), "source", r.source, "kind", string(kind))
		})
	}
	x.family("renewd_reads_total", "counter", "Reads of the token on the socket.")
	for _, r := range rows {
		r.t.Reads(func(result agent.ReadResult, n uint32) {
			x.sample("renewd_reads_total", float64(n), "name", r.t.Name(), "result", result.String())
		})
	}
	x.family("renewd_sink_errors_total", "counter", "Failed writes of a sink.")
	for _, r := range rows {
		for _, k := range r.t.Status().Sinks {
			x.sample("renewd_sink_errors_total", float64(k.Errors), "name", r.t.Name(), "sink", k.ID)
		}
	}
}

// machine writes what is not of one token.
func (s *Server) machine(x exposition) {
	a := s.o.Agent
	h := a.RenewalSeconds()
	const name = "renewd_renewal_seconds"
	x.family(name, "histogram", "How long renewals took.")
	for i, bound := range h.Bounds {
		x.sample(name+"_bucket", float64(h.Counts[i]), "le", strconv.FormatFloat(bound, 'g', -1, 64))
	}
	all := float64(h.Counts[len(h.Counts)-1])
	x.sample(name+"_bucket", all, "le", "+Inf")
	x.sample(name+"_sum", h.Sum)
	x.sample(name+"_count", all)
	if gap, ok := a.Gap(); ok {
		x.family("renewd_gap_seconds", "gauge", "Latest time during which readers saw a token that its server had killed.")
		x.sample("renewd_gap_seconds", gap.Seconds())
	}
	x.family("renewd_limit_waiting", "gauge", "Renewals that wait for a host's limits.")
	waiting := a.Waiting()
	for _, host := range slices.Sorted(maps.Keys(waiting)) {
		x.sample("renewd_limit_waiting", float64(waiting[host]), "host", host)
	}
	x.family("renewd_clock_skew_seconds", "gauge", "A server's clock less ours.")
	a.Skews(func(host string, skew time.Duration) {
		x.sample("renewd_clock_skew_seconds", skew.Seconds(), "host", host)
	})
	x.family("renewd_config_ok", "gauge", "Whether the config as it is now was applied.")
	x.sample("renewd_config_ok", truth(s.o.ConfigError() == ""))
	x.family("renewd_build_info", "gauge", "The running program.")
	x.sample("renewd_build_info", 1, "version", s.o.Version, "go", runtime.Version())
}

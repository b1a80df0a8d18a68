package socket

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
)

// What is written by hand is read by Prometheus's own parser.
func TestPrometheusReadsTheMetrics(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.ConfigError = func() string { return "" } }, spec("x", &source{life: time.Hour}))
	w.ready("x")
	end := time.Now().Add(10 * time.Second)
	for slices.Max(w.agent.RenewalSeconds().Counts) == 0 { // readers have the token before it is counted
		if time.Now().After(end) {
			t.Fatal("the renewal is not counted")
		}
		time.Sleep(time.Millisecond)
	}
	var p expfmt.TextParser
	families, err := p.TextToMetricFamilies(strings.NewReader(w.get("/metrics").body))
	if err != nil {
		t.Fatal(err)
	}
	for name, kind := range map[string]string{
		"renewd_token_valid": "GAUGE", "renewd_token_expires_timestamp_seconds": "GAUGE", "renewd_token_generation": "GAUGE",
		"renewd_token_state": "GAUGE", "renewd_renewals_total": "COUNTER", "renewd_renewal_seconds": "HISTOGRAM",
		"renewd_next_renewal_timestamp_seconds": "GAUGE", "renewd_reads_total": "COUNTER", "renewd_config_ok": "GAUGE", "renewd_build_info": "GAUGE",
	} {
		if f := families[name]; f == nil || f.GetType().String() != kind {
			t.Errorf("%s: %v, want a %s", name, f, kind)
		}
	}
	if h := families["renewd_renewal_seconds"].GetMetric()[0].GetHistogram(); h.GetSampleCount() != 1 || len(h.GetBucket()) < 5 {
		t.Errorf("histogram: %v", h)
	}
}

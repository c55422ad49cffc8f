package metrics_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sheaf-drive/sheaf/api/metrics"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// scrape reads what is served as Prometheus does.
func scrape(t *testing.T, s *sheafv1.StatusResponse) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	metrics.Serve(w, httptest.NewRequest(http.MethodGet, "/metrics", nil), s)
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatal(w.Code, err)
	}
	got := map[string]float64{}
	for name, f := range families {
		if f.GetHelp() == "" && name != "go_build_info" {
			t.Errorf("%s says not what it is", name)
		}
		for _, m := range f.GetMetric() {
			key := name
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			got[key] = m.GetGauge().GetValue()
		}
	}
	return got
}

func TestServe_IsWhatPrometheusReads(t *testing.T) {
	at := timestamppb.New(time.Unix(1_700_000_000, 500_000_000))
	got := scrape(t, &sheafv1.StatusResponse{
		State: sheafv1.DriveState_DRIVE_STATE_OPEN, PendingBytes: 42, Mounts: make([]*sheafv1.Mount, 2), Jobs: 3, Copies: 2, Since: at,
		Replicas: []*sheafv1.Replica{
			{Name: "nas \"the old\"\n", Online: true, Known: true, LagBlobs: 4, LagBytes: 5, Packs: 6, Bytes: 7, Pushed: at, Verified: at},
			{Name: "new", Error: "away"},
		},
	})
	for key, want := range map[string]float64{
		"sheaf_drive_open": 1, "sheaf_pending_bytes": 42, "sheaf_mounts": 2, "sheaf_jobs_running": 3, "sheaf_copies": 2,
		"sheaf_start_time_seconds": 1_700_000_000.5, "sheaf_replica_lag_bytes nas \"the old\"\n": 5, "sheaf_replica_online new": 0,
		"sheaf_replica_failed new": 1, "sheaf_replica_verified_time_seconds nas \"the old\"\n": 1_700_000_000.5,
	} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%s is %v %v, want %v", key, v, ok, want)
		}
	}
	for _, key := range []string{"sheaf_replica_lag_bytes new", "sheaf_replica_pushed_time_seconds new"} {
		if _, ok := got[key]; ok {
			t.Errorf("%s is told, and nobody knows it", key)
		}
	}
	for _, key := range []string{"go_goroutines", "process_open_fds"} {
		if got[key] == 0 {
			t.Errorf("nothing is said of %s", key)
		}
	}
	if got := scrape(t, &sheafv1.StatusResponse{State: sheafv1.DriveState_DRIVE_STATE_LOCKED}); got["sheaf_drive_open"] != 0 {
		t.Error("a locked drive is open")
	} else if _, ok := got["sheaf_pending_bytes"]; ok {
		t.Error("of a locked drive it is told what is pending")
	}
}

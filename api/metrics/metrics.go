// Package metrics tells how a daemon and its drive are, in the text format that Prometheus reads (version 0.0.4, or OpenMetrics where it is
// asked for). It says nothing that the call Drives.Status does not say; names of files are in neither.
package metrics

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// process tells of the process. It is one for all requests, for what it tells is. It is made when it is asked for first: most processes are
// commands, whom nobody asks.
var process = sync.OnceValue(func() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	return r
})

// Serve answers a request with the state that s describes, and with what is known of the process.
func Serve(w http.ResponseWriter, req *http.Request, s *sheafv1.StatusResponse) {
	r := prometheus.NewRegistry()
	r.MustRegister(status{s})
	promhttp.HandlerFor(prometheus.Gatherers{process(), r}, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, req)
}

// desc makes the description of a metric of sheaf.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sheaf_"+name, help, labels, nil)
}

// The metrics. Each is a gauge.
var (
	driveOpen    = desc("drive_open", "1 if the drive is open, 0 if it is locked or there is none.")
	pending      = desc("pending_bytes", "Bytes that are durable in the journal, and not in packs yet.")
	mounts       = desc("mounts", "How many mounts there are.")
	jobs         = desc("jobs_running", "How many jobs are running.")
	copies       = desc("copies", "How many copies of the drive there are with all that is in packs on this device, this device among them.")
	started      = desc("start_time_seconds", "When the daemon began, in seconds since 1970.")
	online       = desc("replica_online", "1 if the last turn of the replica reached it.", "replica")
	failed       = desc("replica_failed", "1 if the last turn of the replica failed.", "replica")
	lagKnown     = desc("replica_lag_known", "1 if it is known what the replica lacks, which it is not before its first turn.", "replica")
	lagBlobs     = desc("replica_lag_blobs", "Blobs of this device that the replica lacks.", "replica")
	lagBytes     = desc("replica_lag_bytes", "Bytes of these, without those of heads.", "replica")
	packs        = desc("replica_packs", "Packs that the replica has.", "replica")
	packBytes    = desc("replica_pack_bytes", "Bytes of these.", "replica")
	pushedTime   = desc("replica_pushed_time_seconds", "When the replica last had all that this device had, in seconds since 1970; absent: never.", "replica")
	fetchedTime  = desc("replica_fetched_time_seconds", "When this device last looked there for the work of others; absent: never.", "replica")
	verifiedTime = desc("replica_verified_time_seconds", "When the packs of the replica were last verified; absent: never.", "replica")
)

// status is a prometheus.Collector of one state.
type status struct{ s *sheafv1.StatusResponse }

// Describe implements prometheus.Collector. Which replicas there are changes, so that nothing is promised.
func (status) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c status) Collect(to chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	moment := func(d *prometheus.Desc, t *timestamppb.Timestamp, labels ...string) {
		if t != nil {
			tell(d, float64(t.AsTime().UnixNano())/float64(time.Second), labels...)
		}
	}
	truth := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	open := c.s.GetState() == sheafv1.DriveState_DRIVE_STATE_OPEN
	tell(driveOpen, truth(open))
	tell(mounts, float64(len(c.s.GetMounts())))
	moment(started, c.s.GetSince())
	if !open { // then nothing is known of what follows
		return
	}
	tell(pending, float64(c.s.GetPendingBytes()))
	tell(jobs, float64(c.s.GetJobs()))
	tell(copies, float64(c.s.GetCopies()))
	for _, r := range c.s.GetReplicas() {
		name := r.GetName()
		tell(online, truth(r.GetOnline()), name)
		tell(failed, truth(r.GetError() != ""), name)
		tell(lagKnown, truth(r.GetKnown()), name)
		tell(packs, float64(r.GetPacks()), name)
		tell(packBytes, float64(r.GetBytes()), name)
		if r.GetKnown() {
			tell(lagBlobs, float64(r.GetLagBlobs()), name)
			tell(lagBytes, float64(r.GetLagBytes()), name)
		}
		moment(pushedTime, r.GetPushed(), name)
		moment(fetchedTime, r.GetFetched(), name)
		moment(verifiedTime, r.GetVerified(), name)
	}
}

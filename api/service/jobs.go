package service

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
)

// keepJobs is how many jobs that have ended are remembered, and watchEvery how often a watcher
// hears of a change.
const (
	keepJobs   = 100
	watchEvery = 100 * time.Millisecond
)

// A job is a long work.
type job struct {
	id   string
	spec *sheafv1.StartRequest
	kind string

	mu     sync.Mutex // guards the rest
	run    *run
	rate   float64 // bytes in a second, smoothed
	rateAt time.Time
	rateOf int64 // bytes at rateAt
}

// run is one run of a job; Resume makes a new one.
type run struct {
	cancel  context.CancelFunc
	done    chan struct{}
	started time.Time
	ended   time.Time // zero while it runs
	work    work
	err     error
}

// A work is what a job does.
type work interface {
	// do does it.
	do(ctx context.Context, d Drive) error
	// show fills in how far it is.
	show(j *sheafv1.Job)
}

// running reports whether the job runs.
func (j *job) running() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.run.ended.IsZero()
}

// show returns the job as it is now.
func (j *job) show(now time.Time) *sheafv1.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.run
	m := &sheafv1.Job{Id: j.id, Work: j.kind, Started: stamp(r.started), Ended: stamp(r.ended), State: sheafv1.JobState_JOB_STATE_RUNNING}
	r.work.show(m)
	end := r.ended
	if end.IsZero() {
		end = now
	}
	switch passed := end.Sub(r.started).Seconds(); {
	case !r.ended.IsZero(): // the whole run's
		if passed > 0 {
			m.Rate = int64(float64(m.GetBytes()) / passed)
		}
	case j.rateAt.IsZero() || m.GetBytes() < j.rateOf:
		j.rateAt, j.rateOf = now, m.GetBytes()
		if passed > 0 {
			j.rate = float64(m.GetBytes()) / passed
		}
	case now.Sub(j.rateAt) >= time.Second/2:
		dt := now.Sub(j.rateAt).Seconds()
		weight := min(1, dt/4) // some four seconds count
		j.rate += weight * (float64(m.GetBytes()-j.rateOf)/dt - j.rate)
		j.rateAt, j.rateOf = now, m.GetBytes()
	}
	if r.ended.IsZero() {
		m.Rate = int64(j.rate)
		if left := m.GetBytesTotal() - m.GetBytes(); m.GetCounted() && left > 0 && j.rate > 1 {
			m.RemainingMs = int64(float64(left) / j.rate * 1000)
		}
		return m
	}
	switch e := Explain(r.err); {
	case e == nil && m.GetFailed() > 0:
		m.State = sheafv1.JobState_JOB_STATE_PARTIAL
	case e == nil:
		m.State = sheafv1.JobState_JOB_STATE_DONE
	case e.Code == sheafv1.Code_CODE_CANCELED:
		m.State, m.Error, m.Code = sheafv1.JobState_JOB_STATE_CANCELED, "cancelled", e.Code
	default:
		m.State, m.Error, m.Code, m.Hint = sheafv1.JobState_JOB_STATE_FAILED, wirepath.Encode(e.Error()), e.Code, wirepath.Encode(e.Hint)
	}
	return m
}

// Start begins a job.
func (s *Service) Start(_ context.Context, r *sheafv1.StartRequest) (*sheafv1.Job, error) {
	spec := proto.CloneOf(r)
	kind, w, err := s.workOf(spec)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.lastID++
	j := &job{id: strconv.Itoa(s.lastID), spec: spec, kind: kind}
	s.mu.Unlock()
	if err := s.begin(j, w); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.jobs = append(s.jobs, j)
	s.forget()
	s.mu.Unlock()
	return j.show(time.Now()), nil
}

// forget drops the oldest jobs that have ended. s.mu is held.
func (s *Service) forget() {
	for i := 0; len(s.jobs) > keepJobs && i < len(s.jobs); {
		if s.jobs[i].running() {
			i++
			continue
		}
		s.jobs = append(s.jobs[:i], s.jobs[i+1:]...)
	}
}

// begin starts a run of a job.
func (s *Service) begin(j *job, w work) error {
	use := s.use
	if n, ok := w.(interface{ needsDrive() bool }); ok && !n.needsDrive() {
		use = s.serve
	}
	ctx, d, release, err := use(s.life)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &run{cancel: cancel, done: make(chan struct{}), started: time.Now(), work: w}
	j.mu.Lock()
	j.run, j.rate, j.rateAt, j.rateOf = r, 0, time.Time{}, 0
	j.mu.Unlock()
	s.tellJob(j)
	// Counted among the users by use, so that Close, which waits for these, waits for it.
	go func() {
		defer release()
		defer cancel()
		err := w.do(ctx, d)
		if err != nil && ctx.Err() != nil {
			err = ctx.Err() // whatever it broke, it was cancelled
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			s.o.Log.Warn("job failed", "job", j.id, "kind", j.kind, "code", Explain(err).Code.String())
		}
		j.mu.Lock()
		r.err, r.ended = err, time.Now()
		j.mu.Unlock()
		s.tellJob(j)
		close(r.done)
	}()
	return nil
}

// tellJob tells that a job began or ended.
func (s *Service) tellJob(j *job) {
	m := j.show(time.Now())
	s.events.add(&sheafv1.Event{Kind: sheafv1.EventKind_EVENT_KIND_JOB, Job: m.GetId(), Work: m.GetWork(), State: m.GetState()})
}

// job returns a job by its ID.
func (s *Service) job(id string) (*job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		if j.id == id {
			return j, nil
		}
	}
	return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf job list", "no job %q", id)
}

// Jobs has the jobs, oldest first.
func (s *Service) Jobs(context.Context, *sheafv1.JobsListRequest) (*sheafv1.JobsListResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var r sheafv1.JobsListResponse
	for _, j := range s.jobs {
		r.Jobs = append(r.Jobs, j.show(now))
	}
	return &r, nil
}

// Watch sends the job until it has ended.
func (s *Service) Watch(ctx context.Context, r *sheafv1.WatchRequest, send func(*sheafv1.WatchResponse) error) error {
	j, err := s.job(r.GetId())
	if err != nil {
		return err
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last *sheafv1.Job
	for {
		m := j.show(time.Now())
		if !proto.Equal(last, m) {
			if err := send(&sheafv1.WatchResponse{Job: m}); err != nil {
				return err
			}
			last = m
		}
		if m.GetState() != sheafv1.JobState_JOB_STATE_RUNNING {
			return nil
		}
		j.mu.Lock()
		done := j.run.done
		j.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
		case <-tick.C:
		}
	}
}

// Cancel ends a job.
func (s *Service) Cancel(ctx context.Context, r *sheafv1.CancelRequest) (*sheafv1.Job, error) {
	j, err := s.job(r.GetId())
	if err != nil {
		return nil, err
	}
	j.mu.Lock()
	run := j.run
	j.mu.Unlock()
	run.cancel()
	select {
	case <-run.done:
		return j.show(time.Now()), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Resume starts a job that has ended again.
func (s *Service) Resume(_ context.Context, r *sheafv1.ResumeRequest) (*sheafv1.Job, error) {
	j, err := s.job(r.GetId())
	if err != nil {
		return nil, err
	}
	_, w, err := s.workOf(j.spec)
	if err != nil {
		return nil, err
	}
	s.opening.Lock() // so that two do not begin it at once
	defer s.opening.Unlock()
	if !j.running() {
		if err := s.begin(j, w); err != nil {
			return nil, err
		}
	}
	return j.show(time.Now()), nil
}

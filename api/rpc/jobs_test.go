package rpc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/vfs"
)

// ended watches a job to its end.
func (f *fixture) ended(t *testing.T, id string) *sheafv1.Job {
	t.Helper()
	st, err := f.Jobs.Watch(t.Context(), &sheafv1.WatchRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	var last *sheafv1.Job
	for st.Receive() {
		last = st.Msg().GetJob()
	}
	if st.Err() != nil {
		t.Fatal(st.Err())
	}
	return last
}

func verifyJob() *sheafv1.StartRequest {
	return &sheafv1.StartRequest{Work: &sheafv1.StartRequest_Verify{Verify: &sheafv1.VerifyJob{}}}
}

func TestJobs_CopyInAndOut(t *testing.T) {
	f := start(t, service.Options{})
	src, out := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "deep", "out")
	if err := os.MkdirAll(filepath.Join(src, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "d", "f"), []byte("body"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*sheafv1.StartRequest{
		{Work: &sheafv1.StartRequest_Import{Import: &sheafv1.ImportJob{From: src, To: "x/y"}}},
		{Work: &sheafv1.StartRequest_Copy{Copy: &sheafv1.CopyJob{From: "x/y", To: "z"}}},
		{Work: &sheafv1.StartRequest_Export{Export: &sheafv1.ExportJob{From: "z", To: out}}},
	} {
		j, err := f.Jobs.Start(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		j = f.ended(t, j.GetId())
		if j.GetState() != sheafv1.JobState_JOB_STATE_DONE || j.GetItems() != 3 || j.GetBytes() != 4 || !j.GetCounted() {
			t.Errorf("got %v", j)
		}
	}
	if got, err := os.ReadFile(filepath.Join(out, "d", "f")); err != nil || string(got) != "body" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, r := range []*sheafv1.StartRequest{
		{},
		{Work: &sheafv1.StartRequest_Import{Import: &sheafv1.ImportJob{From: "relative", To: "x"}}},
		{Work: &sheafv1.StartRequest_Copy{Copy: &sheafv1.CopyJob{From: "x", To: "x/y"}}},
		{Work: &sheafv1.StartRequest_Restore{Restore: &sheafv1.RestoreJob{Path: "x"}}},
		{Work: &sheafv1.StartRequest_Import{Import: &sheafv1.ImportJob{From: src, To: "x", Options: &sheafv1.CopyOptions{Transfers: 99}}}},
	} {
		_, err := f.Jobs.Start(t.Context(), r)
		wantCode(t, err, sheafv1.Code_CODE_USAGE)
	}
}

func TestJobs_CancelledOneIsResumedUnderItsID(t *testing.T) {
	f := start(t, service.Options{})
	began := make(chan struct{}, 1)
	var wait sync.Mutex // which runs wait to be cancelled
	block := true
	f.drive.verify = func(ctx context.Context, p sheaf.Progress) (sheaf.VerifyReport, error) {
		p(1, 2)
		wait.Lock()
		b := block
		wait.Unlock()
		if b {
			began <- struct{}{}
			<-ctx.Done()
			return sheaf.VerifyReport{}, ctx.Err()
		}
		p(2, 2)
		return sheaf.VerifyReport{Packs: 7}, nil
	}
	j, err := f.Jobs.Start(t.Context(), verifyJob())
	if err != nil {
		t.Fatal(err)
	}
	<-began
	if j, err = f.Jobs.Cancel(t.Context(), &sheafv1.CancelRequest{Id: j.GetId()}); err != nil || j.GetState() != sheafv1.JobState_JOB_STATE_CANCELED {
		t.Fatalf("got %v, %v", j, err)
	}
	wait.Lock()
	block = false
	wait.Unlock()
	if _, err := f.Jobs.Resume(t.Context(), &sheafv1.ResumeRequest{Id: j.GetId()}); err != nil {
		t.Fatal(err)
	}
	if j = f.ended(t, j.GetId()); j.GetState() != sheafv1.JobState_JOB_STATE_DONE || j.GetVerify().GetPacks() != 7 || j.GetItems() != 2 {
		t.Errorf("got %v", j)
	}
	l, err := f.Jobs.List(t.Context(), &sheafv1.JobsListRequest{})
	if err != nil || len(l.GetJobs()) != 1 {
		t.Errorf("got %v, %v", l, err)
	}
	_, err = f.Jobs.Cancel(t.Context(), &sheafv1.CancelRequest{Id: "nobody"})
	wantCode(t, err, sheafv1.Code_CODE_NOT_FOUND)
}

// So it is also where not all could be read.
func TestJobs_DamageIsAnErrorOfIntegrity(t *testing.T) {
	for _, away := range []error{nil, fmt.Errorf("the nas is away: %w", blob.ErrTemporary)} {
		f := start(t, service.Options{})
		f.drive.verify = func(context.Context, sheaf.Progress) (sheaf.VerifyReport, error) {
			return sheaf.VerifyReport{Findings: []sheaf.Finding{{Blob: "packs/x", Err: vfs.ErrCorrupt}}}, away
		}
		j, err := f.Jobs.Start(t.Context(), verifyJob())
		if err != nil {
			t.Fatal(err)
		}
		j = f.ended(t, j.GetId())
		if j.GetCode() != sheafv1.Code_CODE_INTEGRITY || len(j.GetVerify().GetFindings()) != 1 || j.GetVerify().GetFindings()[0].GetReason() == "" {
			t.Errorf("got %v", j)
		}
	}
}

func TestClose_EndsJobsAndWaitsForThem(t *testing.T) {
	d := newFakeDrive()
	s := service.New(service.Options{Device: &fakeDevice{drive: d}})
	if _, err := s.Unlock(t.Context(), &sheafv1.UnlockRequest{Passphrase: []byte("open")}); err != nil {
		t.Fatal(err)
	}
	began := make(chan struct{})
	left := false
	d.verify = func(ctx context.Context, _ sheaf.Progress) (sheaf.VerifyReport, error) {
		close(began)
		<-ctx.Done()
		left = true
		return sheaf.VerifyReport{}, ctx.Err()
	}
	if _, err := s.Start(t.Context(), verifyJob()); err != nil {
		t.Fatal(err)
	}
	<-began
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !left || !d.closed {
		t.Errorf("job ended %v, drive closed %v", left, d.closed)
	}
	_, err := s.Stat(t.Context(), &sheafv1.StatRequest{})
	wantCode(t, toWire(err), sheafv1.Code_CODE_NO_DAEMON)
	_, err = s.Unlock(t.Context(), &sheafv1.UnlockRequest{Passphrase: []byte("open")})
	wantCode(t, toWire(err), sheafv1.Code_CODE_NO_DAEMON)
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// fakeMount is a mount that is busy as long as it is told so.
type fakeMount struct {
	mu   sync.Mutex
	busy int // how many tries to unmount fail
	once sync.Once
	gone chan struct{}
}

func (m *fakeMount) Unmount(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy > 0 {
		m.busy--
		return &service.Error{Code: sheafv1.Code_CODE_TEMPORARY, Err: errors.New("in use")}
	}
	m.once.Do(func() { close(m.gone) })
	return nil
}

func (m *fakeMount) Abort(context.Context) error {
	m.once.Do(func() { close(m.gone) })
	return nil
}

func (m *fakeMount) Wait() error {
	<-m.gone
	return nil
}

func TestMounts_StayWhileTheyAreInUse(t *testing.T) {
	var mu sync.Mutex
	var last *fakeMount
	var noted []string
	stopped := make(chan struct{})
	f := start(t, service.Options{
		Door: func(_ context.Context, _ vfs.FS, dir string, _ bool) (service.Mounted, error) {
			mu.Lock()
			defer mu.Unlock()
			if filepath.Base(dir) == "bad" {
				return nil, errors.New("no")
			}
			last = &fakeMount{gone: make(chan struct{})}
			return last, nil
		},
		Mounts: func(dirs []string) {
			mu.Lock()
			defer mu.Unlock()
			noted = dirs
		},
		Stopped: func() { close(stopped) },
	})
	ctx := t.Context()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(top, "m")
	r, err := f.Mounts.Mount(ctx, &sheafv1.MountRequest{Dir: dir})
	if err != nil || r.GetAlready() || r.GetMount().GetDir() != dir {
		t.Fatalf("got %v, %v", r, err)
	}
	if r, err = f.Mounts.Mount(ctx, &sheafv1.MountRequest{Dir: dir + "/"}); err != nil || !r.GetAlready() {
		t.Errorf("again: got %v, %v", r, err)
	}
	_, err = f.Mounts.Mount(ctx, &sheafv1.MountRequest{Dir: dir, ReadOnly: true})
	wantCode(t, err, sheafv1.Code_CODE_EXISTS)
	_, err = f.Mounts.Mount(ctx, &sheafv1.MountRequest{Dir: "relative"})
	wantCode(t, err, sheafv1.Code_CODE_USAGE)
	if _, err = f.Mounts.Mount(ctx, &sheafv1.MountRequest{Dir: filepath.Join(top, "bad")}); err == nil {
		t.Error("a mount that failed is none")
	}
	if _, err := os.Lstat(filepath.Join(top, "bad")); err == nil {
		t.Error("the folder of a mount that failed is still there")
	}

	last.busy = 1
	_, err = f.Mounts.Unmount(ctx, &sheafv1.UnmountRequest{Dir: dir})
	wantCode(t, err, sheafv1.Code_CODE_TEMPORARY)
	last.busy = 1
	_, err = f.Drives.Stop(ctx, &sheafv1.StopRequest{})
	wantCode(t, err, sheafv1.Code_CODE_TEMPORARY)
	if _, err := f.Files.Stat(ctx, &sheafv1.StatRequest{}); err != nil {
		t.Errorf("a stop that failed stopped something: %v", err)
	}
	last.busy = 2
	if _, err := f.Mounts.Unmount(ctx, &sheafv1.UnmountRequest{Dir: dir, Wait: true}); err != nil {
		t.Error(err)
	}
	_, err = f.Mounts.Unmount(ctx, &sheafv1.UnmountRequest{Dir: dir})
	wantCode(t, err, sheafv1.Code_CODE_NOT_FOUND)

	// One that somebody else unmounts leaves the list.
	if _, err := f.Mounts.Mount(ctx, &sheafv1.MountRequest{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	gone := f.svc.Gone(dir)
	_ = last.Abort(ctx)
	<-gone
	if l, err := f.Mounts.List(ctx, &sheafv1.MountsListRequest{}); err != nil || len(l.GetMounts()) != 0 {
		t.Errorf("got %v, %v", l, err)
	}

	if _, err := f.Mounts.Mount(ctx, &sheafv1.MountRequest{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	last.busy = 1
	s, err := f.Drives.Stop(ctx, &sheafv1.StopRequest{Force: true})
	if err != nil || s.GetUnmounted() != 1 {
		t.Errorf("got %v, %v", s, err)
	}
	<-stopped
	mu.Lock()
	defer mu.Unlock()
	if len(noted) != 0 || !f.drive.closed {
		t.Errorf("noted %v, closed %v", noted, f.drive.closed)
	}
}

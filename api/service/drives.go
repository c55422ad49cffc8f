package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/vfs"
)

// stamp returns t for the wire; the zero time is left out.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Status says what is going on.
func (s *Service) Status(ctx context.Context, _ *sheafv1.StatusRequest) (*sheafv1.StatusResponse, error) {
	var rules []*sheafv1.Rule
	if access.Of(ctx).IsLocal() {
		rules = s.standing(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &sheafv1.StatusResponse{
		State: sheafv1.DriveState_DRIVE_STATE_NONE, Mounts: s.mountList(), Store: s.o.Store,
		Daemon: s.o.Daemon, Pid: int32(os.Getpid()), Since: stamp(s.since), Copies: 1, Rules: rules,
	}
	for _, j := range s.jobs {
		if j.running() {
			r.Jobs++
		}
	}
	switch {
	case s.drive != nil:
		i := s.drive.Info()
		r.State = sheafv1.DriveState_DRIVE_STATE_OPEN
		r.Drive, r.Device, r.DeviceName, r.Created, r.Passphrase = i.Drive, i.Device, i.DeviceName, stamp(i.Created), i.Passphrase
		r.PendingBytes = s.drive.Pending()
		r.Replicas = replicasOf(s.drive)
		r.Copies = copiesOf(r.Replicas)
	case s.o.Device.Exists():
		r.State = sheafv1.DriveState_DRIVE_STATE_LOCKED
	}
	return r, nil
}

// Init makes a drive, or joins one, and opens it.
func (s *Service) Init(ctx context.Context, r *sheafv1.InitRequest) (*sheafv1.InitResponse, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if err := s.mayOpen(); err != nil {
		return nil, err
	}
	if s.o.Device.Exists() {
		return nil, fmt.Errorf("this device: %w", sheaf.ErrExists)
	}
	if r.GetJoin() && len(r.GetPassphrase()) == 0 && r.GetRecovery() == "" {
		return nil, sheaf.ErrNeedSecret
	}
	d, recovery, err := s.o.Device.Init(ctx, sheaf.Secret{Passphrase: r.GetPassphrase(), Recovery: r.GetRecovery()}, r)
	if err != nil {
		return nil, err
	}
	s.set(d)
	s.openDoors(ctx)
	s.openRules(ctx)
	i := d.Info()
	return &sheafv1.InitResponse{Drive: i.Drive, Device: i.Device, Recovery: recovery}, nil
}

// Unlock opens the drive.
func (s *Service) Unlock(ctx context.Context, r *sheafv1.UnlockRequest) (*sheafv1.UnlockResponse, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.mu.Lock()
	d := s.drive
	s.mu.Unlock()
	if d == nil {
		if err := s.mayOpen(); err != nil {
			return nil, err
		}
		if !s.o.Device.Exists() {
			return nil, sheaf.ErrNoDrive
		}
		var err error
		if d, err = s.o.Device.Open(ctx, sheaf.Secret{Passphrase: r.GetPassphrase(), Recovery: r.GetRecovery()}); err != nil {
			return nil, err
		}
		s.set(d)
		s.openDoors(ctx)
		s.openRules(ctx)
	}
	return &sheafv1.UnlockResponse{Drive: d.Info().Drive}, nil
}

// mayOpen refuses when the Service is closed. s.opening is held.
func (s *Service) mayOpen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errorf(sheafv1.Code_CODE_NO_DAEMON, "", "sheaf is stopping")
	}
	return nil
}

func (s *Service) set(d Drive) {
	s.mu.Lock()
	s.drive = d
	s.mu.Unlock()
	s.observe()
}

// Wait returns when all lies in packs, in so many copies.
func (s *Service) Wait(ctx context.Context, r *sheafv1.WaitRequest) (*sheafv1.WaitResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	path, err := clean(r.GetPath())
	if err == nil && path != "" {
		_, err = vfs.Walk(ctx, d.FS(), path) // what is not there is in no copy
	}
	if err != nil {
		return nil, err
	}
	if r.GetTimeoutMs() > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.GetTimeoutMs())*time.Millisecond)
		defer cancel()
	}
	if err := d.Commit(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, errorf(sheafv1.Code_CODE_TEMPORARY, "wait longer: --timeout", "%d bytes are not in packs yet", d.Pending())
		}
		return nil, err
	}
	if r.GetCopies() <= 1 {
		return &sheafv1.WaitResponse{Copies: 1}, nil
	}
	e, err := many(d)
	if err != nil {
		return nil, err
	}
	if path != "" {
		err = waitFor(ctx, d, e, path, int(r.GetCopies()))
	} else {
		err = e.Wait(ctx, int(r.GetCopies())-1)
	}
	if err != nil {
		return nil, waited(d, e, r.GetCopies(), err)
	}
	return &sheafv1.WaitResponse{Copies: r.GetCopies()}, nil
}

// Stop unmounts all and closes the drive.
func (s *Service) Stop(ctx context.Context, r *sheafv1.StopRequest) (*sheafv1.StopResponse, error) {
	n, err := s.leave(ctx, r.GetForce())
	if err != nil && !r.GetForce() {
		return nil, err
	}
	s.want(nil)
	last, err := s.close(context.WithoutCancel(ctx))
	if s.o.Stopped != nil {
		s.o.Stopped()
	}
	if err != nil {
		return nil, err
	}
	return &sheafv1.StopResponse{Unmounted: int32(n), Replicas: last}, nil
}

// Version says what program answers.
func (s *Service) Version(context.Context, *sheafv1.VersionRequest) (*sheafv1.VersionResponse, error) {
	if s.o.Version == nil {
		return &sheafv1.VersionResponse{Api: "sheaf.v1"}, nil
	}
	return s.o.Version, nil
}

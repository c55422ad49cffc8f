package service

import (
	"context"
	"sync"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
)

// pinWork pins paths. Cancelled, it leaves them pinned, and paused; ended in any other way it is gone on with by the open drive.
type pinWork struct {
	s     *Service
	paths []string

	mu          sync.Mutex // guards the rest
	done, total int64
	counted     bool
}

func (s *Service) pinWorkOf(r *sheafv1.PinJob) (*pinWork, error) {
	paths, err := pinPaths(r.GetPaths())
	return &pinWork{s: s, paths: paths}, err
}

// pinPaths decodes the paths of a request.
func pinPaths(texts []string) ([]string, error) {
	if len(texts) == 0 {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "sheaf pin PATH", "no path is named")
	}
	paths := make([]string, len(texts))
	for i, text := range texts {
		p, err := clean(text)
		if err != nil {
			return nil, err
		}
		paths[i] = p
	}
	return paths, nil
}

func (w *pinWork) do(ctx context.Context, d Drive) error {
	err := d.Pin(ctx, w.paths, func(done, total int64) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.done, w.total, w.counted = max(w.done, done), total, true
	})
	if err != nil && ctx.Err() != nil && w.s.life.Err() == nil { // somebody has cancelled it
		if perr := d.PausePin(context.WithoutCancel(ctx), w.paths...); perr != nil {
			return perr
		}
	}
	return err
}

func (w *pinWork) show(j *sheafv1.Job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	j.Bytes, j.BytesTotal, j.Counted = w.done, w.total, w.counted
}

// Pins has what is pinned.
func (s *Service) Pins(ctx context.Context, _ *sheafv1.PinsRequest) (*sheafv1.PinsResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	pins, err := d.Pins(ctx)
	if err != nil {
		return nil, err
	}
	r := &sheafv1.PinsResponse{}
	for _, p := range pins {
		r.Pins = append(r.Pins, &sheafv1.Pin{Path: wirepath.Encode(p.Path), Paused: p.Paused})
	}
	return r, nil
}

// Unpin lets paths go.
func (s *Service) Unpin(ctx context.Context, r *sheafv1.UnpinRequest) (*sheafv1.UnpinResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	paths, err := pinPaths(r.GetPaths())
	if err != nil {
		return nil, err
	}
	n, err := d.Unpin(ctx, paths...)
	if err != nil {
		return nil, err
	}
	return &sheafv1.UnpinResponse{ReleasedBytes: n}, nil
}

// Pinning keeps content on this device.
type Pinning interface {
	Pin(ctx context.Context, paths []string, progress sheaf.Progress) error
	PausePin(ctx context.Context, paths ...string) error
	Unpin(ctx context.Context, paths ...string) (released int64, err error)
	Pins(ctx context.Context) ([]sheaf.Pin, error)
}

package service

import (
	"context"
	"sync"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
)

// evictWork lets go what replicas keep.
type evictWork struct {
	o sheaf.EvictOptions

	mu          sync.Mutex // guards the rest
	done, total int64      // bytes
	result      *sheafv1.EvictResult
}

func evictWorkOf(r *sheafv1.EvictJob) (*evictWork, error) {
	if r.GetKeepBytes() < 0 || r.GetCopies() < 0 {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "sheaf store evict --keep 20GiB", "neither what is kept nor the number of copies is negative")
	}
	return &evictWork{o: sheaf.EvictOptions{Keep: r.GetKeepBytes(), Copies: int(r.GetCopies())}}, nil
}

func (w *evictWork) do(ctx context.Context, d Drive) error {
	e, err := many(d)
	if err != nil {
		return err
	}
	if e.Keepers() == 0 {
		return errorf(sheafv1.Code_CODE_UNSUPPORTED, "sheaf replica add REMOTE:PATH", "there is no replica to keep what leaves this device")
	}
	if err := d.Commit(ctx); err != nil {
		return err
	}
	r, err := d.Evict(ctx, w.o, func(done, total int64) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.done, w.total = done, total
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result = &sheafv1.EvictResult{Packs: r.Packs, Bytes: r.Bytes, KeptBytes: r.Kept, Short: r.Short}
	for _, name := range r.Away {
		w.result.Away = append(w.result.Away, wirepath.Encode(name))
	}
	return err
}

func (w *evictWork) show(j *sheafv1.Job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	j.Bytes, j.BytesTotal, j.Evict = w.done, w.total, w.result
}

package service

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/replica"
)

// replicaWork copies, checks or heals a replica.
type replicaWork struct {
	s        *Service
	from, to string // to copy
	name     string // to check or heal
	sample   int
	heal     bool

	mu       sync.Mutex // guards the rest
	progress replica.Progress
	result   *sheafv1.ReplicaResult
}

func (s *Service) replicaWorkOf(r *sheafv1.StartRequest) (kind string, w *replicaWork, err error) {
	switch r := r.GetWork().(type) {
	case *sheafv1.StartRequest_ReplicaCopy:
		w = &replicaWork{s: s, from: r.ReplicaCopy.GetFrom(), to: r.ReplicaCopy.GetTo()}
		if w.from == "" || w.to == "" {
			err = errorf(sheafv1.Code_CODE_USAGE, "sheaf replica copy FROM TO", "two places are needed")
		}
		return "replicate", w, err
	case *sheafv1.StartRequest_ReplicaVerify:
		if n := r.ReplicaVerify.GetSample(); n < 0 || n > 1<<30 {
			err = errorf(sheafv1.Code_CODE_USAGE, "", "a sample of %d packs", n)
		}
		return "check", &replicaWork{s: s, name: r.ReplicaVerify.GetName(), sample: int(r.ReplicaVerify.GetSample())}, err
	case *sheafv1.StartRequest_ReplicaHeal:
		return "heal", &replicaWork{s: s, name: r.ReplicaHeal.GetName(), heal: true}, nil
	}
	return "", nil, nil
}

// needsDrive reports whether the work is one on the open drive.
func (w *replicaWork) needsDrive() bool { return w.from == "" }

func (w *replicaWork) options() replica.Options {
	return replica.Options{Log: w.s.o.Log, Progress: func(p replica.Progress) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.progress = p
	}}
}

func (w *replicaWork) do(ctx context.Context, d Drive) error {
	if !w.needsDrive() {
		return w.copy(ctx)
	}
	e, err := many(d)
	if err != nil {
		return err
	}
	var at blob.Bucket = d.Own()
	if w.name != "" {
		if at, err = e.Bucket(w.name); err != nil {
			return replicaError(err)
		}
	}
	if !w.heal {
		err := w.verify(ctx, d, at)
		if err == nil && w.name != "" {
			e.Verified(ctx, w.name)
		}
		return err
	}
	if err := d.Commit(ctx); err != nil {
		return err
	}
	return w.mend(ctx, d, at)
}

func (w *replicaWork) copy(ctx context.Context) error {
	from, err := w.s.o.Reach.Open(ctx, w.from, false)
	if err != nil {
		return fmt.Errorf("reach %s: %w", w.s.shown(w.from), err)
	}
	defer closeBucket(from)
	to, err := w.s.o.Reach.Open(ctx, w.to, true)
	if err != nil {
		return fmt.Errorf("reach %s: %w", w.s.shown(w.to), err)
	}
	defer closeBucket(to)
	r, err := replica.Copy(ctx, from, to, w.options())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result = &sheafv1.ReplicaResult{Packs: int64(r.Packs), Blobs: int64(r.Index + r.Small + r.Heads), Bytes: r.Bytes}
	return w.faults(err)
}

// faults puts the faults of single blobs into the result. w.mu is held.
func (w *replicaWork) faults(err error) error {
	var all []*replica.Fault
	collect(err, &all)
	for _, f := range all {
		w.result.Findings = append(w.result.Findings, &sheafv1.Finding{Blob: string(f.Name), Reason: f.Err.Error()})
	}
	if len(all) > 0 {
		return errorf(sheafv1.Code_CODE_INTEGRITY, "sheaf replica heal", "%d blobs could not be brought: %v", len(all), all[0])
	}
	return err
}

// collect finds the Faults that err joins.
func collect(err error, dst *[]*replica.Fault) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			collect(e, dst)
		}
		return
	}
	var f *replica.Fault
	if errors.As(err, &f) {
		*dst = append(*dst, f)
	}
}

func (w *replicaWork) show(j *sheafv1.Job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.progress
	j.Items, j.ItemsTotal, j.Bytes, j.BytesTotal = int64(p.Blobs), int64(p.OfBlobs), p.Bytes, p.OfBytes
	j.Replica = w.result
}

func (w *replicaWork) verify(ctx context.Context, d Drive, at blob.Bucket) error {
	res := &sheafv1.ReplicaResult{}
	var expect []blob.Name
	if w.name != "" { // the store of this device has what it has put, and the rest on demand
		var err error
		if expect, err = d.Expected(ctx, at); err != nil {
			return err
		}
	}
	o := replica.VerifyOptions{Options: w.options(), Sample: w.sample, Seed: rand.Uint64(), Expect: expect, Done: func(blob.Name) { res.Packs++ }} //nolint:gosec // a sample
	for f, err := range replica.Verify(ctx, at, o) {
		if err != nil {
			return err
		}
		res.Findings = append(res.Findings, &sheafv1.Finding{Blob: string(f.Name), Reason: f.Err.Error()})
		if errors.Is(f.Err, replica.ErrDamaged) {
			res.Damaged++
		} else {
			res.Missing++
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	res.Bytes = w.progress.Bytes
	w.result = res
	if len(res.GetFindings()) > 0 {
		return errorf(sheafv1.Code_CODE_INTEGRITY, strings.TrimSpace("sheaf replica heal "+w.name),
			"at %s %d packs are damaged and %d are missing", w.where(), res.GetDamaged(), res.GetMissing())
	}
	return nil
}

func (w *replicaWork) where() string {
	if w.name == "" {
		return "the store of this device"
	}
	return w.name
}

// mend heals the place at from all others.
func (w *replicaWork) mend(ctx context.Context, d Drive, at blob.Bucket) error {
	e, err := many(d)
	if err != nil {
		return err
	}
	var from []blob.Bucket
	if w.name != "" {
		from = append(from, d.Own())
	}
	for _, st := range e.List() {
		if st.Name == w.name {
			continue
		}
		b, err := e.Bucket(st.Name)
		if err != nil {
			return replicaError(err)
		}
		from = append(from, b)
	}
	o := replica.HealOptions{Options: w.options()}
	if w.name == "" {
		// This device holds its own packs. Those of others it has on demand.
		if o.Names, err = namesOf(ctx, at); err != nil {
			return err
		}
	}
	r, err := replica.Heal(ctx, at, from, o)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result = &sheafv1.ReplicaResult{Packs: int64(r.Healed), Bytes: r.Bytes, Damaged: int64(r.Damaged), Missing: int64(r.Missing)}
	for _, n := range r.Lost {
		w.result.Findings = append(w.result.Findings, &sheafv1.Finding{Blob: string(n), Reason: "no place has it undamaged"})
	}
	for _, n := range r.Unknown {
		w.result.Findings = append(w.result.Findings, &sheafv1.Finding{Blob: string(n), Reason: "no place that could be asked has it undamaged"})
	}
	if n := len(w.result.GetFindings()); n > 0 {
		return errorf(sheafv1.Code_CODE_INTEGRITY, "sheaf store verify", "%d packs at %s could not be healed", n, w.where())
	}
	return err
}

func namesOf(ctx context.Context, b blob.Bucket) ([]blob.Name, error) {
	var names []blob.Name
	for info, err := range b.List(ctx, "packs/") {
		if err != nil {
			return nil, fmt.Errorf("list packs: %w", err)
		}
		names = append(names, info.Name)
	}
	return names, nil
}

package service

import (
	"context"
	"errors"
	"sync"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/pair"
)

// The bounds of what a job tells of the steps of a turn.
const (
	maxRuleActions  = 1000
	maxRuleFailures = 100
)

// ruleWork is a turn of a rule.
type ruleWork struct {
	s     *Service
	rule  string
	allow int64

	mu                sync.Mutex // guards the rest
	steps, total      int64
	bytes, bytesTotal int64
	failed            int64
	actions           []string
	failures          []*sheafv1.Failure
}

func (w *ruleWork) do(ctx context.Context, _ Drive) error {
	ctx, d, r, release, err := w.s.useRule(ctx, w.rule)
	if err != nil {
		return err
	}
	defer release()
	rep, err := w.s.turn(ctx, d, r, w.allow, w.told, w.planned, nil)
	w.mu.Lock()
	w.failed = int64(len(rep.Failed)) // what failed first and was done then is no failure
	w.mu.Unlock()
	if errors.Is(err, pair.ErrSome) {
		return nil // the job tells of it
	}
	return err
}

func (w *ruleWork) planned(steps int, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.total += int64(steps)
	w.bytesTotal += bytes
}

func (w *ruleWork) told(e pair.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps++
	if e.Err != nil {
		w.failed++
		if len(w.failures) < maxRuleFailures {
			w.failures = append(w.failures, &sheafv1.Failure{Path: wirepath.Encode(e.Path), Error: wirepath.Encode(e.Err.Error()), Code: Explain(e.Err).Code})
		}
		return
	}
	if e.Op == merge.Copy {
		w.bytes += e.Bytes
	}
	if len(w.actions) < maxRuleActions {
		w.actions = append(w.actions, wirepath.Encode(e.Step))
	}
}

func (w *ruleWork) show(j *sheafv1.Job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	j.Items, j.ItemsTotal, j.Bytes, j.BytesTotal, j.Failed = w.steps, w.total, w.bytes, w.bytesTotal, w.failed
	j.Actions = append([]string(nil), w.actions...)
	j.Failures = append([]*sheafv1.Failure(nil), w.failures...)
}

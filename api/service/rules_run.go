package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/pair"
)

// The times of a keeper.
const (
	firstRulePause = time.Second // after a turn that failed, doubled each time
	maxRulePause   = 10 * time.Minute
	saveRuleEvery  = time.Hour // of a rule with which nothing happens
)

// maxTold is how many problems and conflicts a summary has.
const maxTold = 1000

// paired calls fn with the open rule, which stays open until fn returns; its context is done when that is to end.
func (s *Service) paired(ctx context.Context, d Drive, r *rule, fn func(ctx context.Context, p *pair.Pair) error) error {
	for {
		r.open.RLock()
		if r.pair != nil {
			break
		}
		r.open.RUnlock()
		if err := s.openOnce(ctx, d, r); err != nil {
			return err
		}
	}
	defer r.open.RUnlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	return fn(ctx, r.pair)
}

// openOnce opens a rule that is closed.
func (s *Service) openOnce(ctx context.Context, d Drive, r *rule) error {
	r.opening.Lock()
	defer r.opening.Unlock()
	r.open.RLock()
	have := r.pair != nil
	r.open.RUnlock()
	if have {
		return nil
	}
	r.open.Lock()
	defer r.open.Unlock()
	return s.openPair(ctx, d, r)
}

// turns counts a turn that begins, until the function that it returns is called.
func (r *rule) turns() func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running++; r.running == 1 {
		r.steps, r.planned = 0, 0
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.running--
	}
}

// brakedFiles is how many files a turn that was braked would delete.
func brakedFiles(err error) int64 {
	var b *merge.Braked
	if errors.As(err, &b) {
		return int64(b.Files)
	}
	return 0
}

// turned notes what came of a turn. rep is nil if none began.
func (s *Service) turned(ctx context.Context, d Drive, r *rule, p *pair.Pair, rep *pair.Report, err error) {
	if ctx.Err() != nil && err != nil {
		return // it was cut off, and says nothing of the rule
	}
	waiting := r.show().GetConflicts()
	if p != nil {
		all, cerr := p.Conflicts(context.WithoutCancel(ctx))
		if cerr == nil {
			waiting = int64(len(all))
		} else {
			s.o.Log.Warn("the conflicts of a rule could not be read", "rule", r.show().GetId(), "error", cerr)
		}
	}
	e := Explain(r.explain(err)) // takes r.mu
	r.mu.Lock()
	i := r.info
	state, text := i.GetState(), i.GetError()
	i.Error, i.Code, i.BrakedFiles = "", "", 0
	switch {
	case err == nil:
		i.State = sheafv1.RuleState_RULE_STATE_ALIKE
	case errors.Is(err, pair.ErrBraked):
		i.State, i.BrakedFiles = sheafv1.RuleState_RULE_STATE_BRAKED, brakedFiles(err)
	case errors.Is(err, pair.ErrSwapped):
		i.State = sheafv1.RuleState_RULE_STATE_SWAPPED
	case errors.Is(err, pair.ErrSome):
		i.State = sheafv1.RuleState_RULE_STATE_PARTIAL
	default:
		i.State = sheafv1.RuleState_RULE_STATE_FAILED
	}
	if e != nil {
		i.Error, i.Code = wirepath.Encode(shortError(err)), strings.ToLower(strings.TrimPrefix(e.Code.String(), "CODE_"))
	}
	did := false
	if rep != nil {
		i.LastRun = stamp(s.now())
		i.Steps, i.Failed, i.Bytes, i.Agreed, i.Problems, i.Conflicts = int64(len(rep.Steps)), int64(len(rep.Failed)), rep.Bytes, int64(rep.Agreed), int64(len(rep.Problems)), waiting
		did = len(rep.Steps) > 0
	}
	// A turn that finds nothing to do costs no write.
	worth := did || state != i.GetState() || text != i.GetError() || !s.o.Daemon || s.now().Sub(r.saved) >= saveRuleEvery
	r.mu.Unlock()
	if now := r.show(); did || state != now.GetState() && now.GetState() != sheafv1.RuleState_RULE_STATE_RUNNING || text != now.GetError() {
		s.tellRule(now)
	}
	if !worth {
		return
	}
	if err := s.saveRules(ctx, d); err != nil {
		s.o.Log.Error("how a rule stands could not be kept", "error", err)
	}
}

// keep gives a rule its turns, until unkeep, if it is not paused and this is a daemon. s.rules.changing is held.
func (s *Service) keep(r *rule) {
	if !s.o.Daemon || r.stop != nil || r.show().GetPaused() {
		return
	}
	ctx, d, release, err := s.use(context.Background())
	if err != nil {
		return // it is closing
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	r.stop = func() {
		cancel()
		r.cut() // the keeper may wait for a turn that somebody asked for
		done.Wait()
	}
	r.mu.Lock()
	r.kept = true
	r.mu.Unlock()
	done.Go(func() {
		defer release()
		defer cancel()
		s.keepOn(ctx, d, r)
		r.shut(true) // of a drive that closes nothing is open
		r.mu.Lock()
		r.kept = false
		r.mu.Unlock()
	})
}

// unkeep ends what keep began. s.rules.changing is held.
func (s *Service) unkeep(r *rule) {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// keepOn gives a rule its turns until ctx is done. After a failure the places are opened anew, for what is open may be of a disk that is gone.
func (s *Service) keepOn(ctx context.Context, d Drive, r *rule) {
	pause := firstRulePause
	for ctx.Err() == nil {
		began := false
		err := s.paired(ctx, d, r, func(ctx context.Context, p *pair.Pair) error {
			began = true
			broke := make(chan error, 1)
			ended := func() {}
			l := p.Start(ctx, pair.LoopOptions{
				Every: time.Duration(r.show().GetEveryMs()) * time.Millisecond,
				Begin: func() { ended = r.turns() },
				Done: func(rep pair.Report, err error) {
					ended()
					s.turned(ctx, d, r, p, &rep, err)
					switch {
					case err == nil, errors.Is(err, pair.ErrSome), errors.Is(err, pair.ErrBraked):
						pause = firstRulePause
					default:
						select {
						case broke <- err:
						default:
						}
					}
				},
			})
			defer l.Close()
			select {
			case <-ctx.Done():
				return ctx.Err()
			case err := <-broke:
				return err
			}
		})
		if ctx.Err() != nil {
			return
		}
		if !began && err != nil {
			s.turned(ctx, d, r, nil, nil, err)
		}
		r.shut(false)
		s.o.Log.Warn("a rule cannot have its turns", "rule", r.show().GetId(), "code", Explain(err).Code.String(), "pause", pause)
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
		pause = min(2*pause, maxRulePause)
	}
}

// summary returns what a turn did.
func summary(rep *pair.Report, err error, waiting int) *sheafv1.RuleSummary {
	m := &sheafv1.RuleSummary{
		Steps: int64(len(rep.Steps)), Failed: int64(len(rep.Failed)), Bytes: rep.Bytes, Agreed: int64(rep.Agreed), ConflictsWaiting: int64(waiting), BrakedFiles: brakedFiles(err),
	}
	for _, p := range rep.Problems[:min(len(rep.Problems), maxTold)] {
		m.Problems = append(m.Problems, &sheafv1.RuleProblem{Side: p.Side.String(), Path: wirepath.Encode(p.Path), Why: wirepath.Encode(p.Why)})
	}
	for _, c := range rep.Conflicts[:min(len(rep.Conflicts), maxTold)] {
		m.Conflicts = append(m.Conflicts, conflictOf(c))
	}
	return m
}

func conflictOf(c pair.Conflict) *sheafv1.RuleConflict {
	return &sheafv1.RuleConflict{Id: wirepath.Encode(c.ID), Time: stamp(c.Time), Path: wirepath.Encode(c.Path), Copy: wirepath.Encode(c.Copy), Side: c.Side.String()}
}

// RunRule gives a rule a turn.
func (s *Service) RunRule(ctx context.Context, q *sheafv1.RulesRunRequest, send func(*sheafv1.RulesRunResponse) error) error {
	ctx, d, r, release, err := s.useRule(ctx, q.GetRule())
	if err != nil {
		return err
	}
	defer release()
	if q.GetAllowDeletes() < 0 {
		return errorf(sheafv1.Code_CODE_USAGE, "--allow-deletes 100", "the number of files that may be deleted is not negative")
	}
	var mu sync.Mutex
	var gone error
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told := func(e pair.Event) {
		mu.Lock()
		defer mu.Unlock()
		m := &sheafv1.RuleStep{Step: wirepath.Encode(e.Step), Path: wirepath.Encode(e.Path), Why: wirepath.Encode(e.Why), Bytes: e.Bytes}
		if e.Err != nil {
			m.Error = wirepath.Encode(e.Err.Error())
		}
		if gone == nil {
			if gone = send(&sheafv1.RulesRunResponse{Step: m}); gone != nil {
				cancel()
			}
		}
	}
	_, err = s.turn(ctx, d, r, q.GetAllowDeletes(), told, nil, func(ctx context.Context, p *pair.Pair, rep *pair.Report, err error) error {
		if gone != nil || ctx.Err() != nil {
			return errors.Join(gone, ctx.Err(), err)
		}
		return s.sum(ctx, p, rep, err, send)
	})
	return err
}

// turn gives a rule a turn. Then, if not nil, after is called while the rule is open, with what came of it, and what it returns is the error.
func (s *Service) turn(ctx context.Context, d Drive, r *rule, allow int64, told func(pair.Event), planned func(int, int64),
	after func(context.Context, *pair.Pair, *pair.Report, error) error,
) (rep pair.Report, err error) {
	began := false
	err = s.paired(ctx, d, r, func(ctx context.Context, p *pair.Pair) (err error) {
		began = true
		defer r.turns()()
		rep, err = p.Run(ctx, pair.RunOptions{AllowFiles: int(allow), Told: told, Planned: planned})
		s.turned(ctx, d, r, p, &rep, err)
		if after != nil {
			err = after(ctx, p, &rep, err)
		}
		return err
	})
	if !began && err != nil {
		s.turned(ctx, d, r, nil, nil, err)
	}
	return rep, r.explain(err)
}

// sum sends the summary of a turn, and returns its error.
func (s *Service) sum(ctx context.Context, p *pair.Pair, rep *pair.Report, err error, send func(*sheafv1.RulesRunResponse) error) error {
	waiting, cerr := p.Conflicts(ctx)
	if cerr == nil {
		cerr = send(&sheafv1.RulesRunResponse{Summary: summary(rep, err, len(waiting))})
	}
	if err != nil {
		return err
	}
	return cerr
}

// ExplainRule says what is known of a path.
func (s *Service) ExplainRule(ctx context.Context, q *sheafv1.RulesExplainRequest) (*sheafv1.RulesExplainResponse, error) {
	ctx, d, r, release, err := s.useRule(ctx, q.GetRule())
	if err != nil {
		return nil, err
	}
	defer release()
	name, err := clean(q.GetPath())
	if err == nil && name == "" {
		err = errorf(sheafv1.Code_CODE_USAGE, "sheaf sync explain NAME PATH", "no path is named")
	}
	if err != nil {
		return nil, err
	}
	m := &sheafv1.RulesExplainResponse{}
	err = s.paired(ctx, d, r, func(ctx context.Context, p *pair.Pair) error {
		e, err := p.Explain(ctx, name)
		if err != nil {
			return err
		}
		m.Left, m.Right, m.Agreed, m.Ignored, m.Problem = e.On[0], e.On[1], e.Agreed, e.Out, wirepath.Encode(e.Problem)
		m.LeftOutLeft, m.LeftOutRight = e.LeftOut[0], e.LeftOut[1]
		for _, n := range e.Next {
			m.Next = append(m.Next, wirepath.Encode(n))
		}
		for _, x := range e.Decisions {
			m.Decisions = append(m.Decisions, &sheafv1.RuleDecision{Time: stamp(x.Time), Step: wirepath.Encode(x.Step), Why: wirepath.Encode(x.Why)})
		}
		return nil
	})
	if err != nil {
		return nil, r.explain(err)
	}
	if !m.GetIgnored() {
		return m, nil
	}
	side := merge.Left
	if !m.GetLeft() {
		side = merge.Right
	}
	v, err := s.verdict(ctx, d, r, side, name, false)
	if err != nil {
		return nil, r.explain(err)
	}
	m.IgnoredBy = v.GetText()
	if !v.GetIgnored() {
		m.IgnoredBy = typeOut(r.show().GetFilter(), name)
		return m, nil
	}
	if v.GetFile() != "" {
		m.IgnoredBy = fmt.Sprintf("%s:%d of the %s side: %s", v.GetFile(), v.GetLine(), v.GetFrom(), v.GetText())
	}
	return m, nil
}

// RuleConflicts has the contents that claimed one name.
func (s *Service) RuleConflicts(ctx context.Context, q *sheafv1.RulesConflictsRequest) (*sheafv1.RulesConflictsResponse, error) {
	ctx, d, r, release, err := s.useRule(ctx, q.GetRule())
	if err != nil {
		return nil, err
	}
	defer release()
	m := &sheafv1.RulesConflictsResponse{}
	err = s.paired(ctx, d, r, func(ctx context.Context, p *pair.Pair) error {
		all, err := p.Conflicts(ctx)
		for _, c := range all {
			m.Conflicts = append(m.Conflicts, conflictOf(c))
		}
		return err
	})
	if err != nil {
		return nil, r.explain(err)
	}
	return m, nil
}

// DismissRuleConflict forgets a conflict.
func (s *Service) DismissRuleConflict(ctx context.Context, q *sheafv1.RulesDismissRequest) (*sheafv1.RulesDismissResponse, error) {
	ctx, d, r, release, err := s.useRule(ctx, q.GetRule())
	if err != nil {
		return nil, err
	}
	defer release()
	id, err := wirepath.Decode(q.GetConflict())
	if err != nil {
		return nil, err
	}
	var left int
	err = s.paired(ctx, d, r, func(ctx context.Context, p *pair.Pair) error {
		if err := p.Dismiss(ctx, id); err != nil {
			return err
		}
		all, err := p.Conflicts(ctx)
		left = len(all)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf sync conflicts "+r.show().GetName(), "no conflict %q", q.GetConflict())
	}
	if err != nil {
		return nil, r.explain(err)
	}
	r.mu.Lock()
	r.info.Conflicts = int64(left)
	r.mu.Unlock()
	if err := s.saveRules(ctx, d); err != nil {
		return nil, err
	}
	return &sheafv1.RulesDismissResponse{}, nil
}

package pair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// maxRounds is how often a turn plans anew.
const maxRounds = 8

// mostNew is of how many things one plan is where all that differs is new: each takes some 3 KiB until its steps are made. A variable, so that tests have small plans.
var mostNew = 1 << 15

// RunOptions are those of one turn.
type RunOptions struct {
	// AllowFiles carries out a plan that deletes more than the brake lets pass, if it deletes no more files than that on each side, over the whole
	// turn: what a person has agreed to, and nothing that came since.
	AllowFiles int
	// Told, if not nil, is called for each step of this turn, besides Options.Told and under the same conditions.
	Told func(Event)
	// Planned is as Options.Planned, of this turn.
	Planned func(steps int, bytes int64)
}

// Run is one turn. Its error is ErrSome if all was tried and some of it failed. What was done stays done, whatever the error.
func (p *Pair) Run(ctx context.Context, o RunOptions) (Report, error) {
	var r Report
	if err := p.begin(ctx); err != nil {
		return r, err
	}
	defer p.end()
	p.told, p.planned = o.Told, o.Planned
	defer func() { p.told, p.planned = nil, nil }()
	p.began, p.moves, p.tried = p.o.Now().UTC(), 0, map[string]bool{}
	if err := p.settleJournal(ctx); err != nil {
		return r, fmt.Errorf("look at what was under way: %w", err)
	}
	if err := p.lookBoth(ctx); err != nil {
		return r, err
	}
	for round := 0; ; round++ {
		again, err := p.round(ctx, &o, &r, round == 0)
		if err != nil {
			return r, err
		}
		if !again || round+1 == maxRounds {
			break
		}
		// What was put is looked for at once: what somebody removes later was removed, and what is not there now was lost.
		if err := p.lookBoth(ctx); err != nil {
			return r, err
		}
	}
	p.prune(ctx)
	if r.Failed = p.stillFailed(r.Failed); len(r.Failed) > 0 {
		return r, fmt.Errorf("%w: %d, the first is %s: %w", ErrSome, len(r.Failed), r.Failed[0].Step, r.Failed[0].Err)
	}
	return r, nil
}

// round plans and carries out what is known, a part after the other where much is new. again says that there is reason to look and plan anew.
func (p *Pair) round(ctx context.Context, o *RunOptions, r *Report, first bool) (again bool, err error) {
	for from := ""; ; {
		plan, err := p.plan(ctx, from, mostNew)
		if from != "" && errors.Is(err, merge.ErrMixed) {
			return true, nil
		}
		if err != nil {
			return again, err
		}
		if from == "" {
			r.Problems = nil
			if first {
				r.Agreed = plan.Agreed
			}
		}
		r.Problems = append(r.Problems, plan.Problems...)
		if b := plan.Braked; b != nil {
			if b.Files > o.AllowFiles {
				return again, fmt.Errorf("%w: %w", ErrBraked, b)
			}
			o.AllowFiles -= b.Files
		}
		more, err := p.carryOut(ctx, plan, r)
		again = again || more
		if err != nil || plan.Next == "" {
			return again, err
		}
		from = plan.Next
	}
}

// Preview looks at both sides, and returns what a Run would do now, without doing it.
func (p *Pair) Preview(ctx context.Context, o PreviewOptions) (Report, error) {
	var r Report
	if err := p.begin(ctx); err != nil {
		return r, err
	}
	defer p.end()
	if err := p.settleJournal(ctx); err != nil {
		return r, fmt.Errorf("look at what was under way: %w", err)
	}
	if err := p.lookBoth(ctx); err != nil {
		return r, err
	}
	p.as = o
	defer func() { p.as = PreviewOptions{} }()
	plan, err := p.plan(ctx, "", 0)
	if err != nil {
		return r, err
	}
	if o.File != nil {
		if err := p.files(ctx, p.filter, o.File); err != nil {
			return r, err
		}
	}
	r.Agreed, r.Problems = plan.Agreed, plan.Problems
	for i := range plan.Steps {
		if st := &plan.Steps[i]; st.Op <= merge.Hash {
			r.Steps = append(r.Steps, st.String())
		}
	}
	if b := plan.Braked; b != nil {
		return r, fmt.Errorf("%w: %w", ErrBraked, b)
	}
	return r, nil
}

// lookBoth looks at both sides, at once unless all goes in order: neither look touches what is known of the other side.
func (p *Pair) lookBoth(ctx context.Context) error {
	var errs [2]error
	look := func(s merge.Side) {
		if err := p.look(ctx, s); err != nil {
			errs[s] = fmt.Errorf("look at the %s side: %w", s, err)
		}
	}
	if p.o.Parallel == 1 {
		if look(merge.Left); errs[merge.Left] == nil {
			look(merge.Right)
		}
		return errors.Join(errs[:]...)
	}
	var wg sync.WaitGroup
	wg.Go(func() { look(merge.Left) })
	look(merge.Right)
	wg.Wait()
	return errors.Join(errs[:]...)
}

// shadow yields what a side was last seen to have, from a key of merge.Options.Key on.
func (p *Pair) shadow(ctx context.Context, s merge.Side, from string) iter.Seq2[merge.Item, error] {
	return func(yield func(merge.Item, error) bool) {
		for kvp, err := range p.o.KV.Scan(ctx, p.key(tables[s], from), p.key(tables[s]+1, "")) {
			var it merge.Item
			if err == nil {
				it, _, err = decodeItem(kvp.Value)
			}
			if !yield(it, err) || err != nil {
				return
			}
		}
	}
}

// base yields the pairs from a key of merge.Options.Key on; those of directories only, if only is set.
func (p *Pair) base(ctx context.Context, from string, only bool) iter.Seq2[merge.Pair, error] {
	return func(yield func(merge.Pair, error) bool) {
		for kvp, err := range p.o.KV.Scan(ctx, p.key('b', from), p.key('b'+1, "")) {
			var b merge.Pair
			if err == nil && only && pairKind(kvp.Value) != merge.Dir {
				continue
			}
			if err == nil {
				b, err = decodePair(kvp.Value)
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

// settleGhosts forgets the pairs of what was lost on its way.
func (p *Pair) settleGhosts(ctx context.Context) error {
	var ghosts [2]map[string]bool
	var keys [][]byte
	for s := range merge.Side(2) {
		ghosts[s] = map[string]bool{}
		from := p.key('g', s.String())
		for kvp, err := range p.o.KV.Scan(ctx, from, p.key('g'+1, "")) {
			if err != nil {
				return err
			}
			path, ok := strings.CutPrefix(string(kvp.Key), string(from))
			if !ok {
				break // it is of the other side
			}
			ghosts[s][path] = true
			keys = append(keys, kvp.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	for b, err := range p.base(ctx, "", false) {
		if err != nil {
			return err
		}
		if ghosts[0][b.Item[0].Path] || ghosts[1][b.Item[1].Path] {
			keys = append(keys, p.baseKey(&b), p.numberKey(b.N))
		}
	}
	return p.o.KV.Update(ctx, func(tx kv.Tx) error { return deleteAll(tx, keys) })
}

// plan makes the plan of what is known; from and most are those of merge.Input.
func (p *Pair) plan(ctx context.Context, from string, most int) (*merge.Result, error) {
	f, err := p.readFilter(ctx) // it may find that something is gone, and leave a ghost
	if err != nil {
		return nil, err
	}
	if err := p.settleGhosts(ctx); err != nil {
		return nil, err
	}
	in := merge.Input{Base: p.base(ctx, from, false), Dirs: p.base(ctx, "", true), From: from, Most: most}
	for s := range merge.Side(2) {
		in.Now[s] = p.filtered(ctx, s, f, from)
	}
	in.Taken = func(s merge.Side, path string) bool { // a place says so, too, when the name is to be taken
		_, err := p.o.KV.Get(ctx, p.shadowKey(s, path))
		return err == nil
	}
	o := p.o.Rule
	o.Date = p.o.Now().Format("2006-01-02")
	return merge.Plan(in, o)
}

// maxNotes is how many steps that change no place, but only what is remembered, go at once besides the others: they go into one transaction.
const maxNotes = 256

// A result is what came of a step.
type result struct {
	i     int
	bytes int64
	err   error
}

// carryOut does the steps. again says that there is reason to plan anew.
func (p *Pair) carryOut(ctx context.Context, plan *merge.Result, r *Report) (again bool, err error) {
	waits := make([]int, len(plan.Steps))
	then := make([][]int, len(plan.Steps))
	var ready []int
	for i := range plan.Steps {
		waits[i] = len(plan.Steps[i].Needs)
		for _, n := range plan.Steps[i].Needs {
			then[n] = append(then[n], i)
		}
		if waits[i] == 0 {
			ready = append(ready, i)
		}
	}
	skip := make([]bool, len(plan.Steps))
	text := make([]string, len(plan.Steps))
	steps, bytes := 0, int64(0)
	for i := range plan.Steps {
		st := &plan.Steps[i]
		text[i] = st.String()
		if st.Op <= merge.Hash {
			steps++
		}
		if st.Op == merge.Copy {
			bytes += max(st.Thing.Now[st.Side.Other()].Size, 0)
		}
	}
	for _, planned := range [...]func(int, int64){p.o.Planned, p.planned} {
		if planned != nil && steps > 0 {
			planned(steps, bytes)
		}
	}
	done := make(chan result)
	var fatal error
	notes := 0 // of those that are busy
	for busy := 0; busy > 0 || len(ready) > 0 && fatal == nil; {
		for len(ready) > 0 && busy-notes < p.o.Parallel && notes < maxNotes && fatal == nil {
			i := ready[0]
			ready = ready[1:]
			busy++
			if p.o.Parallel > 1 && plan.Steps[i].Op > merge.Hash {
				notes++
			}
			dead := skip[i]
			go func() {
				if dead {
					done <- result{i: i, err: errSkipped}
					return
				}
				n, err := p.do(ctx, &plan.Steps[i])
				done <- result{i, n, err}
			}()
		}
		if busy == 0 {
			break
		}
		res := <-done
		busy--
		st := &plan.Steps[res.i]
		if p.o.Parallel > 1 && st.Op > merge.Hash {
			notes--
		}
		for _, k := range then[res.i] {
			skip[k] = skip[k] || res.err != nil
			if waits[k]--; waits[k] == 0 {
				ready = append(ready, k)
			}
		}
		r.Bytes += res.bytes
		switch {
		case res.err == nil && st.Op <= merge.Hash:
			delete(p.tried, text[res.i])
			r.Steps = append(r.Steps, text[res.i])
			again = true
			if st.Conflict != nil {
				r.Conflicts = append(r.Conflicts, p.conflict(st.Conflict))
			}
		case errors.Is(res.err, errSkipped), res.err == nil:
		case stale(res.err):
			again = true
			if err := p.askAgain(ctx, st); err != nil {
				fatal = errors.Join(fatal, err)
			}
		default:
			again = again || !p.tried[text[res.i]] // once more, and then it is for the next turn
			if !p.tried[text[res.i]] {
				r.Failed = append(r.Failed, Failure{text[res.i], st.Path, res.err})
			}
			p.tried[text[res.i]] = true
			if ends(res.err) || ctx.Err() != nil {
				fatal = errors.Join(fatal, fmt.Errorf("%s: %w", text[res.i], res.err))
			}
		}
		for _, told := range [...]func(Event){p.o.Told, p.told} {
			if told != nil && st.Op <= merge.Hash && !errors.Is(res.err, errSkipped) {
				told(Event{Time: p.o.Now(), Step: text[res.i], Why: st.Why, Op: st.Op, Side: st.Side, Path: st.Path, Bytes: res.bytes, Err: res.err})
			}
		}
	}
	return again && fatal == nil, fatal
}

// stillFailed returns those of the failures that no later round has made good.
func (p *Pair) stillFailed(all []Failure) (left []Failure) {
	for _, f := range all {
		if p.tried[f.Step] {
			left = append(left, f)
		}
	}
	return left
}

var errSkipped = errors.New("what it needs was not done")

// stale reports whether an error says that something has changed since the plan was made.
func stale(err error) bool {
	return errors.Is(err, remote.ErrChanged) || errors.Is(err, fs.ErrNotExist)
}

// askAgain looks at the paths of a step that found something else.
func (p *Pair) askAgain(ctx context.Context, st *merge.Step) error {
	var errs []error
	seen := map[string]bool{}
	for _, path := range [...]string{st.Path, st.From, st.At[0], st.At[1], st.Thing.Now[0].Path, st.Thing.Now[1].Path} {
		if path == "" || seen[path] {
			continue
		}
		seen[path] = true
		for s := range merge.Side(2) {
			if err := p.ask(ctx, s, path); err != nil && !errors.Is(err, remote.ErrIllegal) {
				errs = append(errs, err)
			}
			if i := strings.LastIndexByte(path, '/'); i > 0 && p.o.Rule.Can[s].EmptyDirs && !seen[s.String()+path[:i]] {
				seen[s.String()+path[:i]] = true
				if err := p.ask(ctx, s, path[:i]); err != nil && !errors.Is(err, remote.ErrIllegal) {
					errs = append(errs, err)
				}
			}
		}
	}
	return errors.Join(errs...)
}

package pair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/sync/merge"
)

// maxDecisions is how many decisions are remembered of each path.
const maxDecisions = 5

// A Decision is what was once done with a path, and why.
type Decision struct {
	Time      time.Time
	Step, Why string
}

// remember notes a step among the decisions of its path.
func (p *Pair) remember(tx kv.Tx, st *merge.Step) error {
	path := st.At[merge.Left]
	if path == "" {
		path = st.Path
	}
	key := p.key('e', path)
	if len(key) > kv.MaxKey {
		return nil
	}
	var all []Decision
	v, err := tx.Get(key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && json.Unmarshal(v, &all) != nil {
		all = nil // what cannot be read explains nothing
	}
	all = append(all, Decision{p.o.Now().UTC(), st.String(), st.Why})
	all = all[max(0, len(all)-maxDecisions):]
	if v, err = json.Marshal(all); err != nil {
		return err
	}
	return tx.Put(key, v)
}

// An Explanation says what is known of a path.
type Explanation struct {
	// On says on which side something is there, Agreed that both agreed on it, Out that the filter leaves it out.
	On     [2]bool
	Agreed bool
	Out    bool
	// LeftOut says why the limits leave out what each side has; "": they do not. What both have stays as it is as long as one is left out, unless the other one has a later state of
	// what both agreed on.
	LeftOut [2]string
	// Next are the steps of the next turn that have to do with it, as far as is known without looking.
	Next []string
	// Problem says why it cannot be made alike; "" if nothing is known.
	Problem string
	// Decisions are the last ones, the oldest first.
	Decisions []Decision
}

// Explain says what is known of a path, as the left side has it.
func (p *Pair) Explain(ctx context.Context, path string) (e Explanation, err error) {
	if err := p.begin(ctx); err != nil {
		return e, err
	}
	defer p.end()
	f, err := p.readFilter(ctx)
	if err != nil {
		return e, err
	}
	for s := range merge.Side(2) {
		v, err := p.o.KV.Get(ctx, p.shadowKey(s, path))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return e, err
		}
		e.On[s] = true
		if it, _, err := decodeItem(v); err == nil {
			e.Out = e.Out || p.sieve(f).isOut(s, &it)
			e.LeftOut[s] = p.limits().Why(&it, p.o.Now())
		}
	}
	key := p.o.Rule.Key(merge.Left, path)
	for kvp, err := range p.o.KV.Scan(ctx, p.key('b', key), p.key('b', key+"\xff")) {
		if err != nil {
			return e, err
		}
		if b, err := decodePair(kvp.Value); err == nil && b.Item[0].Path == path {
			e.Agreed = true
		}
	}
	v, err := p.o.KV.Get(ctx, p.key('e', path))
	if err == nil {
		err = json.Unmarshal(v, &e.Decisions)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return e, fmt.Errorf("read decisions: %w", err)
	}
	plan, err := p.plan(ctx, "", 0)
	if err != nil {
		return e, err
	}
	for i := range plan.Steps {
		if st := &plan.Steps[i]; st.Op <= merge.Hash && (st.Path == path || st.From == path || st.At[0] == path) {
			e.Next = append(e.Next, st.String()+": "+st.Why)
		}
	}
	for _, pr := range plan.Problems {
		if pr.Path == path {
			e.Problem = pr.Why
		}
	}
	return e, nil
}

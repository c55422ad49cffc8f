package pair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/sync/merge"
)

// Limits leave files out by their size and their age, each side's by what that side tells of it. The zero value leaves out nothing. What is left out is not here: it is not brought
// over, neither deleted nor replaced on either side, and no delete follows from it, whatever becomes of the limits, the file or the clock.
type Limits struct {
	// MinSize and MaxSize are in bytes; 0: no limit. A file of which only reading tells the size is not left out.
	MinSize, MaxSize int64
	// MinAge and MaxAge are the time since a file was last changed, by its own time and Options.Now; 0: no limit. A file without a time is not left out.
	MinAge, MaxAge time.Duration
}

// Why says why a file is left out; "" if it is not.
func (l Limits) Why(it *merge.Item, now time.Time) string {
	if it.Kind != merge.File || l == (Limits{}) {
		return ""
	}
	switch {
	case l.MaxSize > 0 && it.Size > l.MaxSize:
		return fmt.Sprintf("its %d bytes are more than the %d of the rule", it.Size, l.MaxSize)
	case it.Size >= 0 && it.Size < l.MinSize:
		return fmt.Sprintf("its %d bytes are fewer than the %d of the rule", it.Size, l.MinSize)
	case it.MTime == 0:
		return ""
	}
	switch age := now.Sub(timeOf(it.MTime)); {
	case l.MaxAge > 0 && age > l.MaxAge:
		return fmt.Sprintf("it was last changed %s ago, and the rule is for the last %s", age.Round(time.Second), l.MaxAge)
	case l.MinAge > 0 && age < l.MinAge:
		return fmt.Sprintf("it was changed %s ago, and the rule waits for %s", age.Round(time.Second), l.MinAge)
	}
	return ""
}

// shelve notes in the pair of a thing what each side has of it that is left out, and nothing else.
func (p *Pair) shelve(tx kv.Tx, th *merge.Thing) error {
	b, err := p.pair(tx, th.N)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for s := range 2 {
		b.Item[s].Skip = th.Now[s].Skip
	}
	return p.putPair(tx, &b)
}

// PreviewOptions say what a preview is to be of.
type PreviewOptions struct {
	// Limits and Out, if not nil, stand for those of the pair: so one sees what another filter leaves out before there is one.
	Limits *Limits
	Out    func(path string, dir bool, size int64) bool
	// File, if not nil, is called for each file at the places. An error that it returns ends the preview.
	File func(FileSeen) error
}

// A FileSeen is a file of a preview.
type FileSeen struct {
	merge.Item
	// On says on which sides it is. Item is as the left one has it, if it is there.
	On [2]bool
	// Why says why it is left out, on one side at least; "" if it is not.
	Why string
}

// limits are those that count now.
func (p *Pair) limits() Limits {
	if p.as.Limits != nil {
		return *p.as.Limits
	}
	return p.o.Limits
}

// out is what Options.Out is now.
func (p *Pair) out() func(path string, dir bool, size int64) bool {
	if p.as.Out != nil {
		return p.as.Out
	}
	return p.o.Out
}

// files calls fn for each file at the places.
func (p *Pair) files(ctx context.Context, f *filter, fn func(FileSeen) error) error {
	v := p.sieve(f)
	for s := range merge.Side(2) {
		for it, err := range p.shadow(ctx, s, "") {
			if err != nil {
				return err
			}
			if it.Kind != merge.File {
				continue
			}
			x := FileSeen{Item: it, Why: v.why(s, &it)}
			x.On[s] = true
			other, ok, err := p.shadowAt(ctx, s.Other(), it.Path)
			if err != nil {
				return err
			}
			if ok && other.Kind == merge.File {
				if s == merge.Right {
					continue
				}
				x.On[s.Other()] = true
				if why := v.why(s.Other(), &other); x.Why == "" && why != "" {
					x.Why = fmt.Sprintf("on the %s side, %s", s.Other(), why)
				}
			}
			if err := fn(x); err != nil {
				return err
			}
		}
	}
	return nil
}

package tier

import (
	"context"
	"fmt"
	"iter"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// List implements [blob.Bucket]: what is in Local, in the Mirror and in the catalog, each name once, as Local has it if it
// does. It asks no remote.
func (t *Tier) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(blob.Info{}, fmt.Errorf("list blobs %q: %w", string(prefix), err))
			return
		}
		var m merge
		defer m.stop()
		m.add(t.o.Local.List(ctx, prefix))
		if t.o.Mirror != nil {
			m.add(t.only(t.o.Mirror.List(ctx, prefix), func(n blob.Name) bool { return !far(n) }))
		}
		m.near = len(m.seqs)
		for _, table := range t.known.tables() {
			m.add(t.only(known(table, prefix), func(blob.Name) bool { return true }))
		}
		for {
			info, err, ok := m.next()
			if !ok {
				break
			}
			if m.far && m.differs && err == nil { // the size by which Get goes
				if _, size := t.sources(info.Name); size >= 0 {
					info.Size = size
				}
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(blob.Info{}, fmt.Errorf("list blobs %q: %w", string(prefix), err))
		}
	}
}

// only leaves out what was removed and what want refuses.
func (t *Tier) only(seq iter.Seq2[blob.Info, error], want func(blob.Name) bool) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for info, err := range seq {
			if err == nil && (!want(info.Name) || t.removed.has(info.Name)) {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

func known(table *catalog.Table, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for info := range table.All(prefix) {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// merge makes one sequence of several that are in order. Of equal names the one of the first sequence counts.
type merge struct {
	seqs []*sequence
	near int // so many of them are here

	far     bool // what next returned last is in none of these
	differs bool // and has different sizes in others
}

type sequence struct {
	next func() (blob.Info, error, bool)
	stop func()
	info blob.Info
	err  error
	ok   bool
}

func (m *merge) add(seq iter.Seq2[blob.Info, error]) {
	next, stop := iter.Pull2(seq)
	s := &sequence{next: next, stop: stop}
	s.info, s.err, s.ok = next()
	m.seqs = append(m.seqs, s)
}

func (m *merge) next() (blob.Info, error, bool) {
	var least *sequence
	for _, s := range m.seqs {
		if s.ok && s.err != nil {
			return blob.Info{}, s.err, true
		}
		if s.ok && (least == nil || s.info.Name < least.info.Name) {
			least = s
		}
	}
	if least == nil {
		return blob.Info{}, nil, false
	}
	info := least.info
	m.far, m.differs = true, false
	for i, s := range m.seqs {
		if s.ok && s.err == nil && s.info.Name == info.Name {
			m.far = m.far && i >= m.near
			m.differs = m.differs || s.info.Size != info.Size
		}
		for s.ok && s.err == nil && s.info.Name <= info.Name {
			s.info, s.err, s.ok = s.next()
		}
	}
	return info, nil, true
}

func (m *merge) stop() {
	for _, s := range m.seqs {
		s.stop()
	}
}

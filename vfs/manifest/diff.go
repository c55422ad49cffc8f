package manifest

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// A Difference is a path at which two trees differ. Old is nil for what is only in
// the second, New for what is only in the first.
type Difference struct {
	Path     string
	Old, New *Entry
}

// Diff yields, in path order, the entries that differ between the trees of directories
// a and b: every field counts, so a directory is yielded if anything below it differs,
// and is followed by that. It does not read what is equal in both. Two entries at
// one path that are of different kinds or IDs are one Difference; if one of them is a
// directory, all below it follows. It ends at the first error.
func Diff(ctx context.Context, src Source, a, b chunk.Ref) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		diff(ctx, src, "", a, b, 0, yield)
	}
}

// DiffAlso is Diff, and yields what is equal in both, too, where its Flags have one of also, with what leads there.
func DiffAlso(ctx context.Context, src Source, a, b chunk.Ref, also Below) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		diff(ctx, src, "", a, b, also, yield)
	}
}

func diff(ctx context.Context, src Source, prefix string, a, b chunk.Ref, also Below, yield func(Difference, error) bool) bool {
	for p, err := range diffDir(ctx, src, a, b, also) {
		if err != nil {
			yield(Difference{}, fmt.Errorf("compare: %w", err))
			return false
		}
		d := Difference{Old: p.a, New: p.b}
		var subA, subB chunk.Ref
		if p.a != nil {
			d.Path = prefix + p.a.Name
			if p.a.Kind == vfs.KindDir {
				subA = p.a.Node
			}
		}
		if p.b != nil {
			d.Path = prefix + p.b.Name
			if p.b.Kind == vfs.KindDir {
				subB = p.b.Node
			}
		}
		if !yield(d, nil) {
			return false
		}
		if (subA != subB || also != 0 && !subA.IsZero()) && !diff(ctx, src, d.Path+"/", subA, subB, also, yield) {
			return false
		}
	}
	return true
}

// DiffDir yields, in name order, the names at which the directories a and b differ, and nothing of what
// is below these: Path is the name alone. A zero Ref is an empty directory.
func DiffDir(ctx context.Context, src Source, a, b chunk.Ref) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		for p, err := range diffDir(ctx, src, a, b, 0) {
			if err != nil {
				yield(Difference{}, fmt.Errorf("compare: %w", err))
				return
			}
			d := Difference{Old: p.a, New: p.b}
			if p.b != nil {
				d.Path = p.b.Name
			} else {
				d.Path = p.a.Name
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

// A pairing is the two entries of one name in two directories; one may be nil.
type pairing struct{ a, b *Entry }

// diffDir yields in name order the pairs of entries that differ in the directories a and b,
// and also those that are equal if they have one of the flags that force names, or all if
// it is forceAll. What is equal and without such flags is not read.
func diffDir(ctx context.Context, src Source, a, b chunk.Ref, force Below) iter.Seq2[pairing, error] {
	return func(yield func(pairing, error) bool) {
		d := dirDiff{ctx: ctx, src: src, force: force, yield: yield}
		if a == b && force == 0 {
			return
		}
		if err := d.push(&d.a, a); err != nil {
			yield(pairing{}, err)
			return
		}
		if a != b {
			if err := d.push(&d.b, b); err != nil {
				yield(pairing{}, err)
				return
			}
		} else {
			d.b = append(d.b, d.a...)
		}
		if err := d.run(); err != nil {
			yield(pairing{}, err)
		}
	}
}

// forceAll makes diffDir yield everything.
const forceAll Below = 0xff

// forced reports whether what is equal and has these flags is to be yielded.
func (d *dirDiff) forced(below Below) bool { return d.force == forceAll || below&d.force != 0 }

// A span is an unread node, or one entry, of a directory.
type span struct {
	child
	level int    // of the node; -1: entry
	entry *Entry //
	raw   []byte // its encoding
}

// A dirDiff goes through two directories side by side. a and b are stacks of
// what is still to come, the next on top.
type dirDiff struct {
	ctx   context.Context //nolint:containedctx // lives for one call
	src   Source
	force Below
	yield func(pairing, error) bool
	a, b  []span
}

func (d *dirDiff) push(s *[]span, ref chunk.Ref) error {
	if ref.IsZero() {
		return nil
	}
	n, err := readNode(d.ctx, d.src, chunk.Dir, ref, 0, nil)
	if err != nil {
		return err
	}
	*s = append(*s, unfold(n)...)
	return nil
}

// unfold returns what is in n, the first last.
func unfold(n *node) []span {
	var s []span
	for i := len(n.children) - 1; i >= 0; i-- {
		s = append(s, span{child: n.children[i], level: n.level - 1})
	}
	for i := len(n.entries) - 1; i >= 0; i-- {
		e := &n.entries[i]
		s = append(s, span{child: child{first: e.Name, below: e.Flags()}, level: -1, entry: e, raw: n.raw[i]})
	}
	return s
}

// open replaces the node on top of s by what is in it.
func (d *dirDiff) open(s *[]span) error {
	t := (*s)[len(*s)-1]
	n, err := readNode(d.ctx, d.src, chunk.Dir, t.ref, t.level+1, &t.child)
	if err != nil {
		return err
	}
	*s = append((*s)[:len(*s)-1], unfold(n)...)
	return nil
}

func (d *dirDiff) run() error {
	for len(d.a) > 0 || len(d.b) > 0 {
		var a, b *span
		if len(d.a) > 0 {
			a = &d.a[len(d.a)-1]
		}
		if len(d.b) > 0 {
			b = &d.b[len(d.b)-1]
		}
		openA := a != nil && a.level >= 0
		openB := b != nil && b.level >= 0
		if openA && openB {
			if a.ref == b.ref && !d.forced(a.below) {
				d.a, d.b = d.a[:len(d.a)-1], d.b[:len(d.b)-1]
				continue
			}
			// The taller one first, then the one that begins first, so that equal
			// nodes further on come to lie side by side.
			openA = a.level > b.level || a.level == b.level && a.first <= b.first
			openB = b.level > a.level || a.level == b.level && b.first <= a.first
		} else if a != nil && b != nil {
			// An entry before all of the other side's node has no partner there.
			openA = openA && a.first <= b.first
			openB = openB && b.first <= a.first
		}
		if openA || openB {
			if openA {
				if err := d.open(&d.a); err != nil {
					return err
				}
			}
			if openB {
				if err := d.open(&d.b); err != nil {
					return err
				}
			}
			continue
		}
		if !d.pair(a, b) {
			return nil
		}
	}
	return nil
}

// pair takes the entry, or the two of one name, that come next.
func (d *dirDiff) pair(a, b *span) bool {
	var p pairing
	takeA := a != nil && a.level < 0 && (b == nil || a.first <= b.first)
	takeB := b != nil && b.level < 0 && (a == nil || b.first <= a.first)
	same := takeA && takeB
	if takeA {
		p.a = a.entry
		d.a = d.a[:len(d.a)-1]
	}
	if takeB {
		p.b = b.entry
		d.b = d.b[:len(d.b)-1]
	}
	if same && bytes.Equal(a.raw, b.raw) && !d.forced(a.below) {
		return true
	}
	return d.yield(p, nil)
}

package live

import (
	"context"
	"io"
	"io/fs"

	"github.com/sheaf-drive/sheaf/vfs"
)

// copyTo is vfs.Handle.CopyTo. Whole pieces that lie in chunks are shared; what is still in the
// journal only is copied.
func (f *FS) copyTo(ctx context.Context, src *node, off int64, dst *node, dstOff, length int64) (int64, error) {
	if off < 0 || dstOff < 0 || length < 0 {
		return 0, fs.ErrInvalid
	}
	if err := f.usable(); err != nil {
		return 0, err
	}
	src.mu.RLock()
	length = max(min(length, src.file.size-off), 0)
	src.mu.RUnlock()
	if length == 0 {
		return 0, nil
	}
	if length > vfs.MaxSize-dstOff {
		return 0, vfs.ErrTooBig
	}
	if src == dst && off < dstOff+length && dstOff < off+length {
		return 0, fs.ErrInvalid
	}
	var done int64
	for done < length {
		n, err := f.copySome(ctx, src, off+done, dst, dstOff+done, min(length-done, 64<<20))
		if err != nil {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
		if n == 0 {
			break
		}
		done += n
	}
	return done, nil
}

// copySome copies one run of pieces in chunks, or one of bytes.
func (f *FS) copySome(ctx context.Context, src *node, off int64, dst *node, dstOff, length int64) (int64, error) {
	// Between looking at the source and writing into the journal, gc must not look.
	f.copyMu.RLock()
	defer f.copyMu.RUnlock()
	runs, shared, err := f.runs(ctx, src, off, length)
	if err != nil || shared == 0 {
		return 0, err
	}
	if runs == nil {
		buf := make([]byte, min(shared, 1<<20))
		n, err := f.readAt(ctx, src, buf, off)
		if n == 0 {
			if err == io.EOF { //nolint:errorlint // readAt returns io.EOF itself
				err = nil
			}
			return 0, err
		}
		n, err = f.writeAt(ctx, dst, buf[:n], dstOff)
		return int64(n), err
	}
	err = f.change1(ctx, dst, func() error {
		for i := range runs {
			runs[i].off += dstOff - off
			runs[i].gen = f.gen.Load()
		}
		c := &change{size: max(dst.file.size, dstOff+shared), time: f.o.Now(), runs: runs}
		if err := f.say(dst, recChunks, c); err != nil {
			return err
		}
		dst.applyRuns(c, f.gen.Load())
		f.mark(dst)
		return nil
	})
	return shared, err
}

func (n *node) applyRuns(c *change, gen uint64) {
	for _, p := range c.runs {
		p.gen = gen
		n.file.change().over.put(p)
	}
	n.grow(c.size, c.time)
}

// maxRuns bounds the record of a copy.
const maxRuns = 1000

// runs returns how many bytes of n from off on, up to length, are alike: in chunks or holes, then
// with these as pieces, or in the journal, then nil.
func (f *FS) runs(ctx context.Context, n *node, off, length int64) ([]piece, int64, error) {
	n.mu.RLock()
	base, baseLength, committed := n.file.base, n.file.length(), n.file.committed()
	end := min(off+length, n.file.size)
	n.mu.RUnlock()
	x, err := f.extentsOf(ctx, n, base, baseLength)
	if err != nil {
		return nil, 0, err
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.file.base != base || n.file.committed() != committed || n.file.size < end {
		return nil, min(end, n.file.size) - off, nil // it changes under us: copy bytes
	}
	var runs []piece
	at := off
	inBase := func(to int64) {
		for at < to && len(runs) < maxRuns {
			p := piece{off: at, n: to - at, from: isHole}
			if at < committed {
				p.n = min(p.n, committed-at)
				if k := x.at(at); k < len(x.list) {
					e := &x.list[k]
					p.n = min(p.n, e.Off+e.Size-at)
					if !e.Ref.IsZero() {
						p.from, p.ref, p.skip = inChunk, &e.Ref, at-e.Off
					}
				}
			}
			runs = append(runs, p)
			at = p.end()
		}
	}
	stop := false
	n.file.over().each(off, end, func(q piece) bool {
		inBase(q.off)
		if at < q.off || len(runs) >= maxRuns {
			stop = true
			return false
		}
		if q.from == inJournal {
			stop = true
			if len(runs) == 0 {
				at = q.end()
			}
			return false
		}
		runs = append(runs, q)
		at = q.end()
		return true
	})
	if !stop {
		inBase(end)
	}
	return runs, at - off, nil
}

package live

import (
	"context"
	"fmt"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// A replayer does again what the journal says, on a tree that nobody uses yet.
type replayer struct {
	f     *FS
	bound map[manifest.NodeID]*node
}

func (r *replayer) damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", journal.ErrDamaged, fmt.Sprintf(format, args...))
}

func (r *replayer) find(id manifest.NodeID) (*node, error) {
	if n := r.bound[id]; n != nil {
		return n, nil
	}
	return nil, r.damaged("record of a node that was not told of")
}

func (r *replayer) dir(ctx context.Context, id manifest.NodeID) (*node, error) {
	d, err := r.find(id)
	if err != nil {
		return nil, err
	}
	if d.kind != vfs.KindDir {
		return nil, r.damaged("record of a name in what is no directory")
	}
	return d, r.f.load(ctx, d)
}

// apply does one record. It holds FS.mu where the apply functions want it, though nobody else is there.
func (r *replayer) apply(ctx context.Context, rec journal.Replayed) error {
	c, err := decode(rec.Type, rec.Meta)
	if err != nil {
		return err
	}
	switch rec.Type {
	case recBind, recMake, recLink, recRemove, recRename:
		return r.names(ctx, rec.Type, &c)
	case recOrphan:
		return nil
	}
	n, err := r.find(c.id)
	if err != nil {
		return err
	}
	f := r.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if n.kind != vfs.KindFile && (rec.Type >= recWrite || rec.Type == recSetAttr && c.attr.Set&vfs.SetSize != 0) {
		return r.damaged("bytes for what is no file")
	}
	gen, before := f.gen.Load(), n.file.size
	switch rec.Type {
	case recSetAttr:
		n.applyAttr(c.attr)
	case recSetXattr:
		n.applySetXattr(&c)
	case recRemoveXattr:
		n.applyRemoveXattr(&c)
	case recWrite:
		n.applyWrite(rec.Pos, c.off, c.time, gen)
		f.dirtyBytes.Add(int64(rec.Pos.Len()))
	case recHole:
		n.applyHole(c.off, c.n, c.size, c.time, gen)
	case recChunks:
		n.applyRuns(&c, gen)
	}
	f.resized(n, before)
	f.mark(n)
	touched(n, rec.LSN)
	return nil
}

func (r *replayer) names(ctx context.Context, t journal.Type, c *change) error {
	f := r.f
	d, err := r.dir(ctx, c.dir)
	if err != nil {
		return err
	}
	d2 := d
	if t == recRename {
		if d2, err = r.dir(ctx, c.dir2); err != nil {
			return err
		}
	}
	// A directory that is to go is looked at as it was when it was alive.
	if err := f.lock(ctx, d, d2); err != nil {
		return err
	}
	defer f.unlock()
	n := f.child(d, c.name)
	switch t {
	case recMake, recLink:
		if n != nil || d.dir.dead {
			return r.damaged("%q is made where it is", c.name)
		}
	default:
		if n == nil {
			return r.damaged("%q is not where it was", c.name)
		}
	}
	switch t {
	case recBind:
		if _, nm := f.childName(d, c.name); nm.id != c.entry {
			return r.damaged("%q is another than it was", c.name)
		}
		r.bind(c.id, n)
	case recMake:
		r.bind(c.id, f.applyMake(d, c))
	case recLink:
		if n, err = r.find(c.id); err != nil {
			return err
		}
		f.applyLink(d, n, c)
	case recRemove:
		f.applyRemove(d, c.name, c.time)
	case recRename:
		flag := vfs.RenameFlag(c.flag)
		if flag == vfs.RenameExchange && f.child(d2, c.name2) == nil || n.kind == vfs.KindDir && within(d2, n) {
			return r.damaged("%q cannot have become %q", c.name, c.name2)
		}
		f.applyRename(d, c.name, d2, c.name2, flag, c.time)
	}
	return nil
}

// bind notes which node the journal calls by an ID. The node may have another one now: where several values or links
// share an ID, who has it hangs on who was there first.
func (r *replayer) bind(id manifest.NodeID, n *node) {
	r.bound[id] = n
	n.bound.Store(r.f.gen.Load())
}

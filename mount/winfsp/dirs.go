//go:build (windows && !cgo) || (cgofuse && cgo && (linux || darwin))

package winfsp

import (
	"context"

	"github.com/winfsp/cgofuse/fuse"

	"github.com/sheaf-drive/sheaf/vfs"
)

// Opendir opens a directory.
func (a *adapter) Opendir(path string) (code int, fh uint64) {
	defer caught(a.log, &code)
	a.hidden.begin("")
	n, err := a.node(background(), path)
	if err != nil {
		return a.code("opendir", err), none
	}
	d, ok := n.(vfs.Dir)
	if !ok {
		return -fuse.ENOTDIR, none
	}
	fh, ok = a.opens.put(&open{node: d})
	if !ok {
		return -fuse.EBUSY, none
	}
	return 0, fh
}

// Readdir lists a directory, all of it: libfuse and WinFsp keep the list until it is read to its end or begun anew.
func (a *adapter) Readdir(path string, fill func(string, *fuse.Stat_t, int64) bool, _ int64, fh uint64) (code int) {
	defer caught(a.log, &code)
	a.hidden.begin("")
	ctx := background()
	n, err := a.at(ctx, path, fh)
	if err != nil {
		return a.code("readdir", err)
	}
	d, ok := n.(vfs.Dir)
	if !ok {
		return -fuse.ENOTDIR
	}
	a.hidden.settleIn(d)
	var st fuse.Stat_t
	if err := a.stat(ctx, d, &st); err != nil {
		return a.code("readdir", err)
	}
	if !fill(".", &st, 0) || !fill("..", nil, 0) {
		return 0
	}
	if a.windows {
		return a.code("readdir", a.listAttr(ctx, d, fill))
	}
	for e, err := range d.List(ctx, "") {
		if err != nil {
			return a.code("readdir", err)
		}
		if !fill(e.Name, &fuse.Stat_t{Ino: e.Ino, Mode: kinds[e.Kind]}, 0) {
			break
		}
	}
	return 0
}

// listAttr lists a directory as Windows does, which wants all of each child.
func (a *adapter) listAttr(ctx context.Context, d vfs.Dir, put func(string, *fuse.Stat_t, int64) bool) error {
	first := map[string]string{}
	for e, err := range vfs.ListAttr(ctx, d, "") {
		if err != nil {
			return err
		}
		var st fuse.Stat_t
		fill(&st, &e.Attr)
		if n, err := d.Lookup(ctx, e.Name); err == nil {
			a.extend(ctx, n, &st)
		}
		if !put(encodeNext(first, e.Name), &st, 0) {
			return nil
		}
	}
	return nil
}

// Releasedir closes a directory.
func (a *adapter) Releasedir(_ string, fh uint64) (code int) {
	defer caught(a.log, &code)
	a.hidden.begin("")
	a.opens.drop(fh)
	return 0
}

// Fsyncdir returns when the names of a directory are durable on this machine.
func (a *adapter) Fsyncdir(path string, _ bool, fh uint64) (code int) {
	defer caught(a.log, &code)
	a.hidden.begin("")
	ctx := background()
	n, err := a.at(ctx, path, fh)
	if err != nil {
		return a.code("fsyncdir", err)
	}
	if d, ok := n.(vfs.Dir); ok {
		a.hidden.settleIn(d)
	}
	return a.code("fsyncdir", n.Sync(ctx))
}

package sftp

import (
	"context"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// info is a node as SFTP shows it. It implements os.FileInfo and xsftp.FileInfoUidGid.
type info struct {
	name string
	attr vfs.Attr
}

// Name, Size, Mode, ModTime, IsDir and Sys implement os.FileInfo.
func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.attr.Size }
func (i info) ModTime() time.Time { return i.attr.MTime }
func (i info) IsDir() bool        { return i.attr.Kind == vfs.KindDir }
func (i info) Sys() any           { return nil }

// Mode is a part of the same.
func (i info) Mode() fs.FileMode {
	m := i.attr.Mode.FileMode()
	switch i.attr.Kind {
	case vfs.KindDir:
		m |= fs.ModeDir
	case vfs.KindLink:
		m |= fs.ModeSymlink
	case vfs.KindFIFO:
		m |= fs.ModeNamedPipe
	case vfs.KindSocket:
		m |= fs.ModeSocket
	case vfs.KindChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case vfs.KindBlock:
		m |= fs.ModeDevice
	}
	return m
}

// Uid and Gid implement xsftp.FileInfoUidGid, whose names they are.
func (i info) Uid() uint32 { return i.attr.UID } //nolint:staticcheck // the interface's name
func (i info) Gid() uint32 { return i.attr.GID } //nolint:staticcheck // the interface's name

// one is the xsftp.ListerAt of a single thing.
type one struct{ info os.FileInfo }

// ListAt implements xsftp.ListerAt.
func (o one) ListAt(to []os.FileInfo, off int64) (int, error) {
	if off > 0 || len(to) == 0 {
		return 0, io.EOF
	}
	to[0] = o.info
	return 1, io.EOF
}

// listing is the xsftp.ListerAt of a folder. It reads the folder as it is asked, and holds no more than that.
type listing struct {
	next func() (info, error, bool)
	stop func()
	err  error
}

// newListing returns the listing of d. Its calls do not overlap: the protocol has one cursor for a folder.
func newListing(ctx context.Context, d vfs.Dir) *listing {
	next, stop := iter.Pull2(func(yield func(info, error) bool) {
		for e, err := range vfs.ListAttr(ctx, d, "") {
			if !yield(info{e.Name, e.Attr}, err) || err != nil {
				return
			}
		}
	})
	return &listing{next: next, stop: stop}
}

// ListAt implements xsftp.ListerAt. Where it begins is where it ended.
func (l *listing) ListAt(to []os.FileInfo, _ int64) (int, error) {
	for i := range to {
		if l.err != nil {
			return i, l.err
		}
		f, err, ok := l.next()
		switch {
		case !ok:
			l.err = io.EOF
			return i, l.err
		case err != nil:
			l.err = status(err)
			return i, l.err
		}
		to[i] = f
	}
	return len(to), nil
}

// Close gives it back.
func (l *listing) Close() error {
	l.stop()
	return nil
}

package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/vfs"
)

// The sizes of the parts of a stream.
const (
	listBatch = 256       // nodes
	readBlock = 512 << 10 // bytes
)

// clean decodes a path and returns it without a leading "/"; "" is the root.
func clean(text string) (string, error) {
	p, err := wirepath.Decode(text)
	if err != nil {
		return "", err
	}
	for elem := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		if elem == "" && strings.Trim(p, "/") == "" {
			return "", nil
		}
		if err := vfs.CheckName(elem); err != nil {
			return "", err
		}
	}
	return strings.Trim(p, "/"), nil
}

// nodeOf returns what n at path is, as the contract has it.
func nodeOf(ctx context.Context, path string, n vfs.Node) (*sheafv1.Node, error) {
	a, err := n.Attr(ctx)
	if err != nil {
		return nil, err
	}
	target := ""
	if l, ok := n.(vfs.Link); ok {
		if target, err = l.Target(ctx); err != nil {
			return nil, err
		}
	}
	return message(path, a, target), nil
}

// message returns the contract's Node of what is at a path.
func message(path string, a vfs.Attr, target string) *sheafv1.Node {
	m := &sheafv1.Node{
		Path: wirepath.Encode(path), Type: sheafv1.Kind(a.Kind), Mode: uint32(a.Mode), Size: a.Size,
		Modified: stamp(a.MTime), Changed: stamp(a.CTime), Uid: a.UID, Gid: a.GID, Links: a.Nlink, Ino: a.Ino,
	}
	if a.Kind == vfs.KindDir {
		m.Size = 0
	}
	if a.Kind == vfs.KindLink {
		m.Target = wirepath.Encode(target)
	}
	return m
}

// find opens the drive and walks to a path at a time.
func (s *Service) find(ctx context.Context, text, at string) (_ context.Context, n vfs.Node, p string, release func(), err error) {
	p, err = clean(text)
	if err != nil {
		return nil, nil, "", nil, err
	}
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, nil, "", nil, err
	}
	fsys, _, err := tree(ctx, d, at)
	if err == nil {
		n, err = vfs.Walk(ctx, fsys, p)
	}
	if err != nil {
		release()
		return nil, nil, "", nil, err
	}
	return ctx, n, p, release, nil
}

// Stat says what is at a path.
func (s *Service) Stat(ctx context.Context, r *sheafv1.StatRequest) (*sheafv1.Node, error) {
	ctx, n, p, release, err := s.find(ctx, r.GetPath(), r.GetAt())
	if err != nil {
		return nil, err
	}
	defer release()
	return nodeOf(ctx, p, n)
}

// List sends what is in a directory, or all below it.
func (s *Service) List(ctx context.Context, r *sheafv1.ListRequest, send func(*sheafv1.ListResponse) error) error {
	ctx, n, p, release, err := s.find(ctx, r.GetPath(), r.GetAt())
	if err != nil {
		return err
	}
	defer release()
	l := &lister{send: send, recursive: r.GetRecursive()}
	if r.GetPlaces() {
		_, d, give, err := s.use(ctx)
		if err != nil {
			return err
		}
		defer give()
		if l.custodian, err = d.Custodian(ctx); err != nil {
			return err
		}
	}
	if d, ok := n.(vfs.Dir); ok {
		err = l.dir(ctx, p, d)
	} else {
		err = l.add(ctx, p, n)
	}
	if err != nil {
		return err
	}
	return l.flush()
}

// A lister gathers nodes and sends them in batches.
type lister struct {
	send      func(*sheafv1.ListResponse) error
	recursive bool
	custodian *sheaf.Custodian // nil: nobody asked for places
	batch     []*sheafv1.Node
}

// add takes one node.
func (l *lister) add(ctx context.Context, p string, n vfs.Node) error {
	m, err := nodeOf(ctx, p, n)
	if err != nil {
		return err
	}
	return l.put(ctx, m, n)
}

// put takes a message, with the node that it is of where places are asked for.
func (l *lister) put(ctx context.Context, m *sheafv1.Node, n vfs.Node) error {
	if l.custodian != nil {
		c, err := l.custodian.Node(ctx, n)
		if err != nil {
			return err
		}
		m.Place, m.Pinned = places[c.State()], c.Pinned
	}
	if l.batch = append(l.batch, m); len(l.batch) == listBatch {
		return l.flush()
	}
	return nil
}

func (l *lister) flush() error {
	if len(l.batch) == 0 {
		return nil
	}
	b := l.batch
	l.batch = nil
	return l.send(&sheafv1.ListResponse{Nodes: b})
}

// dir takes what is in a directory. To make a node of each child takes the most, so that is done only where one is needed.
func (l *lister) dir(ctx context.Context, p string, d vfs.Dir) error {
	for e, err := range vfs.ListAttr(ctx, d, "") {
		if err != nil {
			return err
		}
		sub := path.Join(p, e.Name)
		var n vfs.Node
		if l.custodian != nil || l.recursive && e.Attr.Kind == vfs.KindDir {
			if n, err = d.Lookup(ctx, e.Name); errors.Is(err, fs.ErrNotExist) {
				continue // gone meanwhile
			} else if err != nil {
				return err
			}
		}
		if err := l.put(ctx, message(sub, e.Attr, e.Target), n); err != nil {
			return err
		}
		if child, ok := n.(vfs.Dir); ok && l.recursive {
			if err := l.dir(ctx, sub, child); err != nil {
				return err
			}
		}
	}
	return nil
}

// Read sends the bytes of a file, or a range of them.
func (s *Service) Read(ctx context.Context, r *sheafv1.ReadRequest, send func(*sheafv1.ReadResponse) error) error {
	if r.GetOffset() < 0 || r.GetLength() < 0 {
		return errorf(sheafv1.Code_CODE_USAGE, "", "offset and length are not negative")
	}
	ctx, n, p, release, err := s.find(ctx, r.GetPath(), r.GetAt())
	if err != nil {
		return err
	}
	defer release()
	f, ok := n.(vfs.File)
	if !ok {
		if _, isDir := n.(vfs.Dir); isDir {
			return fmt.Errorf("read %q: %w", p, vfs.ErrIsDir)
		}
		return errorf(sheafv1.Code_CODE_WRONG_KIND, "", "read %q: it is no file", p)
	}
	h, err := f.Open(ctx, vfs.OpenRead)
	if err != nil {
		return err
	}
	defer func() { _ = h.Close(context.WithoutCancel(ctx)) }()
	left := r.GetLength()
	if left == 0 {
		left = vfs.MaxSize
	}
	buf := make([]byte, min(readBlock, left))
	for off := r.GetOffset(); left > 0; {
		k, err := h.ReadAt(ctx, buf[:min(int64(len(buf)), left)], off)
		if k > 0 {
			if err := send(&sheafv1.ReadResponse{Data: buf[:k]}); err != nil {
				return err
			}
			off, left = off+int64(k), left-int64(k)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if r.GetAt() == "" {
				err = s.blame(ctx, p, err)
			}
			return fmt.Errorf("read %q: %w", p, err)
		}
	}
	return nil
}

// newDir is a directory that the service makes by path.
func (s *Service) newDir(mode uint32) vfs.New {
	if mode == 0 {
		mode = 0o755
	}
	return vfs.New{Kind: vfs.KindDir, Mode: vfs.Mode(mode) & vfs.ModeMask, UID: s.o.UID, GID: s.o.GID}
}

// Mkdir makes a directory.
func (s *Service) Mkdir(ctx context.Context, r *sheafv1.MkdirRequest) (*sheafv1.Node, error) {
	p, err := clean(r.GetPath())
	if err != nil {
		return nil, err
	}
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	var n vfs.Node
	if r.GetParents() {
		n, err = vfs.MkdirAll(ctx, d.FS(), p, s.newDir(r.GetMode()))
	} else {
		if p == "" {
			return nil, fmt.Errorf("make the root: %w", fs.ErrExist)
		}
		dir, name, err := vfs.WalkParent(ctx, d.FS(), p)
		if err != nil {
			return nil, err
		}
		if n, err = dir.Make(ctx, name, s.newDir(r.GetMode())); err != nil {
			return nil, fmt.Errorf("make directory %q: %w", p, err)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := d.FS().Sync(ctx); err != nil {
		return nil, err
	}
	return nodeOf(ctx, p, n)
}

// Move gives a node another path.
func (s *Service) Move(ctx context.Context, r *sheafv1.MoveRequest) (*sheafv1.MoveResponse, error) {
	from, err := clean(r.GetFrom())
	if err != nil {
		return nil, err
	}
	to, err := clean(r.GetTo())
	if err != nil {
		return nil, err
	}
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if from == "" || to == "" {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "the root cannot be moved or replaced")
	}
	fromDir, name, err := vfs.WalkParent(ctx, d.FS(), from)
	if err != nil {
		return nil, err
	}
	toDir, newName, err := vfs.WalkParent(ctx, d.FS(), to)
	if err != nil {
		return nil, err
	}
	flag := vfs.RenameReplace
	if r.GetNoReplace() {
		flag = vfs.RenameNoReplace
	}
	if err := fromDir.Rename(ctx, name, toDir, newName, flag); err != nil {
		return nil, fmt.Errorf("move %q to %q: %w", from, to, err)
	}
	if err := d.FS().Sync(ctx); err != nil {
		return nil, err
	}
	n, err := toDir.Lookup(ctx, newName)
	if err != nil {
		return nil, err
	}
	m, err := nodeOf(ctx, to, n)
	if err != nil {
		return nil, err
	}
	return &sheafv1.MoveResponse{Node: m}, nil
}

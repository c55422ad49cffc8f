package service

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/vfs"
)

// uploadName is what the name of an upload looks like.
var uploadName = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// uploadLife is how long an upload waits for its next bytes.
const uploadLife = 7 * 24 * time.Hour

// partialOf is the name, beside the file, under which an upload lies until it is whole.
func partialOf(upload string) string { return ".sheaf-partial-u-" + upload }

// Upload says how far an upload came.
func (s *Service) Upload(ctx context.Context, r *sheafv1.UploadRequest) (*sheafv1.UploadResponse, error) {
	p, err := clean(r.GetPath())
	if err != nil {
		return nil, err
	}
	if !uploadName.MatchString(r.GetUpload()) {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "upload %q is no name of an upload", r.GetUpload())
	}
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	dir, _, err := vfs.WalkParent(ctx, d.FS(), p)
	if err != nil {
		return nil, err
	}
	n, err := dir.Lookup(ctx, partialOf(r.GetUpload()))
	if errors.Is(err, fs.ErrNotExist) {
		return &sheafv1.UploadResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	a, err := n.Attr(ctx)
	if err != nil {
		return nil, err
	}
	end := a.MTime.Add(uploadLife)
	if !s.now().Before(end) {
		return &sheafv1.UploadResponse{}, nil // the next upload into this folder takes it away
	}
	return &sheafv1.UploadResponse{Offset: a.Size, Exists: true, Expires: stamp(end)}, nil
}

// sweepUploads takes away what is left in a folder of uploads that nobody went on with.
func (s *Service) sweepUploads(ctx context.Context, path string, dir vfs.Dir) error {
	var old []string
	for e, err := range dir.List(ctx, partialOf("")) { // they stand together, from there on
		if err != nil {
			return err
		}
		if !strings.HasPrefix(e.Name, partialOf("")) {
			break
		}
		n, err := dir.Lookup(ctx, e.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if a, err := n.Attr(ctx); err != nil {
			return err
		} else if !s.now().Before(a.MTime.Add(uploadLife)) {
			old = append(old, e.Name)
		}
	}
	for _, name := range old {
		free, err := s.claimUpload(path, name)
		if err != nil {
			continue // somebody goes on with it after all
		}
		err = dir.Remove(ctx, name, false)
		free()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// An upload is one Write.
type upload struct {
	s     *Service
	path  string
	start *sheafv1.WriteStart
	dir   vfs.Dir
	name  string // the file's
	part  string // the partial file's
	f     vfs.File
	h     vfs.Handle
	off   int64
}

// Write makes or replaces a file. recv returns the messages in order, and io.EOF after the
// last one.
func (s *Service) Write(ctx context.Context, recv func() (*sheafv1.WriteRequest, error)) (*sheafv1.WriteResponse, error) {
	m, err := recv()
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	if m.GetStart() == nil {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "the first message of an upload is not its start")
	}
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	u := &upload{s: s, start: m.GetStart()}
	if err := u.begin(ctx, d.FS()); err != nil {
		return nil, err
	}
	if u.start.GetOffset() == 0 {
		if err := s.sweepUploads(ctx, u.folder(), u.dir); err != nil {
			return nil, err
		}
	}
	free, err := s.claimUpload(u.folder(), u.part)
	if err != nil {
		return nil, err
	}
	defer free()
	if err := u.open(ctx); err != nil {
		return nil, err
	}
	end, err := u.receive(ctx, recv)
	// From here on the caller's leaving changes nothing: what came is kept, or made whole.
	ctx = context.WithoutCancel(ctx)
	if err == nil && end != nil {
		resp, err := u.finish(ctx, d.FS(), end)
		if err != nil && u.start.GetUpload() == "" { // nobody can go on with it
			if e := u.dir.Remove(ctx, u.part, false); e != nil && !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
		return resp, err
	}
	if e := u.h.Close(ctx); err == nil {
		err = e
	}
	if u.start.GetUpload() == "" {
		if e := u.dir.Remove(ctx, u.part, false); err == nil {
			err = e
		}
		if err == nil {
			err = errorf(sheafv1.Code_CODE_TEMPORARY, "send it again", "the upload was cut off")
		}
	} else if e := d.FS().Sync(ctx); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	return &sheafv1.WriteResponse{Offset: u.off}, nil
}

// claimUpload keeps two uploads from one partial file of a folder.
func (s *Service) claimUpload(folder, part string) (func(), error) {
	return s.claims.Take(folder + "/" + part)
}

// folder is the path of the folder that the file is to be in.
func (u *upload) folder() string { return strings.TrimSuffix(u.path, u.name) }

// begin checks the start and finds the folder.
func (u *upload) begin(ctx context.Context, fsys vfs.FS) (err error) {
	if u.path, err = clean(u.start.GetPath()); err != nil {
		return err
	}
	if u.dir, u.name, err = vfs.WalkParent(ctx, fsys, u.path); err != nil {
		return err
	}
	n, err := u.dir.Lookup(ctx, u.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case u.start.GetExclusive():
		return fmt.Errorf("write %q: %w", u.path, fs.ErrExist)
	default:
		if _, ok := n.(vfs.Dir); ok {
			return fmt.Errorf("write %q: %w", u.path, vfs.ErrIsDir)
		}
	}
	id := u.start.GetUpload()
	switch {
	case id == "":
		id = strings.ToLower(rand.Text())
		if u.start.GetOffset() != 0 {
			return errorf(sheafv1.Code_CODE_USAGE, "", "an upload without a name begins at 0")
		}
	case !uploadName.MatchString(id):
		return errorf(sheafv1.Code_CODE_USAGE, "", "upload %q is no name of an upload", id)
	}
	u.part = partialOf(id)
	return nil
}

// open opens the partial file, and cuts off what lies beyond the offset.
func (u *upload) open(ctx context.Context) error {
	what := vfs.New{Kind: vfs.KindFile, Mode: 0o600, UID: u.s.o.UID, GID: u.s.o.GID}
	f, h, err := u.dir.Create(ctx, u.part, what, vfs.OpenWrite)
	if errors.Is(err, fs.ErrExist) {
		var n vfs.Node
		if n, err = u.dir.Lookup(ctx, u.part); err != nil {
			return err
		}
		var ok bool
		if f, ok = n.(vfs.File); !ok {
			return fmt.Errorf("%q: %w", u.part, fs.ErrExist)
		}
		h, err = f.Open(ctx, vfs.OpenWrite)
	}
	if err != nil {
		return err
	}
	a, err := f.Attr(ctx)
	if err == nil && (u.start.GetOffset() < 0 || u.start.GetOffset() > a.Size) {
		err = errorf(sheafv1.Code_CODE_USAGE, "ask for the offset first", "offset %d of an upload of %d bytes", u.start.GetOffset(), a.Size)
	}
	if err == nil && u.start.GetOffset() < a.Size {
		err = h.Truncate(ctx, u.start.GetOffset())
	}
	if err != nil {
		return errors.Join(err, h.Close(ctx))
	}
	u.f, u.h, u.off = f, h, u.start.GetOffset()
	return nil
}

// receive writes what comes, and returns the end, or nil if there was none.
func (u *upload) receive(ctx context.Context, recv func() (*sheafv1.WriteRequest, error)) (*sheafv1.WriteEnd, error) {
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if m.GetEnd() != nil {
			return m.GetEnd(), nil
		}
		data := m.GetData()
		if m.GetStart() != nil {
			return nil, errorf(sheafv1.Code_CODE_USAGE, "", "a second start in an upload")
		}
		n, err := u.h.WriteAt(ctx, data, u.off)
		u.off += int64(n)
		if err != nil {
			return nil, fmt.Errorf("write %q: %w", u.path, err)
		}
	}
}

// finish gives the file its attributes and its name.
func (u *upload) finish(ctx context.Context, fsys vfs.FS, end *sheafv1.WriteEnd) (*sheafv1.WriteResponse, error) {
	if err := u.h.Close(ctx); err != nil {
		return nil, err
	}
	if end.Size != nil && end.GetSize() != u.off {
		return nil, errorf(sheafv1.Code_CODE_USAGE, "", "the upload has %d bytes and should have %d", u.off, end.GetSize())
	}
	if err := u.compare(ctx, end.GetSha256()); err != nil {
		return nil, err
	}
	mode := vfs.Mode(u.start.GetMode()) & vfs.ModeMask
	if mode == 0 {
		mode = 0o644
	}
	c := vfs.AttrChange{Set: vfs.SetMode | vfs.SetMTime, Mode: mode, MTime: time.Now()}
	if end.GetModified() != nil {
		c.MTime = end.GetModified().AsTime()
	}
	if _, err := u.f.SetAttr(ctx, c); err != nil {
		return nil, err
	}
	flag := vfs.RenameReplace
	if u.start.GetExclusive() {
		flag = vfs.RenameNoReplace
	}
	if err := u.dir.Rename(ctx, u.part, u.dir, u.name, flag); err != nil {
		return nil, fmt.Errorf("write %q: %w", u.path, err)
	}
	if err := fsys.Sync(ctx); err != nil {
		return nil, err
	}
	n, err := nodeOf(ctx, u.path, u.f)
	if err != nil {
		return nil, err
	}
	return &sheafv1.WriteResponse{Node: n, Offset: u.off}, nil
}

// compare holds what was written against the SHA-256 that it should have, if that is known. It reads all of it, for parts may have come
// long ago.
func (u *upload) compare(ctx context.Context, want []byte) error {
	if len(want) == 0 {
		return nil
	}
	h, err := u.f.Open(ctx, vfs.OpenRead)
	if err != nil {
		return err
	}
	defer func() { _ = h.Close(ctx) }()
	sum, buf := sha256.New(), make([]byte, readBlock)
	for off := int64(0); off < u.off; {
		n, err := h.ReadAt(ctx, buf, off)
		if n == 0 && err != nil {
			return fmt.Errorf("read %q again: %w", u.path, err)
		}
		_, _ = sum.Write(buf[:n]) // never fails
		off += int64(n)
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return errorf(sheafv1.Code_CODE_INTEGRITY, "send it again from the beginning", "what came does not have the SHA-256 that it should have")
	}
	return nil
}

package vfstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// Verb is what an Op does.
type Verb string

// The verbs, with the fields of Op that each reads. Where only Slot is told, a Slot of 0 means
// Path: the file is opened for it and closed again. Where a node is wanted it is
// that of Slot, or the one at Path.
const (
	DoMake        Verb = "make"     // Path, Kind, Mode, UID, GID; To is the target of a link
	DoCreate      Verb = "create"   // Path, Mode, Flag (an OpenFlag); Slot takes the handle, 0 closes it
	DoOpen        Verb = "open"     // Path, Flag (an OpenFlag); Slot takes the handle, 0 closes it
	DoClose       Verb = "close"    // Slot
	DoRead        Verb = "read"     // Slot, Off, N
	DoWrite       Verb = "write"    // Slot, Off, N; Seed makes the bytes, see Op.Bytes
	DoTruncate    Verb = "truncate" // Slot, N
	DoAllocate    Verb = "allocate" // Slot, Flag (an AllocMode), Off, N
	DoSeek        Verb = "seek"     // Slot, Flag (a Whence), Off
	DoCopy        Verb = "copy"     // Slot, Off, N; to ToSlot or To, ToOff
	DoSync        Verb = "sync"     // Slot
	DoSyncNode    Verb = "syncnode" // node
	DoSyncAll     Verb = "syncall"  // nothing
	DoAttr        Verb = "attr"     // node
	DoSetAttr     Verb = "setattr"  // node, Set, Mode, UID, GID, N (the size), Time (of all times)
	DoTarget      Verb = "target"   // Path
	DoList        Verb = "list"     // Path; To is after which name
	DoXattr       Verb = "xattr"    // node; To is the name
	DoSetXattr    Verb = "setxattr" // node, N, Seed, Flag (an XattrFlag); To is the name
	DoListXattr   Verb = "listxattr"
	DoRemoveXattr Verb = "removexattr" // node; To is the name
	DoLink        Verb = "link"        // node; To is the new path
	DoRemove      Verb = "remove"      // Path
	DoRemoveDir   Verb = "removedir"   // Path
	DoRename      Verb = "rename"      // Path, To, Flag (a RenameFlag)
	DoReopen      Verb = "reopen"      // of ModelConfig.Run only: Slots are closed and the tree is opened anew
)

// An Op is one operation on a tree. It says all by values, so that a list of them can be
// kept, printed, cut down and done again on another tree.
type Op struct {
	Do           Verb
	Path, To     string
	Slot, ToSlot int
	Off, ToOff   int64
	N            int64
	Seed         uint64
	Flag         uint8
	Kind         vfs.Kind
	Mode         vfs.Mode
	UID, GID     uint32
	Set          vfs.AttrSet
	Time         int64 // nanoseconds since 1970
}

// String returns the Op as Go source.
func (o Op) String() string {
	var b strings.Builder
	b.WriteString("{Do: \"" + string(o.Do) + `"`)
	v := reflect.ValueOf(o)
	for i := 1; i < v.NumField(); i++ {
		if !v.Field(i).IsZero() {
			fmt.Fprintf(&b, ", %s: %#v", v.Type().Field(i).Name, v.Field(i).Interface())
		}
	}
	b.WriteString("}")
	return b.String()
}

// Bytes returns the N bytes that the Op writes. A Seed of 0 makes zeros, any other one
// bytes that are not zero.
func (o Op) Bytes() []byte {
	if o.Seed == 0 {
		return make([]byte, o.N)
	}
	return noise(o.Seed, int(o.N))
}

// A Result is what an Op returned, without all that may differ between two trees that
// are both right: numbers, directories' sizes, Bytes, and times that the Op did not set.
type Result struct {
	Err   string // the name of the error that was wrapped; "" for none
	N     int64
	Data  []byte
	Attr  vfs.Attr
	Names []string
}

// A Player does Ops on one tree and keeps what they opened. It is not safe for
// concurrent use.
type Player struct {
	fs    vfs.FS
	slots map[int]slot
}

// slot is an open file. Its node outlives its name.
type slot struct {
	file   vfs.File
	handle vfs.Handle
}

// NewPlayer returns a Player for fsys. Close gives its handles back.
func NewPlayer(fsys vfs.FS) *Player { return &Player{fs: fsys, slots: make(map[int]slot)} }

// Close closes all handles.
func (p *Player) Close(ctx context.Context) error {
	var errs []error
	for _, s := range p.slots {
		errs = append(errs, s.handle.Close(ctx))
	}
	clear(p.slots)
	return errors.Join(errs...)
}

// Apply does one Op that needs no Slot.
func (o Op) Apply(ctx context.Context, fsys vfs.FS) Result {
	p := NewPlayer(fsys)
	r := p.Apply(ctx, o)
	if err := p.Close(ctx); err != nil && r.Err == "" {
		r.Err = ErrName(err)
	}
	return r
}

// Apply does one Op.
func (p *Player) Apply(ctx context.Context, o Op) Result {
	var r Result
	err := p.apply(ctx, o, &r)
	if err != nil {
		n, data := r.N, r.Data
		r = Result{Err: ErrName(err)}
		if o.Do == DoRead { // io.EOF comes with bytes
			r.N, r.Data = n, data
		}
	}
	return r
}

func (p *Player) apply(ctx context.Context, o Op, r *Result) error {
	switch o.Do {
	case DoMake, DoCreate, DoRemove, DoRemoveDir, DoRename:
		return p.applyNames(ctx, o, r)
	case DoOpen:
		n, err := vfs.Walk(ctx, p.fs, o.Path)
		if err != nil {
			return err
		}
		f, ok := n.(vfs.File)
		if !ok {
			return vfs.ErrIsDir
		}
		h, err := f.Open(ctx, vfs.OpenFlag(o.Flag))
		if err != nil {
			return err
		}
		return p.keep(ctx, o.Slot, slot{f, h})
	case DoClose:
		s, ok := p.slots[o.Slot]
		if !ok {
			return errNoSlot
		}
		delete(p.slots, o.Slot)
		return s.handle.Close(ctx)
	case DoSyncAll:
		return p.fs.Sync(ctx)
	case DoRead, DoWrite, DoTruncate, DoAllocate, DoSeek, DoCopy, DoSync:
		h, done, err := p.handle(ctx, o.Slot, o.Path)
		if err != nil {
			return err
		}
		return errors.Join(p.applyHandle(ctx, o, h, r), done())
	}
	return p.applyNode(ctx, o, r)
}

// errNoSlot is the error of an Op whose Slot was never filled.
var errNoSlot = errors.New("slot is empty")

// keep puts s into a slot and closes what was there.
func (p *Player) keep(ctx context.Context, i int, s slot) error {
	if i == 0 {
		return s.handle.Close(ctx)
	}
	old, ok := p.slots[i]
	p.slots[i] = s
	if ok {
		return old.handle.Close(ctx)
	}
	return nil
}

// handle returns the handle of a slot, or opens the file at path until done is called.
func (p *Player) handle(ctx context.Context, i int, path string) (h vfs.Handle, done func() error, err error) {
	if i != 0 {
		s, ok := p.slots[i]
		if !ok {
			return nil, nil, errNoSlot
		}
		return s.handle, func() error { return nil }, nil
	}
	h, err = vfs.OpenPath(ctx, p.fs, path, vfs.OpenRead|vfs.OpenWrite)
	if err != nil {
		return nil, nil, err
	}
	return h, func() error { return h.Close(ctx) }, nil
}

// node returns the node of a slot, or the one at path.
func (p *Player) node(ctx context.Context, i int, path string) (vfs.Node, error) {
	if i == 0 {
		return vfs.Walk(ctx, p.fs, path)
	}
	s, ok := p.slots[i]
	if !ok {
		return nil, errNoSlot
	}
	return s.file, nil
}

func (p *Player) applyNames(ctx context.Context, o Op, r *Result) error {
	d, name, err := vfs.WalkParent(ctx, p.fs, o.Path)
	if err != nil {
		return err
	}
	what := vfs.New{Kind: o.Kind, Mode: o.Mode, UID: o.UID, GID: o.GID, Target: o.To}
	switch o.Do {
	case DoMake:
		n, err := d.Make(ctx, name, what)
		if err != nil {
			return err
		}
		return look(ctx, n, 0, r)
	case DoCreate:
		what.Kind, what.Target = vfs.KindFile, ""
		f, h, err := d.Create(ctx, name, what, vfs.OpenFlag(o.Flag))
		if err != nil {
			return err
		}
		return errors.Join(look(ctx, f, 0, r), p.keep(ctx, o.Slot, slot{f, h}))
	case DoRemove:
		return d.Remove(ctx, name, false)
	case DoRemoveDir:
		return d.Remove(ctx, name, true)
	}
	to, newName, err := vfs.WalkParent(ctx, p.fs, o.To)
	if err != nil {
		return err
	}
	return d.Rename(ctx, name, to, newName, vfs.RenameFlag(o.Flag))
}

func (p *Player) applyHandle(ctx context.Context, o Op, h vfs.Handle, r *Result) error {
	switch o.Do {
	case DoRead:
		buf := make([]byte, o.N)
		n, err := h.ReadAt(ctx, buf, o.Off)
		r.N, r.Data = int64(n), buf[:n]
		if errors.Is(err, io.EOF) && n == len(buf) {
			err = nil // both are right
		}
		return err
	case DoWrite:
		n, err := h.WriteAt(ctx, o.Bytes(), o.Off)
		r.N = int64(n)
		return err
	case DoTruncate:
		return h.Truncate(ctx, o.N)
	case DoAllocate:
		return h.Allocate(ctx, vfs.AllocMode(o.Flag), o.Off, o.N)
	case DoSeek:
		n, err := h.Seek(ctx, o.Off, vfs.Whence(o.Flag))
		r.N = n
		return err
	case DoCopy:
		to, done, err := p.handle(ctx, o.ToSlot, o.To)
		if err != nil {
			return err
		}
		n, err := h.CopyTo(ctx, o.Off, to, o.ToOff, o.N)
		r.N = n
		return errors.Join(err, done())
	}
	return h.Sync(ctx)
}

func (p *Player) applyNode(ctx context.Context, o Op, r *Result) error {
	n, err := p.node(ctx, o.Slot, o.Path)
	if err != nil {
		return err
	}
	switch o.Do {
	case DoSyncNode:
		return n.Sync(ctx)
	case DoAttr:
		return look(ctx, n, 0, r)
	case DoSetAttr:
		at := time.Unix(0, o.Time)
		c := vfs.AttrChange{Set: o.Set, Mode: o.Mode, UID: o.UID, GID: o.GID, Size: o.N, ATime: at, MTime: at, CTime: at}
		if _, err := n.SetAttr(ctx, c); err != nil {
			return err
		}
		return look(ctx, n, o.Set, r)
	case DoTarget:
		l, ok := n.(vfs.Link)
		if !ok {
			return fs.ErrInvalid
		}
		target, err := l.Target(ctx)
		r.Names = []string{target}
		return err
	case DoList:
		d, ok := n.(vfs.Dir)
		if !ok {
			return vfs.ErrNotDir
		}
		for e, err := range d.List(ctx, o.To) {
			if err != nil {
				return err
			}
			r.Names = append(r.Names, fmt.Sprintf("%q %d", e.Name, e.Kind))
		}
		return nil
	case DoXattr:
		r.Data, err = n.Xattr(ctx, o.To)
		r.Data = append([]byte{}, r.Data...)
		return err
	case DoSetXattr:
		return n.SetXattr(ctx, o.To, o.Bytes(), vfs.XattrFlag(o.Flag))
	case DoListXattr:
		names, err := n.ListXattr(ctx)
		r.Names = append(r.Names, names...)
		return err
	case DoRemoveXattr:
		return n.RemoveXattr(ctx, o.To)
	case DoLink:
		d, name, err := vfs.WalkParent(ctx, p.fs, o.To)
		if err != nil {
			return err
		}
		return d.Link(ctx, name, n)
	}
	return fmt.Errorf("verb %q: %w", o.Do, errors.ErrUnsupported)
}

// errBytes is the error of an Attr whose Bytes cannot be.
var errBytes = errors.New("Bytes is less than nothing or more than Size")

// look notes the attributes of n that all trees agree about, and the times in set.
func look(ctx context.Context, n vfs.Node, set vfs.AttrSet, r *Result) error {
	a, err := n.Attr(ctx)
	if err != nil {
		return err
	}
	if a.Kind == vfs.KindFile && (a.Bytes < 0 || a.Bytes > a.Size) {
		return errBytes
	}
	a.Ino, a.Bytes, a.BTime = 0, 0, time.Time{}
	if a.Kind == vfs.KindDir {
		a.Size = 0
	}
	for _, x := range []struct {
		bit vfs.AttrSet
		at  *time.Time
	}{{vfs.SetATime, &a.ATime}, {vfs.SetMTime, &a.MTime}, {vfs.SetCTime, &a.CTime}} {
		if set&x.bit == 0 {
			*x.at = time.Time{}
		} else {
			*x.at = x.at.UTC()
		}
	}
	r.Attr = a
	return nil
}

// ErrName returns the name of the error of the contract that err wraps, or the text of
// err in quotes if it wraps none.
func ErrName(err error) string {
	for _, x := range []struct {
		err  error
		name string
	}{
		{fs.ErrNotExist, "ErrNotExist"},
		{fs.ErrExist, "ErrExist"},
		{fs.ErrPermission, "ErrPermission"},
		{fs.ErrInvalid, "ErrInvalid"},
		{fs.ErrClosed, "ErrClosed"},
		{io.EOF, "EOF"},
		{vfs.ErrReadOnly, "ErrReadOnly"},
		{vfs.ErrNotDir, "ErrNotDir"},
		{vfs.ErrIsDir, "ErrIsDir"},
		{vfs.ErrNotEmpty, "ErrNotEmpty"},
		{vfs.ErrName, "ErrName"},
		{vfs.ErrNameLen, "ErrNameLen"},
		{vfs.ErrTooBig, "ErrTooBig"},
		{vfs.ErrTooMany, "ErrTooMany"},
		{vfs.ErrNoXattr, "ErrNoXattr"},
		{vfs.ErrRange, "ErrRange"},
		{vfs.ErrNoSpace, "ErrNoSpace"},
		{vfs.ErrQuota, "ErrQuota"},
		{vfs.ErrCrossTree, "ErrCrossTree"},
		{vfs.ErrNoData, "ErrNoData"},
		{vfs.ErrCorrupt, "ErrCorrupt"},
		{errNoSlot, "no slot"},
		{context.Canceled, "canceled"},
	} {
		if errors.Is(err, x.err) {
			return x.name
		}
	}
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%q", err)
}

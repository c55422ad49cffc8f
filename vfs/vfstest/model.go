package vfstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// Seed returns the number that a random test starts from: that of the environment
// variable SHEAF_SEED, or else one by chance. It logs it.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("SHEAF_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 0, 64); err != nil {
			t.Fatalf("read SHEAF_SEED: %v", err)
		}
	}
	t.Logf("SHEAF_SEED=%d", seed)
	return seed
}

// ModelConfig is a run of random Ops on a tree and on the oracle, vfs/memfs, side by side.
type ModelConfig struct {
	// Make makes an empty tree. It is called again to find fewer Ops that fail.
	Make func(t *testing.T) vfs.FS
	Seed uint64
	Ops  int
	// Every is how many Ops lie between two comparisons of the whole trees; 0 means a
	// tenth of Ops, but 50 at least.
	Every int
	// Reopen, if it is not nil, is called now and then when no handle is open. It
	// returns the tree as it is after the one that it gets was closed and opened again.
	Reopen func(ctx context.Context, fsys vfs.FS) (vfs.FS, error)
}

// Model does n random Ops on fsys, which must be empty, and on the oracle side by side,
// and compares all results and, in between, the whole trees.
func Model(t *testing.T, fsys vfs.FS, seed uint64, n int) {
	t.Helper()
	c := ModelConfig{Seed: seed, Ops: n}
	if ops, err := c.play(t.Context(), fsys, nil); err != nil {
		t.Fatalf("SHEAF_SEED=%d: %v\nafter these Ops:\n%s", seed, err, opsText(ops))
	}
}

// Run is Model with all that can be told. If it fails it looks for few Ops that fail too.
func (c ModelConfig) Run(t *testing.T) {
	t.Helper()
	ops, err := c.play(t.Context(), c.Make(t), nil)
	if err == nil {
		return
	}
	all := len(ops)
	ops = shrink(ops, func(ops []Op) bool {
		_, err := c.play(t.Context(), c.Make(t), ops)
		return err != nil
	})
	_, again := c.play(t.Context(), c.Make(t), ops)
	t.Fatalf("SHEAF_SEED=%d: %v after %d Ops\n%d of them are enough for: %v\n%s",
		c.Seed, err, all, len(ops), again, opsText(ops))
}

// Replay does the Ops on fsys and on the oracle, and returns how they differ.
func Replay(ctx context.Context, fsys vfs.FS, ops []Op) error {
	_, err := ModelConfig{Ops: len(ops)}.play(ctx, fsys, ops)
	return err
}

// shrink returns few of ops that still fail, by leaving out ever smaller parts.
func shrink(ops []Op, fails func([]Op) bool) []Op {
	tries := 500
	for part := (len(ops) + 1) / 2; part > 0; part /= 2 {
		for i := 0; i < len(ops) && tries > 0; tries-- {
			less := slices.Concat(ops[:i], ops[min(i+part, len(ops)):])
			if fails(less) {
				ops = less
			} else {
				i += part
			}
		}
	}
	return ops
}

// play does the Ops given, or c.Ops that it makes up, and returns those that it did.
func (c ModelConfig) play(ctx context.Context, fsys vfs.FS, given []Op) (done []Op, err error) {
	want, got := NewPlayer(memfs.New(memfs.Options{})), NewPlayer(fsys)
	defer func() {
		if cerr := got.Close(ctx); cerr != nil && err == nil {
			err = fmt.Errorf("close what is open at the end: %w", cerr)
		}
	}()
	if err := sameRoot(ctx, want.fs, fsys); err != nil {
		return nil, err
	}
	g := newGenerator(c.Seed, c.Reopen != nil)
	every := c.Every
	if every == 0 {
		every = max(50, c.Ops/10)
	}
	n := c.Ops
	if given != nil {
		n = len(given)
	}
	for i := range n {
		var o Op
		if given != nil {
			o = given[i]
		} else {
			if err := g.look(ctx, want.fs); err != nil {
				return done, err
			}
			o = g.next()
		}
		done = append(done, o)
		if err := c.step(ctx, want, got, o); err != nil {
			return done, fmt.Errorf("Op %d, %v: %w", i, o, err)
		}
		if (i+1)%every == 0 || i == n-1 {
			if err := SameTree(ctx, want.fs, got.fs); err != nil {
				return done, fmt.Errorf("trees after Op %d, %v: %w", i, o, err)
			}
		}
	}
	return done, nil
}

// sameRoot gives the root of the oracle the mode and owner that the root of fsys has,
// for every tree chooses its own.
func sameRoot(ctx context.Context, oracle, fsys vfs.FS) error {
	got, err := fsys.Root(ctx)
	if err != nil {
		return err
	}
	a, err := got.Attr(ctx)
	if err != nil {
		return err
	}
	want, err := oracle.Root(ctx)
	if err != nil {
		return err
	}
	c := vfs.AttrChange{Set: vfs.SetMode | vfs.SetUID | vfs.SetGID, Mode: a.Mode, UID: a.UID, GID: a.GID}
	_, err = want.SetAttr(ctx, c)
	return err
}

// step does one Op on both trees and returns how the results differ.
func (c ModelConfig) step(ctx context.Context, want, got *Player, o Op) error {
	if o.Do == DoReopen {
		if c.Reopen == nil {
			return nil
		}
		if err := errors.Join(want.Close(ctx), got.Close(ctx)); err != nil {
			return err
		}
		fsys, err := c.Reopen(ctx, got.fs)
		if err != nil {
			return err
		}
		got.fs = fsys
		return SameTree(ctx, want.fs, got.fs)
	}
	var others []string
	if o.Do == DoRename || o.Do == DoLink {
		others = applicable(ctx, want, o)
	}
	w, g := want.Apply(ctx, o), got.Apply(ctx, o)
	switch o.Do {
	case DoSeek:
		return checkSeek(ctx, want, o, w, g)
	case DoList:
		if err := checkListAttr(ctx, got, o); err != nil {
			return err
		}
	}
	if w.Err != "" && w.Err != g.Err && slices.Contains(others, g.Err) {
		g.Err = w.Err
	}
	if err := sameData(g.Data, w.Data); err != nil {
		return err
	}
	w.Data, g.Data = nil, nil
	if d := cmp.Diff(w, g); d != "" {
		return fmt.Errorf("result (-want +got):\n%s", d)
	}
	return nil
}

// applicable returns all errors that apply to a rename or a link, for any of them is right.
func applicable(ctx context.Context, p *Player, o Op) (errs []string) {
	src, err := p.node(ctx, o.Slot, o.Path)
	if err != nil {
		return nil
	}
	dst, err := vfs.Walk(ctx, p.fs, o.To)
	if err != nil {
		dst = nil
	}
	add := func(is bool, err string) {
		if is {
			errs = append(errs, err)
		}
	}
	_, srcIsDir := src.(vfs.Dir)
	dstDir, dstIsDir := dst.(vfs.Dir)
	if o.Do == DoLink {
		add(dst != nil, "ErrExist")
		add(srcIsDir, "ErrPermission")
		if a, err := src.Attr(ctx); err == nil {
			add(a.Nlink == 0, "ErrNotExist")
		}
		return errs
	}
	below := func(path, top string) bool {
		names, _ := vfs.SplitPath(path)
		tops, _ := vfs.SplitPath(top)
		return len(names) > len(tops) && slices.Equal(names[:len(tops)], tops)
	}
	exchange, free := o.Flag == uint8(vfs.RenameExchange), o.Flag == uint8(vfs.RenameNoReplace)
	add(free && dst != nil, "ErrExist")
	add(exchange && dst == nil, "ErrNotExist")
	add(srcIsDir && below(o.To, o.Path), "ErrInvalid")
	add(exchange && dstIsDir && below(o.Path, o.To), "ErrInvalid")
	add(!exchange && dstIsDir && !srcIsDir, "ErrIsDir")
	add(!exchange && dst != nil && !dstIsDir && srcIsDir, "ErrNotDir")
	if dstIsDir && !exchange {
		for _, err := range dstDir.List(ctx, "") {
			add(err == nil, "ErrNotEmpty")
			break
		}
	}
	return errs
}

// checkListAttr looks whether a listing with attributes says what each child says itself. It comes first, so that it is seen what it says of those
// that nobody has looked up yet.
func checkListAttr(ctx context.Context, p *Player, o Op) error {
	n, err := p.node(ctx, o.Slot, o.Path)
	d, ok := n.(vfs.Dir)
	if err != nil || !ok {
		return nil // the Op has told so
	}
	all, err := listAttr(ctx, d, o.To)
	if err != nil {
		return err
	}
	for e, err := range d.List(ctx, o.To) {
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return fmt.Errorf("a listing with attributes lacks %q", e.Name)
		}
		n, err := d.Lookup(ctx, e.Name)
		if err != nil {
			return err
		}
		want := vfs.EntryAttr{Name: e.Name}
		if want.Attr, err = n.Attr(ctx); err != nil {
			return err
		}
		if l, ok := n.(vfs.Link); ok {
			if want.Target, err = l.Target(ctx); err != nil {
				return err
			}
		}
		if all[0].Attr.Bytes != want.Attr.Bytes {
			// A commit that came between the two may have stored a hole, once after each write. The listing that comes after it knows.
			if all, err = listAttr(ctx, d, o.To); err != nil {
				return err
			}
			all = slices.DeleteFunc(all, func(a vfs.EntryAttr) bool { return a.Name < e.Name })
			if len(all) == 0 {
				return fmt.Errorf("a listing with attributes that is made again lacks %q", e.Name)
			}
		}
		if d := cmp.Diff(want, all[0]); d != "" {
			return fmt.Errorf("of %q (-itself +listed):\n%s", e.Name, d)
		}
		all = all[1:]
	}
	if len(all) > 0 {
		return fmt.Errorf("a listing with attributes has %q, too", all[0].Name)
	}
	return nil
}

func listAttr(ctx context.Context, d vfs.Dir, after string) ([]vfs.EntryAttr, error) {
	var all []vfs.EntryAttr
	for e, err := range vfs.ListAttr(ctx, d, after) {
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// checkSeek looks at the content, which the oracle knows, for two trees may have
// different holes and be both right.
func checkSeek(ctx context.Context, want *Player, o Op, w, g Result) error {
	n, err := want.node(ctx, o.Slot, o.Path)
	if err != nil {
		if g.Err != w.Err {
			return fmt.Errorf("got error %s, want %s", g.Err, w.Err)
		}
		return nil
	}
	f, ok := n.(vfs.File)
	if !ok {
		return nil
	}
	data, err := content(ctx, f)
	if err != nil {
		return err
	}
	size := int64(len(data))
	if o.Off >= size || g.Err != "" {
		rest := data[min(o.Off, size):]
		if g.Err != "ErrNoData" || vfs.Whence(o.Flag) == vfs.SeekHole && len(rest) > 0 || !zero(rest) {
			return fmt.Errorf("got error %q; size is %d, and all zeros from %d on is %t", g.Err, size, o.Off, zero(rest))
		}
		return nil
	}
	switch vfs.Whence(o.Flag) {
	case vfs.SeekData:
		if g.N < o.Off || g.N >= size || !zero(data[o.Off:g.N]) {
			return fmt.Errorf("got data at %d, of %d; it would pass over data", g.N, size)
		}
	default:
		if g.N < o.Off || g.N > size || g.N < size && data[g.N] != 0 {
			return fmt.Errorf("got a hole at %d, of %d; that is data", g.N, size)
		}
	}
	return nil
}

// zero reports whether all of p is zero.
func zero(p []byte) bool { return len(bytes.TrimLeft(p, "\x00")) == 0 }

// content returns all bytes of a file of moderate size.
func content(ctx context.Context, f vfs.File) (data []byte, err error) {
	h, err := f.Open(ctx, vfs.OpenRead)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close(ctx)) }()
	a, err := f.Attr(ctx)
	if err != nil {
		return nil, err
	}
	data = make([]byte, a.Size+1)
	n, err := h.ReadAt(ctx, data, 0)
	if !errors.Is(err, io.EOF) || int64(n) != a.Size {
		return nil, fmt.Errorf("read %d of %d bytes: %w", n, a.Size, err)
	}
	return data[:n], nil
}

// SameTree returns how two trees differ: in paths, kinds, attributes (without times and
// numbers), targets, extended attributes, bytes, or in which names are one file. It
// reads all files whole.
func SameTree(ctx context.Context, want, got vfs.FS) error {
	next, stop := iter.Pull2(tree(ctx, got))
	defer stop()
	firstWant, firstGot := make(map[vfs.Node]string), make(map[vfs.Node]string)
	for w, err := range tree(ctx, want) {
		if err != nil {
			return err
		}
		g, err, ok := next()
		if err != nil {
			return err
		}
		if !ok || g.Path != w.Path {
			return fmt.Errorf("at %q: got path %q", w.Path, g.Path)
		}
		if firstWant[w.Node] == "" {
			firstWant[w.Node] = w.Path
		}
		if firstGot[g.Node] == "" {
			firstGot[g.Node] = g.Path
		}
		if a, b := firstWant[w.Node], firstGot[g.Node]; a != b {
			return fmt.Errorf("at %q: is one node with %q, want with %q", w.Path, b, a)
		}
		if err := sameNode(ctx, w.Node, g.Node); err != nil {
			return fmt.Errorf("at %q: %w", w.Path, err)
		}
	}
	if g, _, ok := next(); ok {
		return fmt.Errorf("got %q, which should not be there", g.Path)
	}
	return nil
}

// tree is vfs.Tree from the root, and the root itself.
func tree(ctx context.Context, fsys vfs.FS) iter.Seq2[vfs.TreeEntry, error] {
	return func(yield func(vfs.TreeEntry, error) bool) {
		root, err := fsys.Root(ctx)
		if !yield(vfs.TreeEntry{Path: "/", Node: root}, err) || err != nil {
			return
		}
		for e, err := range vfs.Tree(ctx, root) {
			if !yield(e, err) {
				return
			}
		}
	}
}

// sameNode compares two nodes, but for what is below them.
func sameNode(ctx context.Context, want, got vfs.Node) error {
	look := func(n vfs.Node) (r Result, data []byte, err error) {
		var sum []string
		if err := look(ctx, n, 0, &r); err != nil {
			return r, nil, fmt.Errorf("look at attributes: %w", err)
		}
		names, err := n.ListXattr(ctx)
		if err != nil {
			return r, nil, fmt.Errorf("list extended attributes: %w", err)
		}
		for _, name := range names {
			v, err := n.Xattr(ctx, name)
			if err != nil {
				return r, nil, fmt.Errorf("read extended attribute: %w", err)
			}
			sum = append(sum, fmt.Sprintf("%q=%x", name, v))
		}
		switch n := n.(type) {
		case vfs.Link:
			target, err := n.Target(ctx)
			if err != nil {
				return r, nil, fmt.Errorf("read target: %w", err)
			}
			sum = append(sum, "-> "+strconv.Quote(target))
		case vfs.File:
			if data, err = content(ctx, n); err != nil {
				return r, nil, err
			}
		}
		r.Names = sum
		return r, data, nil
	}
	w, wData, err := look(want)
	if err != nil {
		return fmt.Errorf("oracle: %w", err)
	}
	g, gData, err := look(got)
	if err != nil {
		return err
	}
	if d := cmp.Diff(w, g); d != "" {
		return fmt.Errorf("attributes (-want +got):\n%s", strings.TrimSpace(d))
	}
	return sameData(gData, wData)
}

// sameData says where two slices differ, not how they look.
func sameData(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	return fmt.Errorf("got %d bytes, want %d; they differ from byte %d on: got %.16x, want %.16x",
		len(got), len(want), i, got[i:], want[i:])
}

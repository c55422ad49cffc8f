package vfstest_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
	"github.com/sheaf-drive/sheaf/vfs/vfstest"
)

func TestModel_TheOracleAgreesWithItself(t *testing.T) {
	r := rand.New(rand.NewPCG(vfstest.Seed(t), 0))
	for range 5 {
		vfstest.ModelConfig{
			Make: func(*testing.T) vfs.FS { return memfs.New(memfs.Options{}) }, Seed: r.Uint64(), Ops: 1000,
			Reopen: func(_ context.Context, fsys vfs.FS) (vfs.FS, error) { return fsys, nil },
		}.Run(t)
	}
}

func TestModel_DoesWhatItIsFor(t *testing.T) {
	// A model whose Ops all fail, or are all of one kind, would agree with anything. Done on
	// the oracle alone, the Ops of some seeds must reach all that is here.
	reached := make(map[string]int)
	for seed := range uint64(20) {
		for _, x := range vfstest.Played(t, seed, 1000) {
			reached[string(x.Op.Do)+" "+x.Result.Err]++
			if x.Op.Do == vfstest.DoRead && x.Result.N > 4<<20 && len(bytes.Trim(x.Result.Data, "\x00")) > 0 {
				reached["read of more than 4 MiB"]++
			}
		}
	}
	for _, want := range []string{
		"make ", "make ErrExist", "create ", "open ", "close ", "read ", "read EOF", "read ErrPermission",
		"write ", "write ErrTooBig", "truncate ", "allocate ", "allocate ErrInvalid", "seek ", "seek ErrNoData",
		"copy ", "copy ErrInvalid", "sync ", "syncnode ", "syncall ", "attr ", "setattr ", "setattr ErrInvalid",
		"setattr ErrIsDir", "target ", "list ", "xattr ", "xattr ErrNoXattr", "setxattr ", "setxattr ErrExist",
		"listxattr ", "removexattr ", "link ", "link ErrExist", "link ErrPermission", "link ErrNotExist", "remove ",
		"remove ErrIsDir", "removedir ", "removedir ErrNotEmpty", "removedir ErrNotDir", "rename ", "rename ErrExist",
		"rename ErrNotExist", "rename ErrInvalid", "rename ErrNotEmpty", "rename ErrIsDir", "rename ErrNotDir",
		"read of more than 4 MiB",
	} {
		if reached[want] == 0 {
			t.Errorf("%q was never reached", want)
		}
	}
}

// lossy is a tree with one fault: after so many writes it forgets one.
type lossy struct {
	vfs.FS
	writes int
}

type lossyDir struct {
	vfs.Dir
	fs *lossy
}

type lossyHandle struct {
	vfs.Handle
	fs *lossy
}

func (l *lossy) Root(ctx context.Context) (vfs.Dir, error) {
	d, err := l.FS.Root(ctx)
	return lossyDir{d, l}, err
}

func (d lossyDir) Create(ctx context.Context, name string, what vfs.New, flag vfs.OpenFlag) (vfs.File, vfs.Handle, error) {
	f, h, err := d.Dir.Create(ctx, name, what, flag)
	return f, lossyHandle{h, d.fs}, err
}

func (h lossyHandle) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if h.fs.writes--; h.fs.writes == 0 && len(p) > 0 {
		return len(p), nil
	}
	return h.Handle.WriteAt(ctx, p, off)
}

func TestReplay_FindsALostWrite(t *testing.T) {
	ops := []vfstest.Op{
		{Do: vfstest.DoCreate, Path: "a", Slot: 1, Flag: 3},
		{Do: vfstest.DoWrite, Slot: 1, N: 10, Seed: 1},
		{Do: vfstest.DoWrite, Slot: 1, Off: 20, N: 10, Seed: 2},
		{Do: vfstest.DoClose, Slot: 1},
	}
	if err := vfstest.Replay(t.Context(), memfs.New(memfs.Options{}), ops); err != nil {
		t.Errorf("on a right tree: %v", err)
	}
	for writes := 1; writes <= 2; writes++ {
		err := vfstest.Replay(t.Context(), &lossy{memfs.New(memfs.Options{}), writes}, ops)
		if err == nil || !strings.Contains(err.Error(), `at "a"`) {
			t.Errorf("with write %d lost: got %v", writes, err)
		}
	}
}

func TestOp_ApplyNeedsNoSlot(t *testing.T) {
	ctx, fsys := t.Context(), memfs.New(memfs.Options{})
	for _, x := range []struct {
		op   vfstest.Op
		want vfstest.Result
	}{
		{vfstest.Op{Do: vfstest.DoCreate, Path: "a", Mode: 0o600, Flag: 3}, vfstest.Result{}},
		{vfstest.Op{Do: vfstest.DoWrite, Path: "a", N: 3}, vfstest.Result{N: 3}},
		{vfstest.Op{Do: vfstest.DoRead, Path: "a", N: 9}, vfstest.Result{N: 3, Data: make([]byte, 3), Err: "EOF"}},
		{vfstest.Op{Do: vfstest.DoRead, Slot: 1, N: 9}, vfstest.Result{Err: "no slot"}},
		{vfstest.Op{Do: vfstest.DoRemove, Path: "b"}, vfstest.Result{Err: "ErrNotExist"}},
		{vfstest.Op{Do: vfstest.DoList}, vfstest.Result{Names: []string{`"a" 1`}}},
	} {
		got := x.op.Apply(ctx, fsys)
		if got.Err != x.want.Err || got.N != x.want.N || !bytes.Equal(got.Data, x.want.Data) ||
			strings.Join(got.Names, " ") != strings.Join(x.want.Names, " ") {
			t.Errorf("%v: got %+v, want %+v", x.op, got, x.want)
		}
	}
}

func TestErrName_NamesWhatIsWrapped(t *testing.T) {
	if got := vfstest.ErrName(errors.Join(nil, vfs.ErrNotEmpty)); got != "ErrNotEmpty" {
		t.Errorf("got %s", got)
	}
	if got := vfstest.ErrName(errors.New("odd")); got != `"odd"` {
		t.Errorf("got %s", got)
	}
}

func TestShrink_FindsTheFewThatFail(t *testing.T) {
	var ops []vfstest.Op
	for i := range 1000 {
		ops = append(ops, vfstest.Op{Off: int64(i)})
	}
	got := vfstest.Shrink(ops, func(ops []vfstest.Op) bool {
		var a, b bool
		for _, o := range ops {
			a, b = a || o.Off == 17, b || o.Off == 801 && a
		}
		return b
	})
	if len(got) != 2 || got[0].Off != 17 || got[1].Off != 801 {
		t.Errorf("got %v", got)
	}
}

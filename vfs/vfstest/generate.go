package vfstest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/sheaf-drive/sheaf/vfs"
)

// generator makes up Ops. It looks at the tree of the oracle, so that most of them
// mean something.
type generator struct {
	*rand.Rand
	scale  int64 // files are mostly less than so many bytes long
	reopen bool  // DoReopen is wanted
	paths  []string
	dirs   []string
	age    int // Ops since paths and dirs were looked up
}

const slots = 6 // that a run uses

// modelNames are few, so that names meet; some are odd.
var modelNames = []string{"a", "b", "c", "d", "e", "f", "\xff\x01", "Ä", strings.Repeat("n", vfs.MaxName)}

var modelXattrs = []string{"user.a", "user.b", "security.c", "trusted.\xff"}

func newGenerator(seed uint64, reopen bool) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0x0b5)), reopen: reopen}
	g.scale = []int64{20 << 10, 300 << 10, 3 << 20, 9 << 20}[g.IntN(4)]
	return g
}

// look reads the names of the tree again, now and then.
func (g *generator) look(ctx context.Context, fsys vfs.FS) error {
	if g.age++; g.age < 8 && g.dirs != nil {
		return nil
	}
	root, err := fsys.Root(ctx)
	if err != nil {
		return err
	}
	g.paths, g.dirs, g.age = g.paths[:0], append(g.dirs[:0], ""), 0
	for e, err := range vfs.Tree(ctx, root) {
		if err != nil {
			return err
		}
		g.paths = append(g.paths, e.Path)
		if e.Attr.Kind == vfs.KindDir {
			g.dirs = append(g.dirs, e.Path)
		}
	}
	return nil
}

// pick returns one of list.
func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

// free returns a path that is often not taken.
func (g *generator) free() string {
	d := pick(g, g.dirs...)
	if strings.Count(d, "/") > 6 {
		d = ""
	}
	return d + "/" + pick(g, modelNames...)
}

// taken returns a path that is mostly taken.
func (g *generator) taken() string {
	if len(g.paths) == 0 || g.IntN(8) == 0 {
		return g.free()
	}
	return pick(g, g.paths...)
}

// node fills in a node: of a slot or a path.
func (g *generator) node(o Op) Op {
	if g.IntN(4) == 0 {
		o.Slot = 1 + g.IntN(slots)
	} else {
		o.Path = g.taken()
	}
	return o
}

// off returns an offset or a size, often near where stores cut files.
func (g *generator) off() int64 {
	if g.IntN(3) == 0 {
		return g.Int64N(g.scale)
	}
	unit := pick(g, 1, 4<<10, 64<<10, 128<<10, 1<<20, 4<<20)
	off := min(int64(unit)*int64(g.IntN(4)), g.scale)
	return max(off+int64(g.IntN(7))-3, 0)
}

// count returns how many bytes to work on.
func (g *generator) count() int64 {
	switch g.IntN(10) {
	case 0:
		return g.off()
	case 1, 2, 3:
		return 1 + g.Int64N(200)
	default:
		return g.Int64N(1 + g.scale/8)
	}
}

// next makes up one Op.
func (g *generator) next() Op {
	slot := func() int { return 1 + g.IntN(slots) }
	if g.reopen && g.IntN(100) == 0 {
		return Op{Do: DoReopen}
	}
	switch n := g.IntN(100); {
	case n < 10:
		o := Op{Do: DoMake, Path: g.free(), Mode: vfs.Mode(g.IntN(0o10000)), UID: uint32(g.IntN(3)), GID: uint32(g.IntN(3))}
		o.Kind = pick(g, vfs.KindDir, vfs.KindDir, vfs.KindDir, vfs.KindFile, vfs.KindLink, vfs.KindFIFO)
		if o.Kind == vfs.KindLink {
			o.To = pick(g, modelNames...) + "/../x"
		}
		return o
	case n < 18:
		return Op{Do: DoCreate, Path: g.free(), Mode: 0o644, Flag: pick[uint8](g, 1, 2, 3, 3, 3), Slot: g.IntN(slots + 1)}
	case n < 24:
		return Op{Do: DoOpen, Path: g.taken(), Flag: pick[uint8](g, 1, 2, 3, 3, 3, 3, 3, 6, 7), Slot: g.IntN(slots + 1)}
	case n < 27:
		return Op{Do: DoClose, Slot: slot()}
	case n < 60:
		return g.nextRange()
	case n < 63:
		return pick(g, Op{Do: DoSyncAll}, Op{Do: DoSync, Slot: slot()}, g.node(Op{Do: DoSyncNode}))
	case n < 75:
		return g.nextAttr()
	case n < 79:
		return Op{Do: DoList, Path: pick(g, g.dirs...), To: pick(g, "", "b", "c\x00")}
	case n < 80:
		return Op{Do: DoTarget, Path: g.taken()}
	case n < 83:
		return g.node(Op{Do: DoLink, To: g.free()})
	case n < 87:
		return Op{Do: DoRemove, Path: g.taken()}
	case n < 89:
		return Op{Do: DoRemoveDir, Path: pick(g, g.taken(), pick(g, g.dirs...))}
	default:
		to := g.free()
		if g.IntN(2) == 0 {
			to = g.taken()
		}
		return Op{Do: DoRename, Path: g.taken(), To: to, Flag: pick[uint8](g, 0, 0, 0, 1, 2)}
	}
}

// nextRange makes up an Op on the bytes of a file.
func (g *generator) nextRange() Op {
	o := Op{Slot: 1 + g.IntN(slots), Off: g.off(), N: g.count()}
	if g.IntN(5) == 0 {
		o.Slot, o.Path = 0, g.taken()
	}
	switch n := g.IntN(33); {
	case n < 10:
		o.Do = DoRead
	case n < 20:
		// Few seeds: the same bytes come again, also at other offsets.
		o.Do, o.Seed = DoWrite, g.Uint64N(6)
		if g.IntN(100) == 0 {
			o.Off, o.N = vfs.MaxSize-10, 11
		}
	case n < 23:
		o.Do, o.N, o.Off = DoTruncate, o.Off, 0
	case n < 27:
		o.Do, o.Flag = DoAllocate, uint8(g.IntN(5))
	case n < 29:
		o.Do, o.N, o.Flag = DoSeek, 0, uint8(g.IntN(2))
	default:
		o.Do, o.ToOff, o.ToSlot = DoCopy, g.off(), 1+g.IntN(slots)
		if g.IntN(3) == 0 {
			o.ToSlot, o.To = 0, g.taken()
		}
	}
	return o
}

// nextAttr makes up an Op on attributes.
func (g *generator) nextAttr() Op {
	o := g.node(Op{})
	switch g.IntN(9) {
	case 0, 1:
		o.Do = DoAttr
	case 2, 3, 4:
		o.Do, o.Set = DoSetAttr, vfs.AttrSet(g.IntN(1<<7))
		o.Mode, o.UID, o.GID = vfs.Mode(g.IntN(0o10000)), g.Uint32(), g.Uint32N(3)
		o.Time, o.N = g.Int64N(1<<61), g.off()
		if g.IntN(2) == 0 {
			o.Set &^= vfs.SetSize // it fails for most kinds
		}
	case 5, 6:
		o.Do, o.To, o.Flag = DoSetXattr, pick(g, modelXattrs...), pick[uint8](g, 0, 0, 1, 2)
		o.N, o.Seed = int64(g.IntN(300)), g.Uint64N(3)
	case 7:
		o.Do, o.To = pick(g, DoXattr, DoRemoveXattr), pick(g, modelXattrs...)
	case 8:
		o.Do = DoListXattr
	}
	return o
}

// opsText prints Ops as Go source, one a line.
func opsText(ops []Op) string {
	var b strings.Builder
	for _, o := range ops {
		fmt.Fprintf(&b, "\t%v,\n", o)
	}
	return b.String()
}

package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

// A writerBug breaks the model of a writer, so that the invariants are seen to matter.
type writerBug uint8

const (
	writerRight        writerBug = iota
	writerKillsAll               // an edit removes all siblings of a conflict
	writerNoAncestors            // directories above a change are not rewritten
	writerShownPlace             // a rewrite copies the place shown
	writerReusesStamps           // moves of one device may have one stamp
	writerNoSettle               // a move below an exile leaves that as it is
	writerForgetsPast            // an edit does not say what it replaced
	writerReusesDots
)

// A tree is what a device has loaded of its state: everything.
type tree struct {
	e     Entry
	kids  map[string]*tree
	up    *tree
	dirty bool // gets a new Dot at the next commit
}

// A kill is an act that replaced or deleted a value that its device saw.
type kill struct{ seen causal.Context }

// A world is the devices of one schedule and the oracle, which sees all.
type world struct {
	r       *rand.Rand
	st      *memStore
	devices []*device
	bug     writerBug
	nextID  uint64
	nextDat uint64
	written map[causal.Dot]chunk.Ref  // by Edit
	before  map[causal.Dot]causal.Dot // the Edit that an Edit replaced
	kills   map[causal.Dot][]kill     // by Edit
	orphans int
	cut     int
	clashes int
	joins   int
}

type device struct {
	w       *world
	id      causal.Device
	s       Snapshot
	counter uint64
	lamport uint64
	root    *tree   // nil: not loaded
	moved   []*tree // directories, since the last commit
}

func newWorld(r *rand.Rand, devices int, bug writerBug) *world {
	w := &world{r: r, st: newMemStore(), bug: bug, written: map[causal.Dot]chunk.Ref{}, before: map[causal.Dot]causal.Dot{}, kills: map[causal.Dot][]kill{}}
	for i := range devices {
		w.devices = append(w.devices, &device{w: w, id: causal.Device(0x1000000000000000 * uint64(i+1))})
	}
	return w
}

func (d *device) load() error {
	if d.root != nil {
		return nil
	}
	d.root = &tree{e: Entry{ID: RootID, Kind: vfs.KindDir, Node: d.s.Root, Below: d.s.Below}}
	return d.loadDir(d.root)
}

func (d *device) loadDir(t *tree) error {
	t.kids = map[string]*tree{}
	for e, err := range Entries(context.Background(), d.w.st, t.e.Node, "") {
		if err != nil {
			return err
		}
		k := &tree{e: e, up: t}
		t.kids[e.Name] = k
		if e.Kind == vfs.KindDir {
			if err := d.loadDir(k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *device) all() (files, dirs []*tree) {
	var visit func(t *tree)
	visit = func(t *tree) {
		for _, name := range slices.Sorted(maps.Keys(t.kids)) {
			k := t.kids[name]
			if k.e.Kind == vfs.KindDir {
				dirs = append(dirs, k)
				visit(k)
			} else {
				files = append(files, k)
			}
		}
	}
	visit(d.root)
	return files, dirs
}

func pick[T any](r *rand.Rand, s []T) T { return s[r.IntN(len(s))] }

func (d *device) dot() causal.Dot {
	if d.w.bug == writerReusesDots && d.counter > 0 && d.w.r.IntN(8) == 0 {
		return causal.Dot{Device: d.id, Counter: d.counter}
	}
	d.counter++
	return causal.Dot{Device: d.id, Counter: d.counter}
}

func (d *device) stamp() causal.Stamp {
	if d.w.bug != writerReusesStamps || d.w.r.IntN(3) > 0 {
		d.lamport = max(d.lamport, d.s.Lamport) + 1
	}
	d.lamport = max(1, d.lamport)
	return causal.Stamp{Lamport: d.lamport, Device: d.id}
}

// change marks an entry and the directories above it.
func (d *device) change(t *tree) {
	for t.dirty = true; t.up != nil; t = t.up {
		if d.w.bug == writerNoAncestors {
			break
		}
		t.up.dirty = true
	}
}

// killed tells the oracle that the value that e shows is replaced or deleted.
func (d *device) killed(e *Entry) {
	if e.Kind == vfs.KindFile {
		d.w.kills[e.Edit] = append(d.w.kills[e.Edit], kill{d.s.Context})
	}
}

func (d *device) newValue(e *Entry) {
	d.w.nextDat++
	e.Node, e.Size, e.Bytes = dataRef(d.w.nextDat, 100), 100, 100
	e.Edit, e.Past = d.dot(), nil
	e.Dot = e.Edit
	d.w.written[e.Edit] = e.Node
}

func (d *device) create(parent *tree, name string, kind vfs.Kind) *tree {
	d.w.nextID++
	t := &tree{up: parent, e: Entry{Name: name, ID: nodeID(d.w.nextID), Kind: kind, Mode: 0o600, MTime: time.Unix(5, 0).UTC()}}
	if kind == vfs.KindFile {
		d.newValue(&t.e)
	} else {
		t.kids = map[string]*tree{}
	}
	t.e.Place = d.stamp()
	t.e.Attr = t.e.Place
	parent.kids[name] = t
	d.change(t)
	return t
}

func (d *device) remove(t *tree) {
	for _, name := range slices.Sorted(maps.Keys(t.kids)) {
		d.remove(t.kids[name])
	}
	d.killed(&t.e)
	delete(t.up.kids, t.e.Name)
	d.change(t.up)
}

func (t *tree) exiled() bool { return t.e.Stored != nil && t.e.Stored.Parent != t.up.e.ID }

// move renames t. An entry of a conflict becomes an item of its own. Before a directory
// goes below one that was cut from a cycle, that one is moved, for good, to where it is shown.
func (d *device) move(t, to *tree, name string) {
	for up := to; up != nil; up = up.up {
		if up == t {
			return
		}
	}
	if old := to.kids[name]; old == t {
		return
	} else if old != nil {
		if old.e.Kind == vfs.KindDir {
			return
		}
		d.remove(old)
	}
	if t.kids != nil && d.w.bug != writerNoSettle {
		for up := to; up.up != nil; up = up.up {
			if up.exiled() {
				d.moved = append(d.moved, up)
				up.e.From, up.e.Place, up.e.Stored = up.up.e.ID, d.stamp(), nil
				d.change(up)
			}
		}
	}
	from := t.up
	delete(from.kids, t.e.Name)
	d.change(from)
	if t.e.Conflict {
		d.killed(&t.e)
		n := d.create(to, name, t.e.Kind)
		n.e.Mode = t.e.Mode
		return
	}
	t.up, to.kids[name] = to, t
	t.e.Name, t.e.Place, t.e.Stored = name, d.stamp(), nil
	if t.kids != nil {
		t.e.From = from.e.ID
		d.moved = append(d.moved, t)
	}
	d.change(t)
}

// edit writes new bytes through one name, or through all that are hard links of one file.
func (d *device) edit(t *tree, files []*tree) {
	d.w.nextDat++
	node := dataRef(d.w.nextDat, 100)
	for _, f := range files {
		if f != t && (t.e.Link == NodeID{} || f.e.Link != t.e.Link) {
			continue
		}
		old := f.e
		d.killed(&old)
		d.newValue(&f.e)
		d.w.before[f.e.Edit] = old.Edit
		if d.w.bug != writerForgetsPast {
			f.e.Past = append([]causal.Dot{old.Edit}, old.Past...)
			f.e.Past = f.e.Past[:min(len(f.e.Past), MaxPast)]
		}
		f.e.Node = node
		d.w.written[f.e.Edit] = node
		d.change(f)
	}
	if d.w.bug == writerKillsAll {
		for _, f := range files {
			if f != t && f.e.ID == t.e.ID {
				delete(f.up.kids, f.e.Name)
			}
		}
	}
}

var modelNames = []string{"a", "b", "c.txt", "d"}

// act does one random thing that a user may do.
func (d *device) act() {
	r := d.w.r
	files, dirs := d.all()
	places := append(slices.Clone(dirs), d.root)
	name := pick(r, modelNames)
	if r.IntN(60) == 0 {
		name = RecoveredName
	}
	if r.IntN(12) == 0 { // the attributes of the root
		mode := vfs.Mode(r.IntN(0o1000))
		d.s.Top.Mode, d.s.Top.Attr = mode, d.stamp()
		d.root.dirty = true
	}
	real := slices.DeleteFunc(slices.Clone(dirs), func(t *tree) bool { return t.e.ID == RecoveredID })
	switch k := r.IntN(22); {
	case k < 4:
		if to := pick(r, places); to.kids[name] == nil {
			d.create(to, name, vfs.KindFile)
		}
	case k < 7:
		if to := pick(r, places); to.kids[name] == nil {
			d.create(to, name, vfs.KindDir)
		}
	case k < 10 && len(files) > 0:
		d.edit(pick(r, files), files)
	case k < 12 && len(files) > 0:
		d.move(pick(r, files), pick(r, places), name)
	case k < 17 && len(real) > 0:
		d.move(pick(r, real), pick(r, places), name)
	case k < 18 && len(files) > 0:
		d.remove(pick(r, files))
	case k < 19 && len(real) > 0:
		d.remove(pick(r, real))
	case k < 20 && len(files)+len(real) > 0:
		t := pick(r, append(files, real...))
		t.e.Mode, t.e.Attr = vfs.Mode(r.IntN(0o1000)), d.stamp()
		d.change(t)
	case k < 21 && len(files)+len(real) > 0:
		t := pick(r, append(files, real...))
		t.e.MTime = time.Unix(r.Int64N(1<<30), 0).UTC()
		d.change(t)
	case len(files) > 0:
		t, to := pick(r, files), pick(r, places)
		if to.kids[name] != nil || t.e.Conflict {
			return
		}
		if t.e.Link == (NodeID{}) {
			t.e.Link = t.e.ID
			d.change(t)
		}
		n := d.create(to, name, vfs.KindFile)
		n.e.Node, n.e.Link = t.e.Node, t.e.Link
		d.w.written[n.e.Edit] = n.e.Node
	}
}

// commit stores what was done as a new state.
func (d *device) commit() error {
	dirty := d.root.dirty
	if _, err := d.store(d.root); err != nil {
		return err
	}
	if top := &d.s.Top; dirty {
		if top.Kind == 0 {
			top.Place = d.stamp()
			top.Attr, top.Kind = top.Place, vfs.KindDir
		}
		top.Dot, top.Hidden, top.MTime = d.dot(), nil, time.Unix(d.w.r.Int64N(99), 0).UTC()
	}
	d.counter++ // also a state that only deletes has a dot of its own
	d.s.Root, d.s.Below = d.root.e.Node, d.root.e.Below
	d.s.Context = d.s.Context.With(causal.Dot{Device: d.id, Counter: d.counter})
	d.s.Lamport = max(d.s.Lamport, d.lamport)
	d.s.Files, d.s.Bytes = 0, 0
	var count func(t *tree)
	count = func(t *tree) {
		for _, k := range t.kids {
			d.s.Files++
			d.s.Bytes += bytesOf(&k.e)
			count(k)
		}
	}
	count(d.root)
	return d.stays()
}

// stays checks that the directories that a user moved stay where they were put when the
// view is made anew, also where something was cut from a cycle.
func (d *device) stays() error {
	moved := d.moved
	d.moved = nil
	if len(moved) == 0 || d.s.Below&BelowHeld == 0 {
		return nil
	}
	ctx := context.Background()
	s := d.s
	var err error
	if s.Root, err = flatJoin(ctx, d.w.st, s, s); err != nil {
		return err
	}
	parents := map[NodeID]NodeID{}
	var visit func(dir chunk.Ref, id NodeID) error
	visit = func(dir chunk.Ref, id NodeID) error {
		for e, err := range Entries(ctx, d.w.st, dir, "") {
			if err != nil {
				return err
			}
			parents[e.ID] = id
			if e.Kind == vfs.KindDir {
				if err := visit(e.Node, e.ID); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := visit(s.Root, RootID); err != nil {
		return err
	}
	for _, t := range moved {
		if p, ok := parents[t.e.ID]; ok && p != t.up.e.ID {
			return fmt.Errorf("%w: directory %x does not stay where it was moved", errViolated, t.e.ID)
		}
	}
	return nil
}

// store stores t, and what changed below it, and reports whether anything did.
func (d *device) store(t *tree) (bool, error) {
	changed := t.dirty
	for _, name := range slices.Sorted(maps.Keys(t.kids)) {
		k := t.kids[name]
		c, err := d.store(k)
		if err != nil {
			return false, err
		}
		changed = changed || c
		if k.e.ID == RecoveredID && len(k.kids) == 0 {
			delete(t.kids, name)
		}
	}
	if t.kids != nil && changed {
		var list []Entry
		for _, name := range slices.Sorted(maps.Keys(t.kids)) {
			list = append(list, t.kids[name].e)
		}
		var err error
		if t.e.Node, t.e.Below, err = BuildDir(context.Background(), d.w.st, seqOf(list)); err != nil {
			return false, err
		}
	}
	if t.dirty && t.up != nil && t.e.ID != RecoveredID {
		if t.e.Kind != vfs.KindFile || t.e.Dot.Counter == 0 || t.e.Edit != t.e.Dot || d.s.Context.Covers(t.e.Dot) {
			t.e.Dot = d.dot()
		}
		t.e.Hidden = nil
		if d.w.bug == writerShownPlace && t.e.Stored != nil {
			t.e.Stored = nil
		}
	}
	t.dirty = false
	return changed, nil
}

var errViolated = errors.New("violated")

// sameState reports whether a and b are one state, byte for byte.
func sameState(a, b Snapshot) bool {
	x, errX := EncodeSnapshot(nil, a)
	y, errY := EncodeSnapshot(nil, b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// join makes d see all that o has, and checks the join in every way that the
// schedule allows.
func (d *device) join(o *device) error {
	ctx := context.Background()
	w := d.w
	if d.s.Root == o.s.Root && d.s.Context.Equal(o.s.Context) {
		return nil
	}
	w.joins++

	got, err := Join(ctx, w.st, d.s, o.s)
	if err != nil {
		return err
	}
	other, err := Join(ctx, w.st, o.s, d.s)
	if err != nil {
		return err
	}
	if !sameState(got, other) {
		return fmt.Errorf("%w: I1, join is not commutative: %v %v", errViolated, got, other)
	}
	bug, read := seeded, got
	if d.s.Context.Includes(o.s.Context) || o.s.Context.Includes(d.s.Context) {
		// One has seen all of the other, and so nothing was read: read all the same, from either side.
		seeded |= bugNoShortcut
		if w.joins%2 == 0 {
			read, err = Join(ctx, w.st, d.s, o.s)
		} else {
			read, err = Join(ctx, w.st, o.s, d.s)
		}
		if err != nil {
			seeded = bug
			return err
		}
	}
	seeded = 0
	want, err := flatJoin(ctx, w.st, d.s, o.s)
	seeded = bug
	if err != nil {
		return err
	}
	if read.Root != want {
		return fmt.Errorf("%w: Join gives %v, flat join %v", errViolated, read.Root, want)
	}
	if !got.Context.Includes(d.s.Context) || !got.Context.Includes(o.s.Context) || got.Lamport < max(d.s.Lamport, o.s.Lamport) {
		return fmt.Errorf("%w: I11, context shrinks", errViolated)
	}
	d.s, d.root = got, nil
	d.lamport = max(d.lamport, got.Lamport)
	return nil
}

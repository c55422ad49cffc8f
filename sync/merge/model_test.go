package merge

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// The model of two places: trees in memory, users that change them, and somebody who carries plans out.

// An mthing is a thing on one side. Contents are numbers; a user never writes one twice.
type mthing struct {
	id      int
	par     *mthing
	name    string
	kind    Kind
	content int
	version int
	mtime   int64
	mode    uint32
	kids    []*mthing
	carried bool // a user moved or touched it
}

func (t *mthing) path() string {
	if t.par == nil {
		return ""
	}
	if up := t.par.path(); up != "" {
		return up + "/" + t.name
	}
	return t.name
}

// An mside is one side.
type mside struct {
	names    Names
	can      Can
	ids      bool // it tells IDs
	sums     bool // it tells hashes
	restless bool // a move changes the version
	recycles bool // IDs are used again
	root     *mthing
	next     int
	freeIDs  []int
	known    map[string]string // hashes that were found, by version
}

func (m *mside) slot(name string) string { return m.names.slot(name) }

func (m *mside) child(dir *mthing, name string) *mthing {
	for _, k := range dir.kids {
		if m.slot(k.name) == m.slot(name) {
			return k
		}
	}
	return nil
}

func (m *mside) find(p string) *mthing {
	t := m.root
	if p == "" {
		return t
	}
	for e := range strings.SplitSeq(p, "/") {
		if t.kind != Dir {
			return nil
		}
		if t = m.child(t, e); t == nil {
			return nil
		}
	}
	return t
}

func (m *mside) all() (ts []*mthing) {
	var walk func(*mthing)
	walk = func(t *mthing) {
		for _, k := range t.kids {
			ts = append(ts, k)
			walk(k)
		}
	}
	walk(m.root)
	return ts
}

func (m *mside) add(dir *mthing, name string, k Kind) *mthing {
	m.next++
	t := &mthing{id: m.next, par: dir, name: name, kind: k, version: m.next, mode: 0o644}
	if n := len(m.freeIDs); m.recycles && n > 0 {
		t.id, m.freeIDs = m.freeIDs[n-1], m.freeIDs[:n-1]
	}
	dir.kids = append(dir.kids, t)
	return t
}

func (m *mside) unlink(t *mthing) {
	i := slices.Index(t.par.kids, t)
	t.par.kids = slices.Delete(t.par.kids, i, i+1)
}

func (m *mside) remove(t *mthing) {
	m.unlink(t)
	m.freeIDs = append(m.freeIDs, t.id)
}

func (m *mside) move(t, dir *mthing, name string) {
	m.unlink(t)
	t.par, t.name = dir, name
	dir.kids = append(dir.kids, t)
	if m.restless {
		m.next++
		if s, ok := m.known[fmt.Sprint(t.version)]; ok && m.sums {
			m.known[fmt.Sprint(m.next)] = s
		}
		t.version = m.next
	}
}

// holds reports whether a file is in t.
func holds(t *mthing) bool {
	return t.kind != Dir || slices.ContainsFunc(t.kids, holds)
}

// prune removes directories without files where there are none.
func (m *mside) prune() {
	if m.can.EmptyDirs {
		return
	}
	for _, t := range m.all() {
		if !holds(t) && t.par != nil && slices.Contains(t.par.kids, t) {
			m.unlink(t)
		}
	}
}

// item is what the side shows of t.
func (m *mside) item(t *mthing) Item {
	i := Item{Path: t.path(), Kind: t.kind}
	if m.can.Modes {
		i.Mode = t.mode
	}
	if m.ids {
		i.ID = fmt.Sprint("id", t.id)
	}
	switch t.kind {
	case File:
		i.Size, i.Version, i.MTime = int64(10+t.content%3), fmt.Sprint(t.version), t.mtime
		if m.sums {
			i.Sums = fmt.Sprint("sum:", t.content)
		} else {
			i.Sums = m.known[i.Version]
		}
	case Symlink:
		i.Target = fmt.Sprint("to", t.content)
	}
	return i
}

// shows returns what a listing has, in order.
func (m *mside) shows(o *Options, s Side) []Item {
	var items []Item
	for _, t := range m.all() {
		items = append(items, m.item(t))
	}
	inOrder(o, s, items)
	return items
}

func inOrder(o *Options, s Side, items []Item) {
	keys := make(map[string]string, len(items))
	for _, i := range items {
		keys[i.Path] = o.Key(s, i.Path)
	}
	slices.SortFunc(items, func(a, b Item) int { return cmp.Compare(keys[a.Path], keys[b.Path]) })
}

func seq[T any](all []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, t := range all {
			if !yield(t, nil) {
				return
			}
		}
	}
}

// A world is two sides, and what is known of them.
type world struct {
	o     Options
	sides [2]*mside
	base  map[uint64]*Pair
	nextN uint64
	next  int // the next content

	ended   map[int]bool       // contents that a user replaced or deleted, having seen them
	carried map[int]bool       // contents that a user moved or touched
	left    [2]map[string]bool // names that each side leaves out
	wasOut  map[int]bool       // contents that were left out when a plan was made
	made    map[int]int        // of which content one was made by an edit
	moved   map[int]bool       // contents that a user moved, or that what was moved was made of
	deleted map[int]bool       // contents that a user deleted, or that what was deleted was made of
	limit   limit
	filters bool // there was one
	clock   int64
	partial bool // a listing lacked something when the last plan was made
	written []int
	said    []string
	quiet   bool
	rounds  int
	problem int // how many the last plan had
	count   map[string]int
}

func (w *world) say(format string, args ...any) {
	if !w.quiet {
		w.said = append(w.said, fmt.Sprintf(format, args...))
	}
}

// visible returns the contents that a side shows.
func (m *mside) visible(dst map[int]int) {
	for _, t := range m.all() {
		if t.kind != Dir {
			dst[t.content]++
		}
	}
}

func (w *world) pairs() []Pair {
	var all []Pair
	for _, p := range w.base {
		all = append(all, *p)
	}
	keys := make(map[uint64]string, len(all))
	for i := range all {
		keys[all[i].N] = w.o.Key(Left, all[i].Item[Left].Path)
	}
	slices.SortFunc(all, func(a, b Pair) int { return cmp.Or(cmp.Compare(keys[a.N], keys[b.N]), cmp.Compare(a.N, b.N)) })
	return all
}

// plan looks at both sides and plans. hide is asked which items a listing lacks.
func (w *world) plan(hide func(Side, *Item) bool, in Input) (*Result, error) {
	w.partial = hide != nil
	w.noteOut()
	w.noteSkips()
	for s := range Side(2) {
		items := w.sides[s].shows(&w.o, s)
		for i := range items {
			items[i].Out = w.isOut(s, items[i].Path)
			items[i].Skip = w.skips(&items[i])
		}
		if hide != nil {
			n := len(items)
			items = slices.DeleteFunc(items, func(i Item) bool { return hide(s, &i) })
			in.Incomplete[s] = len(items) != n
		}
		in.Now[s] = seq(items)
	}
	in.Base = seq(w.pairs())
	in.Taken = func(s Side, p string) bool { return w.sides[s].find(p) != nil }
	return Plan(in, w.o)
}

// lost says what would be lost if t went away on side s.
func (w *world) lost(t *mthing) error {
	if w.ended[t.content] || w.o.Mode == Mirror { // whoever mirrors has asked for it
		return nil
	}
	seen := map[int]int{}
	for _, m := range w.sides {
		m.visible(seen)
	}
	if seen[t.content] < 2 {
		return fmt.Errorf("content %d, which nobody replaced or deleted, would be lost with %s", t.content, t.path())
	}
	return nil
}

var errMChanged = fmt.Errorf("it has changed")

// do carries one step out. It changes nothing if it fails.
func (w *world) do(st *Step) (err error) {
	s, o := st.Side, st.Side.Other()
	m := w.sides[s]
	th := st.Thing
	before := th.Now[s]
	known := func(p string, side Side) (*mthing, error) {
		t := w.sides[side].find(p)
		if t == nil || t.kind != th.Kind || t.kind == File && fmt.Sprint(t.version) != th.Now[side].Version ||
			t.kind == Symlink && fmt.Sprint("to", t.content) != th.Now[side].Target {
			return nil, errMChanged
		}
		return t, nil
	}
	if st.Op < Agree && (th.Has[0] && th.Now[0].Out || th.Has[1] && th.Now[1].Out) {
		return fmt.Errorf("%s is of something that is left out", st)
	}
	if st.Op < Hash && w.o.Mode != TwoWay && s == Left {
		return fmt.Errorf("%s would write to a side that is not to be written to", st)
	}
	room := func(p string) (dir *mthing, err error) {
		dir = m.find(parent(p))
		if dir == nil && !m.can.EmptyDirs { // such places make them as it comes
			dir = m.root
			for e := range strings.SplitSeq(parent(p), "/") {
				k := m.child(dir, e)
				if k == nil {
					k = m.add(dir, e, Dir)
				}
				if k.kind != Dir {
					return nil, errMChanged
				}
				dir = k
			}
		}
		if dir == nil || dir.kind != Dir {
			return nil, errMChanged
		}
		if enc := base(p); w.legal(s, enc) != nil {
			return nil, w.legal(s, enc)
		}
		return dir, nil
	}
	switch st.Op {
	case Move:
		t, err := known(st.From, s)
		if err != nil {
			if th.Kind == Dir && !m.can.EmptyDirs && m.find(st.From) == nil {
				break // there is nothing to move
			}
			return err
		}
		if e := m.find(st.Path); e != nil && e != t {
			return errMChanged
		}
		dir, err := room(st.Path)
		if err != nil {
			return err
		}
		for d := dir; d != nil; d = d.par {
			if d == t {
				return fmt.Errorf("%s: into itself", st)
			}
		}
		m.move(t, dir, base(st.Path))
		th.Now[s] = m.item(t)
		th.Now[s].MTime = before.MTime // who touched it meanwhile did so after the plan
	case Mkdir:
		if t := m.find(st.Path); t != nil {
			if t.kind != Dir {
				return errMChanged
			}
			th.Now[s] = m.item(t)
			break
		}
		dir, err := room(st.Path)
		if err != nil {
			return err
		}
		t := m.add(dir, base(st.Path), Dir)
		th.Now[s] = m.item(t)
	case Copy:
		from, err := known(st.From, o)
		if err != nil {
			return err
		}
		var t *mthing
		if th.Has[s] {
			if t, err = known(st.Path, s); err != nil {
				return err
			}
			if err := w.allowed(st, t); err != nil {
				return err
			}
			if t.content != from.content {
				if err := w.lost(t); err != nil {
					return fmt.Errorf("%s: %w", st, err)
				}
			}
			m.next++
			t.version = m.next
		} else {
			if m.find(st.Path) != nil {
				return errMChanged
			}
			dir, err := room(st.Path)
			if err != nil {
				return err
			}
			t = m.add(dir, base(st.Path), th.Kind)
			if err := w.allowed(st, t); err != nil {
				return err
			}
		}
		t.content, t.mode, t.carried = from.content, from.mode, t.carried || from.carried
		if m.can.Times {
			t.mtime = from.mtime
		} else {
			t.mtime = w.clock
		}
		th.Now[s], th.Now[o] = m.item(t), w.sides[o].item(from)
	case Touch:
		t, err := known(st.Path, s)
		if err != nil {
			return err
		}
		if err := w.allowed(st, t); err != nil {
			return err
		}
		if m.can.Times && t.kind == File {
			t.mtime = th.Now[o].MTime
		}
		if th.Now[o].Mode != 0 {
			t.mode = th.Now[o].Mode
		}
		if m.restless && t.kind == File {
			m.next++
			t.version = m.next
		}
		th.Now[s] = m.item(t)
	case Remove:
		t, err := known(st.Path, s)
		if err != nil {
			if th.Kind == Dir && !m.can.EmptyDirs && m.find(st.Path) == nil {
				break
			}
			return err
		}
		if len(t.kids) > 0 {
			return errMChanged
		}
		if t.kind != Dir {
			if err := w.allowed(st, t); err != nil {
				return err
			}
			if err := w.lost(t); err != nil {
				return fmt.Errorf("%s: %w", st, err)
			}
		}
		m.remove(t)
	case Hash:
		for s := range Side(2) {
			t, err := known(st.At[s], s)
			if err != nil {
				return err
			}
			w.sides[s].known[fmt.Sprint(t.version)] = fmt.Sprint("sum:", t.content)
		}
		return nil
	}
	w.took(st, before)
	for _, m := range w.sides {
		m.prune()
	}
	return nil
}

// took notes in the base what a step has done.
func (w *world) took(st *Step, before Item) {
	th := st.Thing
	s, o := st.Side, st.Side.Other()
	switch st.Op {
	case Move, Mkdir, Copy, Touch:
		th.Has[s] = true
		th.Now[s].Path = st.At[s]
		if b := w.base[th.N]; st.Op == Move && b != nil && !st.Drop {
			oldS, oldO := b.Item[s].Path, b.Item[o].Path
			for _, d := range w.base {
				if d != b && th.Kind != Dir {
					continue
				}
				d.Item[s].Path = rebase(d.Item[s].Path, oldS, st.Path, d == b)
				if st.Follows {
					d.Item[o].Path = rebase(d.Item[o].Path, oldO, th.Now[o].Path, d == b)
				}
			}
			if w.wasSame(b.Item[s], before) {
				b.Item[s].Version = th.Now[s].Version
			}
		}
		if st.Carries {
			for _, d := range w.base {
				d.Item[s].Path = rebase(d.Item[s].Path, st.From, st.Path, false)
			}
		}
	case Remove:
		th.Has[s] = false
	}
	if st.Op == Forget { // what has become something that is left out has no pair: on the other side it is as new
		for s := range Side(2) {
			if t := w.sides[s].find(th.Now[s].Path); th.Has[s] && t != nil && t.kind != Dir && (th.Now[s.Other()].Out || th.Now[0].Skip || th.Now[1].Skip || !th.Has[s.Other()]) {
				w.wasOut[t.content] = true
			}
		}
	}
	if b := w.base[th.N]; st.Op == Shelve && b != nil {
		b.Item[0].Skip, b.Item[1].Skip = th.Now[0].Skip, th.Now[1].Skip
		for s := range Side(2) { // when one side's is not left out any more, or goes, the other's is as new, also where its ID was used again for another file
			if t := w.sides[s].find(th.Now[s].Path); th.Has[s] && t != nil && t.kind != Dir {
				w.wasOut[t.content] = true
			}
		}
	}
	if st.Drop {
		delete(w.base, th.N)
		th.N = 0
	}
	if st.Settles {
		if th.N == 0 {
			w.nextN++
			th.N = w.nextN
		}
		th.Now[0].Path, th.Now[1].Path = st.At[0], st.At[1]
		w.base[th.N] = &Pair{N: th.N, Item: th.Now}
	}
}

func (w *world) wasSame(b, now Item) bool { return b.Kind == File && b.Version == now.Version }

func rebase(p, from, to string, itself bool) string {
	if itself {
		return to
	}
	if rest, ok := strings.CutPrefix(p, from+"/"); ok {
		return to + "/" + rest
	}
	return p
}

// legal says why a side cannot have a name.
func (w *world) legal(s Side, enc string) error {
	n := &w.sides[s].names
	if n.Windows && (strings.ContainsAny(enc, windows) || strings.HasSuffix(enc, ".") || strings.HasSuffix(enc, " ") || isDevice(enc)) {
		return fmt.Errorf("the %s side was given the name %q, which it cannot have", s, enc)
	}
	return nil
}

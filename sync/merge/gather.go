package merge

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// A node is a thing on its way through a plan.
type node struct {
	thing   *Thing // of its own, for steps keep it when the plan is made
	kind    Kind
	hasBase bool
	base    [2]Item
	has     [2]bool // it is there now
	cur     [2]Item
	assumed [2]bool // it was not seen there, and is taken to be as in the base
	out     bool    // a filter leaves it out, or no step may touch it
	fixed   bool    // it is the same in all three trees, and here because of what is below it
	stay    bool    // it is not alike, and is left so
	woken   bool    // it was left out by its size or age when a side lost it, and is not any more
	forget  bool    // its pair is to go, though it stays
	fresh   bool    // it was made by the plan: one content of a conflict

	par [2]*node // where it is

	alive, rescued bool
	moved, edited  [2]bool
	touched        [2]bool
	tpar           *node
	tname          [2]string // as Names.Decode gives it
	from           Side      // what its place was taken from
	source         int8      // the side whose content it gets; -1: none is needed, -2: not known
	touch          int8      // the side whose attributes it gets; -1: none
	conflict       *Conflict
	beside         *node // what keeps the name that conflict is about
	drop           bool
	why            string

	// The tree as the steps make it.
	at      [2]spot
	there   [2]bool
	placed  [2]bool
	busy    [2]bool
	blocked [2]bool
	last    [2]int // the last step that moved, made or removed it there; -1: none
	prev    int    // the last step of it at all
	out2    [2][]int
	kids    [2][]*node
	steps   []int
	want    [2]string // the name it is to have, as Encode gives it
}

// A spot is a place on a side.
type spot struct {
	par  *node
	name string // as the side has it
}

// planner is one call of Plan.
type planner struct {
	in Input
	o  Options
	// nodes are in the order in which they were met.
	nodes  []*node
	root   *node
	byBase [2]map[string]*node // by the path in the base
	byPath [2]map[string]*node // by the path now, in the form of pathKey
	loose  [2][]Item           // items of which nothing is known yet
	known  map[uint64]bool     // pairs of which something has become
	// skipped are the files of each side that are left out by size or age, and are not as they were.
	skipped [2]map[look]bool
	total   int  // files and links of the base
	news    int  // items of groups in which nothing is of the base
	mixed   bool // something else differs, too
	occ     [2]map[spot]*node
	claimed [2]map[spot]*node // who is to be where
	free    map[freedKey][]int
	out     Result
}

func newPlanner(in Input, o Options) *planner {
	for s, l := range o.Label {
		if l == "" {
			o.Label[s] = Side(s).String()
		}
	}
	p := &planner{in: in, o: o, free: map[freedKey][]int{}, known: map[uint64]bool{}, root: &node{kind: Dir, fixed: true, alive: true, source: -1, touch: -1, prev: -1}}
	p.root.has, p.root.there, p.root.placed = [2]bool{true, true}, [2]bool{true, true}, [2]bool{true, true}
	p.root.last = [2]int{-1, -1}
	for s := range 2 {
		p.byBase[s], p.byPath[s] = map[string]*node{"": p.root}, map[string]*node{"": p.root}
		p.occ[s] = map[spot]*node{}
	}
	return p
}

// pathKey is equal for all paths that side s takes for one.
func (p *planner) pathKey(s Side, name string) string { return p.o.Names[s].slot(name) }

func parent(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return ""
}

func (p *planner) newNode(k Kind) *node {
	n := &node{kind: k, source: -1, touch: -1, prev: -1, last: [2]int{-1, -1}, thing: &Thing{Kind: k}}
	p.nodes = append(p.nodes, n)
	return n
}

// A stream is a sequence with one look ahead.
type stream[T any] struct {
	next  func() (T, error, bool)
	stop  func()
	key   func(T) (group, tail string)
	head  T
	group string
	tail  string
	begun bool
	ok    bool
}

func open[T any](seq iter.Seq2[T, error], key func(T) (string, string)) *stream[T] {
	next, stop := iter.Pull2(orNone(seq))
	return &stream[T]{next: next, stop: stop, key: key}
}

// advance reads the next head. A key may come more than once: a thing may be on its way from where another is already, and
// a name that was set apart may not have to be any more.
func (s *stream[T]) advance() error {
	head, err, ok := s.next()
	if err != nil {
		return err
	}
	if s.head, s.ok = head, ok; !ok {
		return nil
	}
	g, tail := s.key(head)
	if s.begun && (g < s.group || g == s.group && tail < s.tail) {
		return fmt.Errorf("%q comes after %q: the sequence is not in order", g, s.group)
	}
	s.group, s.tail, s.begun = g, tail, true
	return nil
}

// take appends all of the group to dst.
func (s *stream[T]) take(dst []T, group string) ([]T, error) {
	for s.ok && s.group == group {
		dst = append(dst, s.head)
		if err := s.advance(); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// gather reads the trees, and keeps what differs.
func (p *planner) gather() error {
	keyOf := p.o.keyOf
	base := open(p.in.Base, func(b Pair) (string, string) { return keyOf(Left, b.Item[Left].Path) })
	defer base.stop()
	var now [2]*stream[Item]
	for s := range now {
		now[s] = open(p.in.Now[s], func(i Item) (string, string) { return keyOf(Side(s), i.Path) })
		defer now[s].stop()
		if err := now[s].advance(); err != nil {
			return fmt.Errorf("read the %s side: %w", Side(s), err)
		}
	}
	if err := base.advance(); err != nil {
		return fmt.Errorf("read the base: %w", err)
	}
	var pairs []Pair
	var items [2][]Item
	for base.ok || now[0].ok || now[1].ok {
		least, found := "", false
		for _, h := range [...]struct {
			ok    bool
			group string
		}{{base.ok, base.group}, {now[0].ok, now[0].group}, {now[1].ok, now[1].group}} {
			if h.ok && (!found || h.group < least) {
				least, found = h.group, true
			}
		}
		var err error
		if pairs, err = base.take(pairs[:0], least); err != nil {
			return fmt.Errorf("read the base: %w", err)
		}
		for s := range now {
			if items[s], err = now[s].take(items[s][:0], least); err != nil {
				return fmt.Errorf("read the %s side: %w", Side(s), err)
			}
		}
		if least >= p.in.From {
			p.sort(least, pairs, items)
		}
		if p.mixed && p.part() {
			return ErrMixed
		}
	}
	if err := p.gatherParents(); err != nil {
		return err
	}
	if p.mixed && p.part() {
		return ErrMixed
	}
	return nil
}

// sort keeps what is of one group, unless all is as it was.
func (p *planner) sort(group string, pairs []Pair, items [2][]Item) {
	for _, b := range pairs {
		if b.Item[0].Kind != Dir {
			p.total++
		}
	}
	if len(pairs) == 1 && len(items[0]) == 1 && len(items[1]) == 1 &&
		p.unchanged(&pairs[0].Item[0], &items[0][0], Left) && p.unchanged(&pairs[0].Item[1], &items[1][0], Right) {
		p.out.Agreed++
		return
	}
	switch {
	case len(pairs) == 0 && p.in.Most > 0 && !p.mixed && p.news >= p.in.Most:
		if p.out.Next == "" {
			p.out.Next = group
		}
		return
	case len(pairs) == 0:
		p.news += len(items[0]) + len(items[1])
	case !p.unseen(pairs, items):
		p.mixed = true
	}
	for i := range pairs {
		p.known[pairs[i].N] = true
		p.addPair(&pairs[i])
	}
	for s := range 2 {
		p.loose[s] = append(p.loose[s], items[s]...)
	}
}

// unseen reports whether all that differs is that a side shows no directories by themselves.
func (p *planner) unseen(pairs []Pair, items [2][]Item) bool {
	if len(pairs) != 1 || pairs[0].Item[0].Kind != Dir || pairs[0].Item[1].Kind != Dir {
		return false
	}
	for s := range Side(2) {
		switch len(items[s]) {
		case 0:
			if p.o.Can[s].EmptyDirs {
				return false
			}
		case 1:
			if !p.unchanged(&pairs[0].Item[s], &items[s][0], s) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// unchanged reports whether a side shows what the base has.
func (p *planner) unchanged(was, is *Item, s Side) bool {
	if is.Out || is.Skip != was.Skip || was.Kind != is.Kind || was.Path != is.Path || was.ID != is.ID && was.ID != "" && is.ID != "" || p.impossible(is, s) != "" {
		return false
	}
	switch was.Kind {
	case Dir:
		return !p.o.Can[s].Modes || was.Mode == is.Mode
	case Symlink:
		return was.Target == is.Target
	}
	return was.Version == is.Version && was.MTime == is.MTime && (!p.o.Can[s].Modes || was.Mode == is.Mode)
}

// impossible says why an item of side s cannot be on the other one; "" if it can.
func (p *planner) impossible(i *Item, s Side) string {
	switch {
	case i.Kind == Other:
		return "it has no bytes that could be copied"
	case i.Kind == Symlink && !p.o.Can[s.Other()].Symlinks:
		return "the " + s.Other().String() + " side has no links"
	}
	return ""
}

// gatherParents finds the unchanged directories above what differs.
func (p *planner) gatherParents() error {
	var need [2]map[string]bool
	missing := false
	want := func(s Side, name string) {
		for name = parent(name); name != ""; name = parent(name) {
			if need[s][name] {
				return
			}
			need[s][name], missing = true, true
		}
	}
	for s := range 2 {
		need[s] = map[string]bool{}
		for _, i := range p.loose[s] {
			want(Side(s), i.Path)
		}
		for _, n := range p.nodes {
			want(Side(s), n.base[s].Path)
		}
	}
	torn := p.torn()
	if !missing && len(torn[0])+len(torn[1]) == 0 {
		return nil
	}
	if p.in.Dirs == nil || p.in.From == "" {
		return p.parentsIn(p.in.Base, need, torn)
	}
	err := p.parentsIn(p.in.Dirs, need, torn)
	if err == nil && len(torn[0])+len(torn[1]) > 0 { // what is in those comes after them
		err = p.parentsIn(p.in.Base, [2]map[string]bool{}, torn)
	}
	p.dropOrphans()
	return err
}

// parentsIn takes what is needed of some pairs.
func (p *planner) parentsIn(base iter.Seq2[Pair, error], need, torn [2]map[string]bool) error {
	for b, err := range orNone(base) {
		if err != nil {
			return fmt.Errorf("read the base: %w", err)
		}
		if p.inside(torn, &b) {
			p.mixed = true
			continue
		}
		if b.Item[0].Kind != Dir || !need[0][b.Item[0].Path] && !need[1][b.Item[1].Path] || p.byBase[0][b.Item[0].Path] != nil {
			continue
		}
		n := p.newNode(Dir)
		n.hasBase, n.base, n.cur, n.has, n.thing.N, n.fixed = true, b.Item, b.Item, [2]bool{true, true}, b.N, true
		for s := range Side(2) {
			p.byBase[s][b.Item[s].Path] = n
			p.byPath[s][p.pathKey(s, b.Item[s].Path)] = n
		}
	}
	return nil
}

// dropOrphans leaves what is in a directory that a plan before was of and that is in no pair: it is for a plan that sees why.
func (p *planner) dropOrphans() {
	for s := range Side(2) {
		p.loose[s] = slices.DeleteFunc(p.loose[s], func(i Item) bool {
			for up := parent(i.Path); up != ""; up = parent(up) {
				if n := p.byBase[s][up]; n != nil && n.kind == Dir {
					return false
				}
				if group, _ := p.o.keyOf(s, up); group < p.in.From {
					return true
				}
			}
			return false
		})
	}
}

// torn returns the directories in the place of which a side has another one now, or one that no pair tells of. What is in them may have kept its path, and is
// elsewhere all the same.
func (p *planner) torn() (torn [2]map[string]bool) {
	for s := range 2 {
		torn[s] = map[string]bool{}
		for _, i := range p.loose[s] {
			if i.Kind != Dir {
				continue
			}
			n := p.byBase[s][i.Path]
			if n == nil || n.kind != Dir || n.base[s].ID != i.ID && n.base[s].ID != "" && i.ID != "" {
				torn[s][i.Path] = true
			}
		}
	}
	return torn
}

// inside takes a pair that nothing was known to have become of among those that something has, if it is in a torn directory.
func (p *planner) inside(torn [2]map[string]bool, b *Pair) bool {
	if len(torn[0])+len(torn[1]) == 0 {
		return false
	}
	is := false
	for s := range 2 {
		for up := parent(b.Item[s].Path); up != "" && !is; up = parent(up) {
			is = torn[s][up]
		}
	}
	if !is || p.known[b.N] {
		return false
	}
	p.addPair(b)
	p.out.Agreed--
	for s := range 2 {
		p.loose[s] = append(p.loose[s], b.Item[s])
	}
	return true
}

// addPair makes a node of a pair. Where two pairs have one path, a directory has it, for others are looked for in it.
func (p *planner) addPair(b *Pair) {
	n := p.newNode(b.Item[0].Kind)
	n.hasBase, n.base, n.thing.N = true, b.Item, b.N
	for s := range 2 {
		if m := p.byBase[s][b.Item[s].Path]; m == nil || m.kind != Dir {
			p.byBase[s][b.Item[s].Path] = n
		}
	}
}

func orNone[T any](seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	if seq == nil {
		return func(func(T, error) bool) {}
	}
	return seq
}

// name returns the last element of a path of side s, decoded. What is out of the way for a moment has its old name all the same.
func (p *planner) name(s Side, of string) string {
	name := base(of)
	if rest, ok := strings.CutPrefix(name, Moving); ok {
		if _, old, ok := strings.Cut(rest, "-"); ok && old != "" {
			name = old
		}
	}
	return p.o.Names[s].Decode(name)
}

package sheaf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
	"github.com/sheaf-drive/sheaf/vfs/manifest"
)

// A State says in one word where the content of files is.
type State uint8

// The states. Of those that are true of a file the greatest is its State.
const (
	StateNone   State = iota // it has no content: it is no file
	StateRemote              // some of it is at replicas only
	StateLocal               // all of it is on this device
	StatePinned              // and stays there
	StateQueued              // this device put some of it that a replica does not have yet
)

// String returns the word.
func (s State) String() string { return [...]string{"none", "remote", "local", "pinned", "queued"}[s] }

// A Custody says where the content of files is. Bytes are as they lie, sealed, if nothing else is said.
type Custody struct {
	Files   int64 // that are counted
	Size    int64 // their bytes as people see them
	Stored  int64 // in packs
	Here    int64 // of these on this device: put by it, or in its cache
	Journal int64 // that are in the journal only, and in no pack yet
	Queued  int64 // of what this device put, in packs or in the journal, that some replica does not have
	Copies  int   // how many places have all of it, this device counted if it keeps all of it for good
	Places  int   // how many there are, with this device
	Pinned  bool  // all of it is pinned
	// Partial says that some of what there is to know is not on this device, so that Stored may be less than there is.
	Partial bool
	// Elsewhere is how much of what is not on this device replicas have, by their names. Nil: nothing is missing, or nobody is known who has it.
	Elsewhere map[string]int64
	// Waiting says that some replica does not have the newest state of something that this device has put or changed.
	Waiting bool
}

// State returns the one word.
func (c Custody) State() State {
	switch {
	case c.Files == 0:
		return StateNone
	case c.Waiting:
		return StateQueued
	case c.Partial || c.Here < c.Stored:
		return StateRemote
	case c.Pinned:
		return StatePinned
	}
	return StateLocal
}

// String returns the word and how many places have the content, as in "queued copies=1/2".
func (c Custody) String() string {
	s := fmt.Sprintf("%s copies=%d/%d", c.State(), c.Copies, c.Places)
	if c.Pinned && c.State() != StatePinned {
		s += " pinned"
	}
	return s
}

// add takes in what another file is.
func (c *Custody) add(o Custody) {
	if c.Files == 0 {
		c.Copies, c.Pinned = o.Copies, o.Pinned
	}
	c.Files += o.Files
	c.Size += o.Size
	c.Stored += o.Stored
	c.Here += o.Here
	c.Journal += o.Journal
	c.Queued += o.Queued
	c.Copies = min(c.Copies, o.Copies)
	c.Pinned = c.Pinned && o.Pinned
	c.Partial = c.Partial || o.Partial
	c.Waiting = c.Waiting || o.Waiting
	for name, n := range o.Elsewhere {
		c.elsewhere(name, n)
	}
}

func (c *Custody) elsewhere(name string, n int64) {
	if c.Elsewhere == nil {
		c.Elsewhere = map[string]int64{}
	}
	c.Elsewhere[name] += n
}

// A Custodian answers where files are, by what is known on this device: it asks no replica and fetches nothing. It remembers what it has looked
// up, so it is made for one question, about many files, and is used by one goroutine.
type Custodian struct {
	d      *Drive
	places []heldAt
	own    chunk.Ref // the directory that the newest head of this device names
	pins   []Pin
	packs  map[pack.Name]tier.Holding
}

// heldAt is what is known of a replica.
type heldAt struct {
	name string
	root chunk.Ref // the root directory of the newest state of this device that is there as a whole; zero: none is known
	all  bool      // that is the newest state that this device has, and there is nothing that is in no state yet
}

// Custodian returns a new one.
func (d *Drive) Custodian(ctx context.Context) (*Custodian, error) {
	c := &Custodian{d: d, packs: map[pack.Name]tier.Holding{}}
	var err error
	if c.pins, err = d.Pins(ctx); err != nil {
		return nil, err
	}
	if d.replicas == nil {
		return c, nil
	}
	settled := d.Pending() == 0 // before the head is looked up
	head, err := d.head(ctx)
	if err != nil {
		return nil, err
	}
	if c.own, err = c.rootOf(ctx, head); err != nil {
		return nil, err
	}
	held, _ := d.replicas.engine.Held()
	for _, h := range held {
		at := heldAt{name: h.Name}
		if ref, err := chunk.ParseRef(h.Top); err == nil {
			at.all = settled && ref == head && !ref.IsZero()
			if at.root, err = c.rootOf(ctx, ref); err != nil {
				return nil, err
			}
		}
		c.places = append(c.places, at)
	}
	return c, nil
}

// rootOf returns the root directory of a state; zero if that is not on this device any more.
func (c *Custodian) rootOf(ctx context.Context, ref chunk.Ref) (chunk.Ref, error) {
	if ref.IsZero() {
		return ref, nil
	}
	s, err := manifest.GetSnapshot(ctx, c, ref)
	if errors.Is(err, errElsewhere) {
		return chunk.Ref{}, nil
	}
	return s.Root, err
}

// errElsewhere says that a chunk is not on this device.
var errElsewhere = errors.New("it is not on this device")

// Get implements manifest.Source: it returns what is on this device, and an error for all else.
func (c *Custodian) Get(ctx context.Context, dst []byte, ref chunk.Ref) ([]byte, error) {
	at, h, err := c.find(ctx, ref)
	if err != nil {
		return dst, err
	}
	if !at.Open && !h.Here(at.Off, at.Len) {
		return dst, errElsewhere
	}
	return c.d.store.Get(ctx, dst, ref)
}

// find returns where a chunk is, or errElsewhere if that is not known here.
func (c *Custodian) find(ctx context.Context, ref chunk.Ref) (chunkstore.Place, tier.Holding, error) {
	at, err := c.d.store.Where(ctx, ref.ID)
	if errors.Is(err, chunkstore.ErrMissing) {
		return at, tier.Holding{}, errElsewhere
	}
	if err != nil || at.Open {
		return at, tier.Holding{}, err
	}
	h, ok := c.packs[at.Pack]
	if !ok {
		if h, err = c.holding(ctx, at.Pack); err != nil {
			return at, h, err
		}
		c.packs[at.Pack] = h
	}
	return at, h, nil
}

func (c *Custodian) holding(ctx context.Context, name pack.Name) (tier.Holding, error) {
	if c.d.o.Replication == nil {
		return tier.Holding{Own: true}, nil
	}
	return c.d.o.Replication.Tier.Holding(ctx, blob.Name(name.BlobName()))
}

// Pinned reports whether a path is pinned, by itself or by a directory above it.
func (c *Custodian) Pinned(path string) bool {
	return slices.ContainsFunc(c.pins, func(pin Pin) bool { return isBelow(pin.Path, path) })
}

// isBelow reports whether path is top, or lies below it.
func isBelow(top, path string) bool {
	return top == "" || path == top || strings.HasPrefix(path, top+"/")
}

// Node says where the content of a node is that FS, or a tree of At, has shown.
func (c *Custodian) Node(ctx context.Context, n vfs.Node) (Custody, error) {
	none := Custody{Places: len(c.places) + 1, Copies: len(c.places) + 1}
	f, ok := live.ContentOf(n)
	if !ok {
		if path, named := live.PathOf(n); named {
			none.Pinned = c.Pinned(path)
		}
		return none, nil
	}
	w := &count{Custody: none, c: c, lacks: make([]bool, len(c.places))}
	w.Files, w.Size, w.Journal = 1, f.Size, f.Journal
	w.Pinned = f.Named && !f.ReadOnly && c.Pinned(f.Path)
	seen := func(ref chunk.Ref) bool { return w.met(ctx, ref) }
	for _, ref := range append(f.Shared, f.Base) {
		if ref.IsZero() || seen(ref) {
			continue
		}
		if err := manifest.Walk(ctx, c, ref, seen, func(chunk.Ref) error { return w.err }); err != nil && w.err == nil {
			w.err = err
		}
	}
	if w.err == nil && !f.ReadOnly {
		w.err = w.heads(ctx, f)
	}
	if w.err != nil {
		return none, fmt.Errorf("find where %q is: %w", f.Path, w.err)
	}
	w.finish(f)
	return w.Custody, nil
}

// Below is Node for all files below a node together, each name of a file counted.
func (c *Custodian) Below(ctx context.Context, n vfs.Node) (Custody, error) {
	sum, err := c.Node(ctx, n)
	dir, ok := n.(vfs.Dir)
	if err != nil || !ok {
		return sum, err
	}
	pinned := sum.Pinned
	for e, err := range vfs.Tree(ctx, dir) {
		if err != nil {
			return sum, err
		}
		if e.Attr.Kind != vfs.KindFile {
			continue
		}
		one, err := c.Node(ctx, e.Node)
		if err != nil {
			return sum, err
		}
		sum.add(one)
	}
	sum.Pinned = sum.Pinned || pinned
	return sum, nil
}

// count is what is known of one file so far.
type count struct {
	Custody
	c      *Custodian
	lacks  []bool // for each place: it does not have all
	some   bool   // this device has put some of it
	others bool   // some of it is not kept here for good: others have put it, or it was evicted
	err    error
}

// met counts a chunk, and reports whether nothing below it can be seen: it is data, or is not here.
func (w *count) met(ctx context.Context, ref chunk.Ref) bool {
	at, h, err := w.c.find(ctx, ref)
	if errors.Is(err, errElsewhere) {
		w.Partial, w.others = true, true
		for i := range w.lacks {
			w.lacks[i] = true
		}
		return true
	}
	if err != nil {
		w.err = err
		return true
	}
	w.Stored += at.Len
	here := at.Open || h.Here(at.Off, at.Len)
	if here {
		w.Here += at.Len
	} else {
		for _, name := range h.Remotes {
			w.elsewhere(name, at.Len)
		}
	}
	own := at.Open || h.Own || h.Evicted
	w.some = w.some || own
	w.others = w.others || !own || h.Evicted
	lacking := false
	for i, p := range w.c.places {
		if at.Open || !slices.Contains(h.Remotes, p.name) {
			w.lacks[i], lacking = true, true
		}
	}
	if own && lacking {
		w.Queued += at.Len
		w.Waiting = true
	}
	if ref.Kind != chunk.Data && !here {
		w.Partial = true // there is more of it than can be seen
	}
	return ref.Kind == chunk.Data || !here
}

// heads finds out which places show the file as it is: the bytes alone are of no use to who has nothing but the place. What another device
// has put, and this one did not touch, was found at a place.
func (w *count) heads(ctx context.Context, f live.Content) error {
	if !f.Named {
		for i := range w.lacks {
			w.lacks[i] = true
		}
		return nil
	}
	names := strings.Split(f.Path, "/")
	if !f.Changed && !w.some {
		e, err := entryAt(ctx, w.c, w.c.own, names)
		if errors.Is(err, errElsewhere) {
			return nil // it is in a directory that others have put
		}
		if err != nil {
			return err
		}
		if e != nil && e.Node == f.Base && e.Size == f.Size && e.Dot.Device != w.c.d.device.ID().Short() {
			return nil
		}
	}
	for i, p := range w.c.places {
		if p.all && !f.Changed {
			continue // also where the directories that lead there are not on this device
		}
		e, err := entryAt(ctx, w.c, p.root, names)
		if err != nil && !errors.Is(err, errElsewhere) {
			return err
		}
		if f.Changed || e == nil || e.Kind != vfs.KindFile || e.Node != f.Base || e.Size != f.Size {
			w.lacks[i], w.Waiting = true, true
		}
	}
	return nil
}

// finish counts the copies.
func (w *count) finish(f live.Content) {
	w.Queued += w.Journal
	w.Waiting = (w.Waiting || w.Journal > 0) && len(w.c.places) > 0
	if len(w.c.places) == 0 {
		w.Queued = 0
	}
	w.Copies = 0
	if !w.others && !w.Partial || w.Pinned && !w.Partial && w.Here == w.Stored {
		w.Copies++
	}
	for _, lacks := range w.lacks {
		if !lacks && !f.Changed {
			w.Copies++
		}
	}
}

// stateOf is what a mount shows of a node.
func (d *Drive) stateOf(ctx context.Context, n vfs.Node) (string, error) {
	c, err := d.Custodian(ctx)
	if err != nil {
		return "", err
	}
	at, err := c.Node(ctx, n)
	if err != nil || at.Files == 0 {
		return "", err
	}
	return at.String(), nil
}

// top is what engine.Options.Top asks for: the Ref of the newest state of this device.
func (d *Drive) top(ctx context.Context) ([]byte, error) {
	if d.refs == nil {
		return nil, nil // it is being opened
	}
	ref, err := d.head(ctx)
	if err != nil || ref.IsZero() {
		return nil, err
	}
	return ref.Append(nil), nil
}

package powerloss

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// A Model says what happens at the moment of a [Cut].
type Model uint8

const (
	// Killed is the death of the process: all calls that returned have their effect.
	Killed Model = iota
	// Torn is the death of the process in its last write, of which some pages were taken.
	Torn
	// Ordered is a power cut on a file system that writes names in order.
	Ordered
	// Posix is a power cut on one that promises no more than the standard.
	Posix
)

// String returns the name.
func (m Model) String() string { return [...]string{"killed", "torn", "ordered", "posix"}[m] }

// A Cut is one state that the disk may be found in.
type Cut struct {
	At    int // events that had happened
	Model Model
	Seed  uint64 // what chance decides
}

// String tells how to get the same state again.
func (c Cut) String() string { return fmt.Sprintf("%s at %d, seed %d", c.Model, c.At, c.Seed) }

const rootID = 1

// image is a disk at rest.
type image struct {
	last  uint64
	nodes map[uint64]*imageNode
}

type imageNode struct {
	mode    uint32
	target  string
	data    []byte // durable
	entries map[string]uint64
	pending []event // writes and truncates since the last sync
}

func emptyImage() *image {
	return &image{last: rootID, nodes: map[uint64]*imageNode{
		rootID: {mode: syscall.S_IFDIR | 0o700, entries: map[string]uint64{}},
	}}
}

func (im *image) clone() *image {
	c := &image{last: im.last, nodes: make(map[uint64]*imageNode, len(im.nodes))}
	for id, n := range im.nodes {
		m := &imageNode{mode: n.mode, target: n.target, data: slices.Clone(n.data)}
		if n.entries != nil {
			m.entries = maps.Clone(n.entries)
		}
		c.nodes[id] = m
	}
	return c
}

// slot is one change of one name: it leads to node from now on, or nowhere (0).
type slot struct {
	dir     uint64
	name    string
	node    uint64
	durable bool
	seq     int // of the call
}

// change is what one call did to names.
type change []slot

// cutter goes through the log and knows at each moment what is durable.
type cutter struct {
	Cut
	im    *image
	names []change // not durable, or not all of it
	seq   int      // of the last change of names
	saved map[place]int
	rng   *rand.Rand
}

// place is where a name is. saved has the newest change of it that is in the image.
type place struct {
	dir  uint64
	name string
}

// cut returns a state that the disk may be found in. s.mu is held.
func (s *state) cut(c Cut) *image {
	k := &cutter{Cut: c, im: s.start.clone(), saved: map[place]int{}, rng: rand.New(rand.NewPCG(c.Seed, uint64(c.At)<<8|uint64(c.Model)))}
	for i, e := range s.log[:c.At] {
		if c.Model == Torn && i == c.At-1 && e.op == opWrite {
			// A write that a signal ends has taken whole pages.
			e.data = e.data[:min(len(e.data), k.rng.IntN(len(e.data)/4096+1)*4096)]
			if len(e.data) == 0 {
				continue
			}
		}
		k.step(e)
	}
	if c.Model == Ordered || c.Model == Posix {
		k.powerCut()
	}
	return k.im
}

func (k *cutter) step(e event) {
	im := k.im
	n := im.nodes[e.node]
	switch e.op {
	case opCreate:
		n = &imageNode{mode: e.mode, target: e.target}
		if e.mode&syscall.S_IFMT == syscall.S_IFDIR {
			n.entries = map[string]uint64{}
		}
		im.nodes[e.node], im.last = n, max(im.last, e.node)
		k.name(slot{dir: e.dir, name: e.name, node: e.node})
	case opLink:
		k.name(slot{dir: e.dir, name: e.name, node: e.node})
	case opRemove:
		k.name(slot{dir: e.dir, name: e.name})
	case opRename:
		k.name(slot{dir: e.dir2, name: e.name2, node: e.node}, slot{dir: e.dir, name: e.name})
	case opExchange:
		k.name(slot{dir: e.dir2, name: e.name2, node: e.node}, slot{dir: e.dir, name: e.name, node: e.other})
	case opMode:
		n.mode = e.mode
	case opWrite, opTruncate:
		if k.Model == Killed || k.Model == Torn {
			n.apply(e)
		} else {
			n.pending = append(n.pending, e)
		}
	case opSync:
		for _, p := range n.pending {
			n.apply(p)
		}
		n.pending = nil
		k.syncNames(e.node, n.entries != nil)
	case opSyncFail:
		if !e.kept {
			// What is on the disk of them is left to chance now, and to no later sync.
			k.settle(n)
		}
	}
}

func (n *imageNode) apply(e event) {
	if e.op == opTruncate {
		n.data = resize(n.data, e.off)
	} else {
		n.data = put(n.data, e.off, e.data)
	}
}

// set puts a change of a name into the image, unless a newer one is there.
func (k *cutter) set(s slot) {
	at := place{s.dir, s.name}
	if k.saved[at] > s.seq {
		return
	}
	k.saved[at] = s.seq
	entries := k.im.nodes[s.dir].entries
	if s.node == 0 {
		delete(entries, s.name)
	} else {
		entries[s.name] = s.node
	}
}

func (k *cutter) name(slots ...slot) {
	k.seq++
	for i := range slots {
		slots[i].seq = k.seq
	}
	if k.Model == Killed || k.Model == Torn {
		for _, s := range slots {
			k.set(s)
		}
		return
	}
	k.names = append(k.names, slots)
}

// syncNames makes names durable, as the model has it.
func (k *cutter) syncNames(id uint64, folder bool) {
	switch {
	case k.Model == Ordered:
		k.apply(len(k.names))
	case k.Model == Posix && folder:
		rest := k.names[:0]
		for _, c := range k.names {
			// The new name of a rename is saved with the loss of the old one, and a folder never has two.
			all := len(c) == 2 && (c[1].dir == id || c[0].dir == id && k.im.nodes[c[0].node].entries != nil)
			left := false
			for i := range c {
				if !c[i].durable && (all || c[i].dir == id) {
					c[i].durable = true
					k.set(c[i])
				}
				left = left || !c[i].durable
			}
			if left {
				rest = append(rest, c)
			}
		}
		k.names = rest
	}
}

// apply makes the first n changes of names durable.
func (k *cutter) apply(n int) {
	for _, c := range k.names[:n] {
		for _, s := range c {
			if !s.durable {
				k.set(s)
			}
		}
	}
	k.names = slices.Clone(k.names[n:])
}

// powerCut lets chance decide of all that is not durable.
func (k *cutter) powerCut() {
	// Also the extremes: nothing that was not synced, or all of it.
	switch names := k.rng.IntN(4); {
	case names == 0:
	case k.Model == Ordered:
		n := len(k.names)
		if names > 1 {
			n = k.rng.IntN(n + 1)
		}
		k.apply(n)
	default:
		for _, c := range k.names {
			folder := len(c) == 2 && k.im.nodes[c[0].node].entries != nil
			first := names == 1 || k.rng.IntN(2) == 0
			for i, s := range c {
				// A folder has one name, and a file that is renamed never none.
				if i == 1 && (c[0].durable && !folder || first && !folder && c[1].dir != c[0].dir) {
					first = names == 1 || k.rng.IntN(2) == 0
				}
				if !s.durable && first {
					k.set(s)
				}
			}
		}
	}
	data := k.rng.IntN(4)
	for _, id := range slices.Sorted(maps.Keys(k.im.nodes)) {
		n := k.im.nodes[id]
		switch data {
		case 0:
			n.pending = nil
		case 1:
			for _, p := range n.pending {
				n.apply(p)
			}
			n.pending = nil
		default:
			k.settle(n)
		}
	}
}

// settle lets chance decide of the bytes that are not durable.
func (k *cutter) settle(n *imageNode) {
	for _, e := range n.pending {
		what := k.rng.IntN(3)
		switch {
		case what == 0:
		case what == 1 || e.op == opTruncate:
			n.apply(e)
		default:
			for i := 0; i < len(e.data); {
				end := min(len(e.data), i+512-int((e.off+int64(i))%512))
				if k.rng.IntN(2) == 0 {
					n.data = put(n.data, e.off+int64(i), e.data[i:end])
				}
				i = end
			}
		}
	}
	n.pending = nil
}

// write puts the image into a folder of a real file system, which must be empty.
func (im *image) write(dir string) error {
	where := map[uint64]string{}
	var walk func(id uint64, path string) error
	walk = func(id uint64, path string) error {
		n := im.nodes[id]
		if had, ok := where[id]; ok {
			return os.Link(had, path)
		}
		where[id] = path
		switch n.mode & syscall.S_IFMT {
		case syscall.S_IFDIR:
			err := os.Mkdir(path, os.FileMode(n.mode&0o777))
			if err != nil && (id != rootID || !errors.Is(err, os.ErrExist)) {
				return err
			}
			for name, sub := range n.entries {
				if err := walk(sub, filepath.Join(path, name)); err != nil {
					return err
				}
			}
			return nil
		case syscall.S_IFLNK:
			return os.Symlink(n.target, path)
		default:
			return os.WriteFile(path, n.data, os.FileMode(n.mode&0o777))
		}
	}
	return walk(rootID, dir)
}

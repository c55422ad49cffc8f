package memtree

import (
	"slices"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// SneakPut makes the thing it.Path what it says and hold data, whatever is there, and makes its parents. It makes things of any kind. A person
// does so who uses the place by other means; a coarse clock, or a tool that sets times back, is one that keeps it.MTime.
func (t *Tree) SneakPut(it remote.Item, data []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, missing, err := t.find(it.Path)
	if err != nil {
		return err
	}
	for _, name := range missing {
		d := t.fresh(name, remote.Dir)
		a.dir().kids[t.key(name)] = d
		a.dirs, a.path = append(a.dirs, d), join(a.path, name)
		t.told(a.path)
	}
	version := t.version()
	if a.n == nil || a.n.item.Kind != it.Kind {
		if a.n != nil {
			t.toldAll(a.full(a.n.item.Path), a.n)
		}
		a.n = t.fresh(a.name, it.Kind)
		a.dir().kids[t.key(a.name)] = a.n
	}
	a.n.data, a.n.item.Size, a.n.item.Target = slices.Clone(data), int64(len(data)), it.Target
	if it.Kind != remote.Dir {
		a.n.item.Version = version
	}
	t.attributes(a.n, it)
	t.told(a.full(a.n.item.Path))
	return nil
}

// SneakRemove removes what is at path with all below it.
func (t *Tree) SneakRemove(path string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, _, err := t.find(path)
	if err != nil || a.n == nil {
		return err
	}
	t.drop(&a)
	return nil
}

// Forget makes every cursor one that the place does not know any more.
func (t *Tree) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seq++
	t.log, t.first = nil, t.seq
}

var (
	_ remote.Tree    = (*Tree)(nil)
	_ remote.Copier  = (*Tree)(nil)
	_ remote.Toucher = (*Tree)(nil)
)

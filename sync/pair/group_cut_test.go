package pair

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
)

var errCutOff = errors.New("there is no power")

// A supply is the power of two places and a database. It fails at one of the moments at which one of them makes something durable.
type supply struct {
	t *testing.T

	mu sync.Mutex
	at int // that moment; 0: none
	// late says that what has begun by then is done all the same, and that nobody is told.
	late   bool
	n      int
	off    bool
	refuse int // the transaction that the database refuses; 0: none
	// inside says that it does so at the end of the second step that it settles, and not of all.
	inside bool
	// begun and settled are the most journal entries that one transaction made, or took away; struck is how many steps the one settled that the failure met.
	begun, settled, struck int
}

// fails counts a moment. It reports whether what was to become durable does not, and whether the caller is told so.
func (s *supply) fails(steps int) (undone, untold bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.off {
		if s.n++; s.n != s.at {
			return false, false
		}
		s.off, s.struck = true, steps
	}
	return !s.late, true
}

func (s *supply) isOff() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.off
}

// A slowTree is a place in memory in which a change takes a while, and is durable only then.
type slowTree struct {
	*memtree.Tree
	s  *supply
	db *memkv.DB
}

// change makes one.
func (p *slowTree) change(do func() (remote.Item, error), paths ...string) (remote.Item, error) {
	if p.s.isOff() {
		return remote.Item{}, errCutOff
	}
	p.noted(paths)
	wait := 1000 * time.Microsecond
	for i, c := range []byte(paths[0]) { // each path its own, so that they do not all come at once
		wait += time.Duration(int(c)*(i+1)%97) * 11 * time.Microsecond
	}
	time.Sleep(wait)
	undone, untold := p.s.fails(1)
	if undone {
		return remote.Item{}, errCutOff
	}
	it, err := do()
	if untold {
		return remote.Item{}, errCutOff
	}
	return it, err
}

// noted fails unless a step that changes one of the paths, or what it is in, is in the journal.
func (p *slowTree) noted(paths []string) {
	if slices.ContainsFunc(paths, InHistory) && paths[0] == paths[len(paths)-1] {
		return // making room there
	}
	for kvp, err := range p.db.Scan(context.Background(), []byte("p/j"), []byte("p/k")) {
		var b begun
		if err == nil {
			err = json.Unmarshal(kvp.Value, &b)
		}
		if err != nil {
			p.s.t.Error(err)
			return
		}
		for _, path := range paths {
			if path == b.Path || path == b.From || b.From != "" && strings.HasPrefix(path, b.From+"/") || strings.HasPrefix(path, b.Path+"/") {
				return
			}
		}
	}
	p.s.t.Errorf("%q is changed, and no note in the database says so", paths)
}

func (p *slowTree) Put(ctx context.Context, it remote.Item, r io.Reader, known remote.Version) (remote.Item, error) {
	var body []byte
	if r != nil {
		var err error
		if body, err = io.ReadAll(r); err != nil {
			return remote.Item{}, err
		}
	}
	return p.change(func() (remote.Item, error) { return p.Tree.Put(ctx, it, bytes.NewReader(body), known) }, it.Path)
}

func (p *slowTree) Move(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	return p.change(func() (remote.Item, error) { return p.Tree.Move(ctx, from, to, known) }, from, to)
}

func (p *slowTree) Copy(ctx context.Context, from, to string, known remote.Version) (remote.Item, error) {
	return p.change(func() (remote.Item, error) { return p.Tree.Copy(ctx, from, to, known) }, from, to)
}

func (p *slowTree) Mkdir(ctx context.Context, path string, mode fs.FileMode) (remote.Item, error) {
	return p.change(func() (remote.Item, error) { return p.Tree.Mkdir(ctx, path, mode) }, path)
}

func (p *slowTree) Remove(ctx context.Context, path string, known remote.Version) error {
	_, err := p.change(func() (remote.Item, error) { return remote.Item{}, p.Tree.Remove(ctx, path, known) }, path)
	return err
}

func (p *slowTree) Touch(ctx context.Context, it remote.Item, known remote.Version) (remote.Item, error) {
	return p.change(func() (remote.Item, error) { return p.Tree.Touch(ctx, it, known) }, it.Path)
}

// A slowKV is a database whose transactions take a while, and are durable only then. It looks that none of them is ahead of the places.
type slowKV struct {
	*memkv.DB
	s    *supply
	tree [2]*memtree.Tree
}

func (d *slowKV) Update(ctx context.Context, fn func(kv.Tx) error) error {
	if d.s.isOff() {
		return errCutOff
	}
	untold := false
	err := d.DB.Update(ctx, func(tx kv.Tx) error {
		d.s.mu.Lock()
		d.s.refuse--
		refused := d.s.refuse == 0
		d.s.mu.Unlock()
		w := &watchedTx{Tx: tx, puts: map[string][]byte{}, refused: refused && d.s.inside}
		if err := fn(w); err != nil {
			return err
		}
		time.Sleep(9 * time.Millisecond)
		begun, settled := 0, 0
		for k, v := range w.puts {
			if strings.HasPrefix(k, "p/j") {
				if v != nil {
					begun++
				} else {
					settled++
				}
			}
		}
		d.s.mu.Lock()
		d.s.begun, d.s.settled = max(d.s.begun, begun), max(d.s.settled, settled)
		d.s.mu.Unlock()
		var undone bool
		if undone, untold = d.s.fails(settled); undone {
			return errCutOff
		}
		if refused && !d.s.inside {
			return errRefused
		}
		d.ahead(w.puts)
		return nil
	})
	if err == nil && untold {
		return errCutOff
	}
	return err
}

// ahead fails if the database says of a place what is not so there: a step is noted as done before it is.
func (d *slowKV) ahead(puts map[string][]byte) {
	has := func(s int, it *merge.Item) bool {
		now, err := d.tree[s].Stat(context.Background(), it.Path)
		if err != nil {
			return it.Kind == merge.Dir && !d.tree[s].Can().EmptyDirs
		}
		return string(now.Version) == it.Version || it.Kind == merge.Dir
	}
	for k, v := range puts {
		table := k[len("p/")]
		switch {
		case v == nil:
		case table == 'b':
			b, err := decodePair(v)
			if err != nil {
				d.s.t.Error(err)
			}
			for s := range 2 {
				if !has(s, &b.Item[s]) {
					d.s.t.Errorf("both are said to agree on %q, and the %s side does not have it so", b.Item[s].Path, merge.Side(s))
				}
			}
		case table == tables[0] || table == tables[1]:
			it, _, err := decodeItem(v)
			if err != nil {
				d.s.t.Error(err)
			}
			if s := slices.Index(tables[:], table); !has(s, &it) {
				d.s.t.Errorf("the %s side is said to have %q, and does not", merge.Side(s), it.Path)
			}
		}
	}
}

// A watchedTx notes what is written last under each key; nil: it is deleted.
type watchedTx struct {
	kv.Tx
	puts    map[string][]byte
	refused bool
	settled int
}

func (w *watchedTx) Put(key, value []byte) error {
	w.puts[string(key)] = append([]byte{}, value...)
	return w.Tx.Put(key, value)
}

func (w *watchedTx) Delete(key []byte) error {
	w.puts[string(key)] = nil
	if bytes.HasPrefix(key, []byte("p/j")) {
		if w.settled++; w.settled == 2 && w.refused {
			return errRefused
		}
	}
	return w.Tx.Delete(key)
}

// A cutWorld is a rule between two places of one power supply, and people who use them.
type cutWorld struct {
	t    *testing.T
	s    *supply
	tree [2]*memtree.Tree
	o    Options
	p    *Pair
	now  time.Time
}

func newCutWorld(t *testing.T, shape memtree.Options) *cutWorld {
	w := &cutWorld{t: t, s: &supply{t: t}, now: time.Date(2026, 12, 1, 4, 0, 0, 0, time.UTC)}
	db := memkv.New()
	w.o = Options{Prefix: "p/", Parallel: 8, Now: func() time.Time { return w.now }}
	for s := range 2 {
		of := shape
		of.Name = fmt.Sprint(s)
		if s == int(merge.Left) { // where people move directories
			of.NoDirMove, of.NoEmptyDirs = false, false
		}
		w.tree[s] = memtree.New(of)
		w.o.Tree[s] = &slowTree{Tree: w.tree[s], s: w.s, db: db}
	}
	w.o.KV = &slowKV{DB: db, s: w.s, tree: w.tree}
	return w
}

func (w *cutWorld) put(s merge.Side, path, body string) {
	w.now = w.now.Add(time.Second)
	if err := w.tree[s].SneakPut(remote.Item{Path: path, MTime: w.now}, []byte(body)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *cutWorld) move(s merge.Side, from, to string) {
	it, err := w.tree[s].Stat(context.Background(), from)
	if err == nil {
		_, err = w.tree[s].Move(context.Background(), from, to, it.Version)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// turn has one, of a rule that is opened for it: a process that was killed remembers nothing.
func (w *cutWorld) turn() (Report, error) {
	w.now = w.now.Add(time.Minute)
	if w.p == nil {
		var err error
		if w.p, err = Open(w.t.Context(), w.o); err != nil {
			return Report{}, err
		}
	}
	return w.p.Run(w.t.Context(), RunOptions{})
}

// files are the contents of a side by their paths; those of its history only if hist.
func (w *cutWorld) files(s merge.Side, hist bool) map[string]string {
	all := map[string]string{}
	changes, _ := w.tree[s].Changes(context.Background(), "")
	for c, err := range changes {
		if err != nil {
			w.t.Fatal(err)
		}
		if c.Kind != remote.File || InHistory(c.Path) != hist {
			continue
		}
		r, err := w.tree[s].Open(context.Background(), c.Path, 0, -1, "")
		if err != nil {
			w.t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			w.t.Fatal(err)
		}
		all[c.Path] = string(b)
	}
	return all
}

// people does what many steps follow from, of each kind and on both sides. It returns what both have to have then, and what has to be in a history.
func (w *cutWorld) people() (want map[string]string, kept []string) {
	const each = 3
	want = map[string]string{"away/file": "it stays"}
	w.put(merge.Left, "away/file", want["away/file"])
	for i := range each {
		for _, name := range []string{"edited", "deleted", "moved", "inside/folder", "still"} {
			w.put(merge.Side(i%2), fmt.Sprintf("%s%d", name, i), fmt.Sprintf("%s %d, as it was", name, i))
		}
	}
	if _, err := w.turn(); err != nil {
		w.t.Fatal(err)
	}
	if rep, err := w.turn(); err != nil || len(rep.Steps) > 0 {
		w.t.Fatalf("got %v and %q, want both to be alike", err, rep.Steps)
	}
	renamed := "inside" // where that is not one step, a failure in the middle of it is for the sides to settle, and not for a group
	if w.tree[merge.Right].Can().DirMove {
		renamed = "renamed"
		w.move(merge.Left, "inside", renamed)
	}
	for i := range each {
		s := merge.Side(i / 2 % 2)
		name := func(of string) string { return fmt.Sprintf("%s%d", of, i) }
		w.put(s, name("edited"), fmt.Sprintf("edited %d, and longer than it was", i))
		w.put(s, name("new"), fmt.Sprintf("new %d", i))
		w.move(s, name("moved"), name("away/moved"))
		if err := w.tree[s].SneakRemove(name("deleted")); err != nil {
			w.t.Fatal(err)
		}
		want[name("edited")], want[name("new")] = fmt.Sprintf("edited %d, and longer than it was", i), fmt.Sprintf("new %d", i)
		want[name("away/moved")], want[name(renamed+"/folder")] = fmt.Sprintf("moved %d, as it was", i), fmt.Sprintf("inside/folder %d, as it was", i)
		want[name("still")] = fmt.Sprintf("still %d, as it was", i)
		kept = append(kept, fmt.Sprintf("edited %d, as it was", i), fmt.Sprintf("deleted %d, as it was", i))
	}
	return want, kept
}

// rests fails unless turns come to an end at which both sides have what they have to, and what was replaced or removed is in a history.
func (w *cutWorld) rests(want map[string]string, kept []string) error {
	for n := 0; ; n++ {
		rep, err := w.turn()
		if err != nil {
			return err
		}
		if len(rep.Conflicts) > 0 || len(rep.Problems) > 0 {
			return fmt.Errorf("nobody has made conflicts or problems: %v, %v", rep.Conflicts, rep.Problems)
		}
		if len(rep.Steps) == 0 {
			break
		}
		if n == 3 {
			return fmt.Errorf("there is always more to do: %q", rep.Steps)
		}
	}
	hist := slices.Concat(slices.Collect(maps.Values(w.files(merge.Left, true))), slices.Collect(maps.Values(w.files(merge.Right, true))))
	for s := range merge.Side(2) {
		if got := w.files(s, false); !maps.Equal(got, want) {
			return fmt.Errorf("the %s side has %q,\nwant %q", s, got, want)
		}
	}
	for _, body := range kept {
		if !slices.Contains(hist, body) {
			return fmt.Errorf("no history has %q", body)
		}
	}
	for kvp, err := range w.o.KV.Scan(context.Background(), []byte("p/j"), []byte("p/k")) {
		return fmt.Errorf("the journal has %q still: %w", kvp.Value, err)
	}
	return w.numbered()
}

// numbered fails unless each pair has a number of its own, none of which will be given again.
func (w *cutWorld) numbered() error {
	last, err := w.o.KV.Get(context.Background(), []byte("p/mn"))
	if err != nil {
		return err
	}
	seen := map[uint64]string{}
	for b, err := range w.p.base(context.Background(), "", false) {
		switch {
		case err != nil:
			return err
		case seen[b.N] != "" || b.N > binary.BigEndian.Uint64(last):
			return fmt.Errorf("%q has the number %d, which %q has, or something will have", b.Item[0].Path, b.N, seen[b.N])
		}
		seen[b.N] = b.Item[0].Path
	}
	return nil
}

var cutShapes = map[string]memtree.Options{
	"all it takes":          {},
	"a folder":              {NoFeed: true},
	"a bucket":              {NoIDs: true, NoFeed: true, NoModes: true, NoEmptyDirs: true, NoDirMove: true, NoTouch: true},
	"neither IDs nor sums":  {NoIDs: true, NoFeed: true, NoHashes: true},
	"no copies of its own":  {NoCopy: true},
	"one that knows no dir": {NoDirMove: true, NoIDs: true},
}

// A failure of the power at any moment of a turn in which the notes of several steps go to the database together loses nothing, leaves nothing twice, and the next
// turns make both sides alike. No note is ever ahead of what it is of, and no step ahead of its note.
func TestGroup_SurvivesAFailureAtEachMoment(t *testing.T) {
	struck := 0
	for name, shape := range cutShapes {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, late %v", name, late), func(t *testing.T) {
				for at, on := 1, false; !on && !t.Failed(); at++ {
					if testing.Short() && at%5 != 0 {
						continue
					}
					synctest.Test(t, func(t *testing.T) {
						w := newCutWorld(t, shape)
						want, kept := w.people()
						w.s.n, w.s.at, w.s.late, w.s.begun, w.s.settled = 0, at, late, 0, 0
						_, err := w.turn()
						on = !w.s.off
						if on != (err == nil) {
							t.Errorf("off at %d: %v, and the turn ended with %v", at, !on, err)
						}
						if on && (w.s.begun < 2 || w.s.settled < 2) {
							t.Errorf("at most %d steps were begun and %d settled together: that proves nothing of groups", w.s.begun, w.s.settled)
						}
						if w.s.struck > 1 {
							struck++
						}
						w.s.at, w.s.off, w.p = 0, false, nil
						if err := w.rests(want, kept); err != nil {
							t.Errorf("the power failed at %d: %v", at, err)
						}
					})
				}
			})
		}
	}
	if !testing.Short() && struck < 2*len(cutShapes) {
		t.Errorf("%d failures met a transaction that settled several steps: that proves little", struck)
	}
}

// What the database refuses, in the middle of what it is to write or of all of it, fails for the steps whose notes it was of, and the same process makes it good.
func TestGroup_StepsOfARefusedTransactionAreMadeGood(t *testing.T) {
	for name, shape := range cutShapes {
		for _, inside := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, inside %v", name, inside), func(t *testing.T) {
				for nth, all := 1, false; !all && !t.Failed(); nth++ {
					synctest.Test(t, func(t *testing.T) {
						w := newCutWorld(t, shape)
						want, kept := w.people()
						w.s.refuse, w.s.inside = nth, inside
						_, _ = w.turn() // a later round of it may have made that good
						all, w.s.refuse = w.s.refuse > 0, 0
						if err := w.rests(want, kept); err != nil {
							t.Errorf("the database refused transaction %d: %v", nth, err)
						}
					})
				}
			})
		}
	}
}

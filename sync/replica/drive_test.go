package replica_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/evil"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
)

// An event is one blob put in the bucket of a real drive, or removed there.
type event struct {
	put  bool
	name blob.Name
	body []byte
}

// A story is how the bucket of a real drive with two devices came to be: all that was put and removed, in that order.
type story struct {
	events []event
	bodies map[blob.Name][]byte // of all that ever was
	last   map[blob.Name]bool   // what is there in the end
}

// theStory makes a small drive, once for all tests: two devices that write in turn, so that small packs are compacted and heads
// of both build on each other; and index blobs, which the Store would only write for more packs than these.
var theStory = sync.OnceValues(func() (*story, error) {
	rec := evil.NewRecorder(mem.New())
	if err := makeDrive(rec); err != nil {
		return nil, err
	}
	s := &story{bodies: map[blob.Name][]byte{}, last: map[blob.Name]bool{}}
	packs := 0
	for _, c := range rec.Calls() {
		switch c.Op {
		case "put":
			s.add(event{true, c.Name, c.Body})
			if strings.HasPrefix(string(c.Name), "packs/") {
				if packs++; packs%6 == 0 {
					s.addIndex(packs)
				}
			}
		case "remove":
			if s.last[c.Name] {
				s.add(event{false, c.Name, nil})
			}
		}
	}
	return s, nil
})

func (s *story) add(e event) {
	s.events = append(s.events, e)
	if e.put {
		s.bodies[e.name] = e.body
		s.last[e.name] = true
	} else {
		delete(s.last, e.name)
	}
}

// addIndex adds a generation of index blobs and removes the one before, as the Store does.
func (s *story) addIndex(no int) {
	var old []blob.Name
	for name := range s.last {
		if strings.HasPrefix(string(name), "index/") {
			old = append(old, name)
		}
	}
	for _, part := range []string{"00", "01", "root"} {
		body := bytes.Repeat([]byte{byte(no), part[1]}, 2048)
		s.add(event{true, blob.Name(fmt.Sprintf("index/%032x/%s", no, part)), body})
	}
	slices.Sort(old)
	for _, name := range old {
		s.add(event{false, name, nil})
	}
}

type home struct {
	ctx context.Context
	dir string
	b   blob.Bucket
}

func (h home) options(s sheaf.Secret) sheaf.Options {
	return sheaf.Options{Dir: h.dir, Bucket: h.b, Secret: s, DeviceName: filepath.Base(h.dir), Tree: live.Options{Idle: -1}}
}

func makeDrive(b blob.Bucket) (err error) {
	ctx := context.Background()
	dir, err := tempDir()
	if err != nil {
		return err
	}
	one := home{ctx, filepath.Join(dir, "one"), b}
	two := home{ctx, filepath.Join(dir, "two"), b}
	d, words, err := sheaf.Create(ctx, one.options(sheaf.Secret{}))
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 2))
	work := func(d *sheaf.Drive, who string) error {
		for i := range 9 {
			body := testkit.Random(r, 3000+r.IntN(20_000))
			if err := vfs.WriteFile(ctx, d.FS(), fmt.Sprintf("%s%d", who, i), body, vfs.New{Kind: vfs.KindFile, Mode: 0o644}); err != nil {
				return err
			}
			if err := d.Commit(ctx); err != nil {
				return err
			}
		}
		if _, err := d.GC(ctx, sheaf.GCOptions{}, nil); err != nil { // which waits for the compaction that is under way
			return err
		}
		return d.Close(ctx)
	}
	if err := work(d, "a"); err != nil {
		return err
	}
	e, err := sheaf.Join(ctx, two.options(sheaf.Secret{Recovery: words}), true)
	if err != nil {
		return err
	}
	if err := work(e, "b"); err != nil {
		return err
	}
	d, err = sheaf.Open(ctx, one.options(sheaf.Secret{}))
	if err != nil {
		return err
	}
	return work(d, "c")
}

func drive(t testing.TB) *story {
	t.Helper()
	s, err := theStory()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// at returns a bucket as it was after n events; all of them if n is negative.
func (s *story) at(t testing.TB, n int) *mem.Bucket {
	t.Helper()
	b := mem.New()
	if n < 0 {
		n = len(s.events)
	}
	for _, e := range s.events[:n] {
		apply(t, b, e)
	}
	return b
}

func apply(t testing.TB, b blob.Bucket, e event) {
	t.Helper()
	var err error
	if e.put {
		err = b.Put(context.Background(), e.name, bytes.NewReader(e.body), int64(len(e.body)))
	} else {
		err = b.Remove(context.Background(), e.name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// check fails the test if a blob of b has other bytes than the drive's (but for index blobs, which nobody can check without keys,
// and nobody needs), or if b has a head that refers to what is not there. What a head
// needs is known from the order in which the drive was written: at the moment of some event after it, all that was in the drive's
// bucket then, of packs, members, keys and drive records.
func (s *story) check(t testing.TB, what string, b blob.Bucket) {
	t.Helper()
	have := contents(t, b)
	for name, body := range have {
		if want, ok := s.bodies[name]; ok && !bytes.Equal(want, body) && !strings.HasPrefix(string(name), "index/") {
			t.Errorf("%s: %s has other bytes", what, name)
		} else if !ok {
			t.Errorf("%s: %s is none of the drive", what, name)
		}
	}
	s.checkNames(t, what, have)
}

// checkNames is the part of check that looks at names only.
func (s *story) checkNames(t testing.TB, what string, have map[blob.Name][]byte) {
	t.Helper()
	// lacking[i]: how many blobs that were there after event i b lacks.
	lacking := make([]int, len(s.events))
	n, there := 0, map[blob.Name]bool{}
	for i, e := range s.events {
		needed := !strings.HasPrefix(string(e.name), "heads/") && !strings.HasPrefix(string(e.name), "index/")
		if _, ok := have[e.name]; needed && !ok && there[e.name] != e.put {
			if e.put {
				n++
			} else {
				n--
			}
		}
		there[e.name] = e.put
		lacking[i] = n
	}
	seen := map[blob.Name]bool{}
	for i, e := range s.events {
		if _, ok := have[e.name]; !ok || !e.put || !strings.HasPrefix(string(e.name), "heads/") || seen[e.name] {
			continue
		}
		seen[e.name] = true
		if slices.Min(lacking[i:]) > 0 {
			t.Errorf("%s: %s refers to what is not there", what, e.name)
		}
	}
	// The heads of one device have no gap.
	last := ""
	for _, name := range slices.Sorted(keysOf(have)) {
		if strings.HasPrefix(string(name), "heads/") {
			if last != "" && last[:38] == string(name[:38]) && next(last) != string(name) {
				t.Errorf("%s: %s follows %s", what, name, last)
			}
			last = string(name)
		}
	}
}

// checkIndex fails the test if a root of index blobs is there without its shards.
func (s *story) checkIndex(t testing.TB, what string, b blob.Bucket) {
	t.Helper()
	have := contents(t, b)
	for name := range have {
		if gen, ok := strings.CutSuffix(string(name), "/root"); ok {
			for _, part := range []string{"/00", "/01"} {
				if _, ok := have[blob.Name(gen+part)]; !ok {
					t.Errorf("%s: %s is there without %s", what, name, part)
				}
			}
		}
	}
}

func next(head string) string {
	var seq uint64
	if _, err := fmt.Sscanf(head[len(head)-16:], "%x", &seq); err != nil {
		return ""
	}
	return fmt.Sprintf("%s%016x", head[:len(head)-16], seq+1)
}

func keysOf(m map[blob.Name][]byte) iter.Seq[blob.Name] {
	return func(yield func(blob.Name) bool) {
		for n := range m {
			if !yield(n) {
				return
			}
		}
	}
}

// contents returns all blobs of a bucket.
func contents(t testing.TB, b blob.Bucket) map[blob.Name][]byte {
	t.Helper()
	all := map[blob.Name][]byte{}
	for info, err := range b.List(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		p, err := blob.ReadAll(context.Background(), b, info.Name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		all[info.Name] = p
	}
	return all
}

// same fails the test unless to has all that from has, and with only nothing else.
func same(t testing.TB, what string, from, to blob.Bucket, only bool) {
	t.Helper()
	sameBut(t, what, from, to, only, false)
}

// sameBut is same; if somebody lied on the way, index blobs may have other bytes, and heads may be missing below the lowest of their device: a
// place that withholds a head and then leaves it out of a listing, too, has pruned it as far as anyone can see.
func sameBut(t testing.TB, what string, from, to blob.Bucket, only, lied bool) {
	t.Helper()
	a, b := contents(t, from), contents(t, to)
	for name, body := range a {
		if _, ok := b[name]; !bytes.Equal(b[name], body) && (!lied || !ok || !strings.HasPrefix(string(name), "index/")) {
			if lied && !ok && below(b, name) {
				continue
			}
			t.Errorf("%s: %s has %d bytes that are not the %d of its origin", what, name, len(b[name]), len(body))
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok && only {
			t.Errorf("%s: %s is there", what, name)
		}
	}
}

// below reports whether name is a head, and b has heads of its device which are all above it.
func below(b map[blob.Name][]byte, name blob.Name) bool {
	if !strings.HasPrefix(string(name), "heads/") {
		return false
	}
	above := false
	for n := range b {
		if strings.HasPrefix(string(n), string(name[:39])) {
			if above = true; n < name {
				return false
			}
		}
	}
	return above
}

// opens is what somebody with keys can tell: whether the bytes are those that the drive has under this name.
func (s *story) opens(name blob.Name, body []byte) error {
	if blake3.Sum256(s.bodies[name]) != blake3.Sum256(body) {
		return fs.ErrInvalid
	}
	return nil
}

// watched is the far side. It looks at itself after each change that brings a head or takes something away.
type watched struct {
	*mem.Bucket
	t    testing.TB
	s    *story
	what string
	mu   sync.Mutex
}

func (w *watched) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.Bucket.Put(ctx, name, r, size)
	if err == nil && strings.HasPrefix(string(name), "heads/") {
		w.look()
	}
	return err
}

func (w *watched) look() {
	have := map[blob.Name][]byte{}
	for info := range w.Bucket.List(context.Background(), "") {
		have[info.Name] = nil
	}
	w.s.checkNames(w.t, w.what, have)
}

func (w *watched) Remove(ctx context.Context, names ...blob.Name) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names { // one by one, as a place may be cut off in between
		if err := w.Bucket.Remove(ctx, name); err != nil {
			return err
		}
		w.look()
	}
	return nil
}

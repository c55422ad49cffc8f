//go:build linux

package powerloss

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs"
)

// workload is what is done to a drive on a disk that remembers.
type workload struct {
	name string
	run  func(w *world, r *rand.Rand, long bool)
}

const record = 128 << 10 // the largest write that is one record

// workloads are those of the proofs. Each syncs something. All but the first begin with a drive that is there.
var workloads = []workload{
	{"create a drive", func(w *world, r *rand.Rand, _ bool) {
		w.create()
		w.put("a", testkit.Random(r, 100))
		w.sync("a")
	}},
	{"create, write and sync small files", func(w *world, r *rand.Rand, _ bool) {
		for i := range 12 {
			name := fmt.Sprintf("f%d", i)
			w.put(name, testkit.Random(r, r.IntN(9000)+1))
			w.sync(name)
			if i == 7 {
				w.commit()
			}
		}
	}},
	{"replace by rename", func(w *world, r *rand.Rand, _ bool) {
		for i := range 8 {
			w.put("new", testkit.Random(r, 3000+i))
			w.sync("new")
			w.rename("new", "file", vfs.RenameReplace)
			if i%2 == 0 {
				w.sync("/")
			}
			if i == 4 {
				w.commit()
			}
		}
	}},
	{"append to a log", func(w *world, r *rand.Rand, _ bool) {
		w.file("log")
		off := 0
		for i := range 20 {
			line := testkit.Random(r, 200+r.IntN(6000))
			w.write("log", line, int64(off))
			off += len(line)
			w.sync("log")
			if i%8 == 7 {
				w.commit()
			}
		}
	}},
	{"overwrite in place", func(w *world, r *rand.Rand, _ bool) {
		w.put("db", testkit.Random(r, 100_000))
		w.commit()
		for i := range 14 {
			w.write("db", testkit.Random(r, 4096), int64(r.IntN(24))*4096)
			w.sync("db")
			if i == 6 {
				w.commit()
			}
		}
		w.commit()
	}},
	{"truncate and extend", func(w *world, r *rand.Rand, _ bool) {
		w.put("f", testkit.Random(r, 50_000))
		w.sync("f")
		for i, size := range []int64{10_000, 0, 70_000, 5, 100_000, 40_000} {
			w.with(fmt.Sprintf("truncate to %d", size), "f", func(ctx context.Context, h vfs.Handle) error { return h.Truncate(ctx, size) })
			w.sync("f")
			w.write("f", testkit.Random(r, 300), size/2)
			if i%2 == 0 {
				w.commit()
			}
		}
		w.syncAll()
	}},
	{"holes", func(w *world, r *rand.Rand, _ bool) {
		w.file("sparse")
		for i := range 6 {
			w.write("sparse", testkit.Random(r, 5000), int64(i)*100_000)
		}
		w.sync("sparse")
		w.commit()
		for i := range 6 {
			off := int64(r.IntN(500_000))
			w.with(fmt.Sprintf("punch at %d in", off), "sparse", func(ctx context.Context, h vfs.Handle) error {
				return h.Allocate(ctx, vfs.AllocPunch, off, 30_000)
			})
			w.sync("sparse")
			if i == 3 {
				w.commit()
			}
		}
	}},
	{"trees of folders", func(w *world, r *rand.Rand, _ bool) {
		for i := range 4 {
			top := fmt.Sprintf("d%d", i)
			w.dir(top)
			w.dir(top + "/in")
			w.put(top+"/in/f", testkit.Random(r, 500))
			w.sync(top + "/in/f")
			if i == 1 {
				w.commit()
			}
		}
		for i := range 3 {
			top := fmt.Sprintf("d%d", i)
			w.remove(top+"/in/f", false)
			w.remove(top+"/in", true)
			w.remove(top, true)
			w.sync("/")
		}
		w.commit()
	}},
	{"hard links", func(w *world, r *rand.Rand, _ bool) {
		w.put("a", testkit.Random(r, 7000))
		w.dir("d")
		w.link("a", "b")
		w.link("b", "d/c")
		w.sync("a")
		w.commit()
		w.write("d/c", testkit.Random(r, 100), 50)
		w.sync("d/c")
		w.remove("a", false)
		w.link("b", "e")
		w.sync("/")
		w.commit()
		w.remove("b", false)
		w.write("e", testkit.Random(r, 100), 6000)
		w.syncAll()
	}},
	{"symbolic links and attributes", func(w *world, r *rand.Rand, _ bool) {
		w.put("f", testkit.Random(r, 100))
		for i := range 5 {
			w.make(fmt.Sprintf("l%d", i), vfs.New{Kind: vfs.KindLink, Mode: 0o777, Target: fmt.Sprintf("to/%d", i)})
			w.node(fmt.Sprintf("attribute %d of", i), "f", func(ctx context.Context, n vfs.Node) error {
				return n.SetXattr(ctx, fmt.Sprintf("user.%d", i), []byte{byte(i)}, vfs.XattrAny)
			})
			w.node(fmt.Sprintf("mode %d of", i), "f", func(ctx context.Context, n vfs.Node) error {
				_, err := n.SetAttr(ctx, vfs.AttrChange{Set: vfs.SetMode, Mode: vfs.Mode(0o600 + i)})
				return err
			})
			w.sync("f")
			if i == 2 {
				w.commit()
			}
		}
		w.node("drop attribute of", "f", func(ctx context.Context, n vfs.Node) error { return n.RemoveXattr(ctx, "user.1") })
		w.remove("l2", false)
		w.syncAll()
	}},
	{"remove while it is open", func(w *world, r *rand.Rand, _ bool) {
		w.put("stays", testkit.Random(r, 1000))
		for i := range 4 {
			w.put("goes", testkit.Random(r, 20_000))
			w.sync("goes")
			n, err := vfs.OpenPath(w.t.Context(), w.d.FS(), "goes", vfs.OpenRead|vfs.OpenWrite)
			if err != nil {
				w.t.Fatal(err)
			}
			w.remove("goes", false)
			if _, err := n.WriteAt(w.t.Context(), testkit.Random(r, 5000), 100); err != nil {
				w.t.Fatal(err)
			}
			w.sync("/")
			if i == 2 {
				w.commit()
			}
			w.write("stays", testkit.Random(r, 10), int64(i))
			w.sync("stays")
			if err := n.Close(w.t.Context()); err != nil {
				w.t.Fatal(err)
			}
		}
		w.commit()
	}},
	{"rename folders", func(w *world, r *rand.Rand, _ bool) {
		w.dir("a")
		w.dir("b")
		w.put("a/f", testkit.Random(r, 2000))
		w.sync("a/f")
		w.commit()
		w.rename("a", "b/a", vfs.RenameReplace)
		w.sync("b")
		w.write("b/a/f", testkit.Random(r, 10), 0)
		w.sync("b/a/f")
		w.rename("b", "c", vfs.RenameReplace)
		w.put("c/g", testkit.Random(r, 2000))
		w.dir("x")
		w.rename("c", "x", vfs.RenameExchange)
		w.sync("/")
		w.commit()
		w.rename("x/a/f", "f", vfs.RenameReplace)
		w.syncAll()
	}},
	{"a big file", func(w *world, r *rand.Rand, long bool) {
		size := int64(3 << 20)
		if long {
			size = 40 << 20
		}
		w.file("big")
		for off := int64(0); off < size; off += record {
			w.write("big", testkit.Random(r, record), off)
			switch {
			case off/record%64 == 10:
				w.sync("big")
			case off/record%64 == 20:
				w.commit()
			}
		}
		w.sync("big")
		w.commit()
	}},
	{"many small files", func(w *world, r *rand.Rand, long bool) {
		n := 60
		if long {
			n = 300
		}
		w.dir("d")
		for i := range n {
			w.put(fmt.Sprintf("d/%d", i), testkit.Text(r, r.IntN(3000)))
			if i%20 == 19 {
				w.commit()
			}
		}
		w.syncAll()
	}},
	{"snapshots", func(w *world, r *rand.Rand, _ bool) {
		for i := range 4 {
			w.put(fmt.Sprintf("f%d", i), testkit.Random(r, 3000))
			w.sync(fmt.Sprintf("f%d", i))
			w.snapshot(fmt.Sprintf("s%d", i))
			if i == 2 {
				w.remove("f0", false)
				w.drop("s1")
			}
		}
		w.drop("s0")
	}},
	{"collect garbage", func(w *world, r *rand.Rand, _ bool) {
		for i := range 3 {
			for k := range 4 {
				name := fmt.Sprintf("g%d-%d", i, k)
				w.put(name, testkit.Random(r, 20_000))
				w.sync(name)
			}
			w.snapshot(fmt.Sprint("s", i))
			w.remove(fmt.Sprintf("g%d-0", i), false)
			w.remove(fmt.Sprintf("g%d-2", i), false)
			w.commit()
			w.drop(fmt.Sprint("s", i))
			w.act("collect", func(ctx context.Context) error { _, err := w.d.GC(ctx, sheaf.GCOptions{}, nil); return err })
		}
	}},
	{"compact small packs", func(w *world, r *rand.Rand, _ bool) {
		for i := range 30 {
			w.put(fmt.Sprint("p", i), testkit.Random(r, 1000))
			w.commit()
		}
		w.act("collect", func(ctx context.Context) error { _, err := w.d.GC(ctx, sheaf.GCOptions{}, nil); return err })
		w.write("p3", testkit.Random(r, 10), 0)
		w.sync("p3")
	}},
	{"change the passphrase", func(w *world, r *rand.Rand, _ bool) {
		w.put("f", testkit.Random(r, 100))
		w.sync("f")
		for i, p := range []string{"first", "second", "", "third"} {
			s := sheaf.Secret{Passphrase: []byte(p)}
			if p == "" {
				s = sheaf.Secret{}
			}
			w.passphrase(s)
			w.write("f", testkit.Random(r, 10), int64(i))
			w.sync("f")
		}
	}},
	{"restore from the history", func(w *world, r *rand.Rand, _ bool) {
		w.put("f", testkit.Random(r, 150_000)[:record])
		w.snapshot("old")
		w.write("f", testkit.Random(r, 5000), 100)
		w.commit()
		w.file("restored")
		k, err := w.d.Resolve(w.t.Context(), "old")
		if err != nil {
			w.t.Fatal(err)
		}
		past, err := w.d.At(w.t.Context(), k)
		if err != nil {
			w.t.Fatal(err)
		}
		data, err := vfs.ReadFile(w.t.Context(), past, "f", record)
		if err != nil {
			w.t.Fatal(err)
		}
		w.write("restored", data, 0)
		w.sync("restored")
		w.rename("restored", "f", vfs.RenameReplace)
		w.sync("/")
		w.commit()
	}},
	{"roll the journal and replay it", func(w *world, r *rand.Rand, _ bool) {
		for i := range 14 {
			w.put(fmt.Sprint("j", i), testkit.Random(r, 60_000))
			if i%3 == 2 {
				w.sync(fmt.Sprint("j", i))
			}
			if i == 8 {
				w.reopen()
			}
		}
		w.syncAll()
		w.reopen()
		w.write("j0", testkit.Random(r, 10), 0)
		w.sync("j0")
	}},
	{"random writes", func(w *world, r *rand.Rand, _ bool) {
		w.put("m", testkit.Random(r, 64<<10))
		for i := range 40 {
			w.write("m", testkit.Random(r, 4096), int64(r.IntN(64))*4096)
			if i%7 == 6 {
				w.sync("m")
			}
			if i%20 == 19 {
				w.commit()
			}
		}
		w.sync("m")
	}},
	{"mixed", func(w *world, r *rand.Rand, long bool) {
		n := 60
		if long {
			n = 200
		}
		mixed(w, r, n)
	}},
}

// mixed does n steps of all kinds.
func mixed(w *world, r *rand.Rand, n int) { more(w, r, n, nil) }

// more is mixed with files that are there; it returns those that are there at the end.
func more(w *world, r *rand.Rand, n int, names []string) []string {
	w.round++
	pick := func() string { return names[r.IntN(len(names))] }
	for i := range n {
		if len(names) < 3 || r.IntN(4) == 0 {
			name := fmt.Sprintf("x%d-%d", w.round, i)
			if w.put(name, testkit.Random(r, 1+r.IntN(20_000))) {
				names = append(names, name)
			}
			continue
		}
		switch k := r.IntN(10); {
		case k < 3:
			w.write(pick(), testkit.Random(r, 1+r.IntN(8000)), int64(r.IntN(30_000)))
		case k < 5:
			w.sync(pick())
		case k == 5:
			w.commit()
		case k == 6:
			at := r.IntN(len(names))
			to := fmt.Sprintf("y%d-%d", w.round, i)
			if w.rename(names[at], to, vfs.RenameReplace) {
				names[at] = to
			}
		case k == 7:
			at := r.IntN(len(names))
			if w.remove(names[at], false) {
				names = append(names[:at], names[at+1:]...)
			}
		case k == 8:
			w.syncAll()
		default:
			size := int64(r.IntN(40_000))
			w.with(fmt.Sprintf("truncate to %d", size), pick(), func(ctx context.Context, h vfs.Handle) error { return h.Truncate(ctx, size) })
		}
	}
	return names
}

// reopen closes the drive without a commit, and opens it again.
func (w *world) reopen() {
	w.t.Helper()
	done, cancel := context.WithCancel(w.t.Context())
	cancel()
	if err := w.d.close(done); err != nil && !errors.Is(err, context.Canceled) {
		w.t.Fatalf("close: %v", err)
	}
	w.saved(w.last())
	d, err := openDrive(w.t.Context(), w.home, w.secrets[len(w.secrets)-1], nil)
	if err != nil {
		w.t.Fatalf("open again: %v", err)
	}
	w.d = d
}

// start runs a workload to its end and closes the drive.
func start(t testing.TB, l workload, seed int64, long bool) *world {
	t.Helper()
	w := newWorld(t)
	if l.name != workloads[0].name {
		w.create()
	}
	w.run(l, seed, long)
	return w
}

// run does a workload on the open drive, and closes that.
func (w *world) run(l workload, seed int64, long bool) {
	w.t.Helper()
	l.run(w, testkit.Rand(seed), long)
	if err := w.d.close(w.t.Context()); err != nil {
		w.t.Fatalf("close: %v", err)
	}
	w.saved(w.last())
}

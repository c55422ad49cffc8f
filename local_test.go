package sheaf

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/vfs/live/journal"
)

// childEnv has the folder of a home for TestLocal_Child.
const childEnv = "SHEAF_TEST_HOME"

// TestLocal_Child is run by TestLocal_DamagedDatabaseLosesNothing in a process of its own: it opens a home, says what
// is in the tree, and goes on with it.
func TestLocal_Child(t *testing.T) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		t.Skip("has no home of its own")
	}
	h := &home{t: t, dir: filepath.Join(dir, "home"), bucket: filepath.Join(dir, "store")}
	d := h.open(Secret{})
	s, err := stateOf(t.Context(), d.FS())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("state %x of %s\n", s.sum(), d.Info().Device)
	write(t, d.FS(), "after", []byte("after"))
	commit(t, d)
	clean(t, d)
	closeDrive(t, d)
}

// sum is a hash of all that the tree has.
func (s state) sum() [32]byte {
	h := blake3.New()
	for _, p := range slices.Sorted(maps.Keys(s)) {
		_, _ = fmt.Fprintf(h, "%q %q\n", p, s[p])
	}
	return [32]byte(h.Sum(nil))
}

// G6: bit rot in the local database. It is mended, or built anew and the device goes on as a new one: what was committed,
// and what is in the journal only, is all there. Of damage that pebble does not expect the process may die, and is started again: see pebblekv.
func TestLocal_DamagedDatabaseLosesNothing(t *testing.T) {
	h := newHome(t)
	rng := testkit.Rand(testkit.Seed(t))
	d, _ := h.create(Secret{})
	write(t, d.FS(), "committed", testkit.Random(rng, 100_000))
	write(t, d.FS(), "dir", []byte("x"))
	commit(t, d)
	closeDrive(t, d)
	d = h.open(Secret{})
	for i := range 4 { // the journal is trimmed each time, so an older state of the database does not fit it
		write(t, d.FS(), "committed", testkit.Random(rng, 50_000+i))
		write(t, d.FS(), fmt.Sprint(i), []byte("x"))
		commit(t, d)
	}
	write(t, d.FS(), "journaled", []byte("in the journal only"))
	s, err := stateOf(t.Context(), d.FS())
	if err != nil {
		t.Fatal(err)
	}
	want, device := fmt.Sprintf("state %x of ", s.sum()), d.Info().Device
	// A kill leaves what lies there now.
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(filepath.Dir(h.dir))); err != nil {
		t.Fatal(err)
	}
	drop(t, d)
	rounds := 8
	if long() {
		rounds = 300
	}
	anew, died := 0, 0
	for range rounds {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(killed)); err != nil {
			t.Fatal(err)
		}
		what := damageOne(t, filepath.Join(dir, "home", "kv"), rng.IntN)
		var out []byte
		for try := range 5 {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLocal_Child$", "-test.count=1")
			child.Env = append(os.Environ(), childEnv+"="+dir)
			if out, err = child.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("panic: ")) {
				break
			}
			if try == 0 {
				died++
			}
		}
		if err != nil || !bytes.Contains(out, []byte(want)) {
			t.Errorf("%s: %v, want %s\n%.3000s", what, err, want, out)
		}
		if !bytes.Contains(out, []byte(device)) {
			anew++
		}
	}
	t.Logf("damaged %d times: a new device %d times, the process died first %d times", rounds, anew, died)
}

// A database that is of an earlier build, or whose tables turn out to be damaged only when something is read from them, is put
// aside and built anew, and the drive opens with all that was in it.
func TestLocal_DatabaseThatCannotBeUsedIsPutAside(t *testing.T) {
	h := newHome(t)
	d, _ := h.create(Secret{})
	write(t, d.FS(), "file", []byte("content"))
	commit(t, d)
	want, err := stateOf(t.Context(), d.FS())
	if err != nil {
		t.Fatal(err)
	}
	closeDrive(t, d)
	closeDrive(t, h.open(Secret{})) // what was in the log of the database lies in a table now
	dir := filepath.Join(h.dir, "kv")
	for _, c := range []struct {
		name  string
		spoil func() error
	}{
		{"damaged tables", func() error {
			tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
			if err == nil && len(tables) == 0 {
				err = errors.New("there are no tables")
			}
			for _, name := range tables {
				var p []byte
				if p, err = os.ReadFile(name); err != nil {
					return err
				}
				p[100] ^= 1
				err = errors.Join(err, os.WriteFile(name, p, 0o600))
			}
			return err
		}},
		{"badger", func() error {
			err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700))
			for _, name := range []string{"000001.sst", "00002.mem", "000001.vlog", "DISCARD", "KEYREGISTRY", "MANIFEST", "LOCK", "SHEAF-LOCK"} {
				err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte("of badger"), 0o600))
			}
			return err
		}},
	} {
		if err := errors.Join(os.RemoveAll(dir+".damaged"), c.spoil()); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		d := h.open(Secret{})
		got, err := stateOf(t.Context(), d.FS())
		if err != nil || got.differs(want) != nil {
			t.Errorf("%s: %v, %v", c.name, err, got.differs(want))
		}
		write(t, d.FS(), "more", []byte(c.name))
		commit(t, d)
		if want, err = stateOf(t.Context(), d.FS()); err != nil {
			t.Fatal(err)
		}
		closeDrive(t, d)
		if _, err := os.Stat(dir + ".damaged"); err != nil {
			t.Errorf("%s: the old database was not put aside: %v", c.name, err)
		}
		closeDrive(t, h.open(Secret{}))
	}
}

// damageOne flips some bits in one file of a folder, cuts it off or removes it.
func damageOne(t *testing.T, dir string, intn func(int) int) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return strings.Contains(e.Name(), "LOCK") })
	path := filepath.Join(dir, entries[intn(len(entries))].Name())
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(p, "\x00"))
	what := "flip in "
	switch k := intn(8); {
	case k == 0:
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return "removed " + path
	case k == 1:
		what, p = "cut in ", p[:intn(len(p)+1)]
	case used > 0:
		for range 1 + intn(3) {
			p[intn(used)] ^= 1 << intn(8)
		}
	}
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	return what + path
}

// G6: bit rot in the journal, through the drive: every flipped bit of what was synced is a typed error, and what is
// shown is right.
func TestLocal_DamagedJournalIsFound(t *testing.T) {
	v := newVillage(t)
	d := v.open()
	for _, name := range []string{"one", "two", "three"} {
		write(t, d.FS(), name, []byte(name))
	}
	if err := d.FS().Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	want, err := stateOf(t.Context(), d.FS())
	if err != nil {
		t.Fatal(err)
	}
	sound := v.wal.Clone()
	drop(t, d)
	names, err := sound.List()
	if err != nil {
		t.Fatal(err)
	}
	step := int64(97)
	if long() {
		step = 1
	}
	flips, found := 0, 0
	v.wal = sound
	for _, n := range names {
		f, err := sound.Open(n)
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		for bit := int64(0); bit < 8*size; bit += step {
			m := v.clone(v.store)
			if !m.wal.FlipBit(n, bit) {
				t.Fatalf("%s has no bit %d", n, bit)
			}
			flips++
			d, err := m.tryOpen()
			if err != nil {
				if !errors.Is(err, journal.ErrDamaged) {
					t.Errorf("%s, bit %d: %v, want ErrDamaged", n, bit, err)
				}
				found++
				continue
			}
			got, err := stateOf(t.Context(), d.FS())
			switch {
			case err != nil && !typed(err):
				t.Errorf("%s, bit %d: %v", n, bit, err)
			case err == nil && got.differs(want) != nil:
				t.Errorf("%s, bit %d: %v", n, bit, got.differs(want))
			case err != nil:
				found++
			}
			drop(t, d)
		}
	}
	t.Logf("%d bits of %d segments flipped, %d times refused", flips, len(names), found)
	if found == 0 {
		t.Error("no flip was noticed")
	}
}

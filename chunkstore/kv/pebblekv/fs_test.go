package pebblekv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// newTestFS returns a sealedFS on a disk in memory, and a function that reads and, with bytes that are not nil, replaces a file of it.
func newTestFS(t testing.TB) (*sealedFS, func(name string, p []byte) []byte) {
	t.Helper()
	mem := vfs.NewMem()
	if err := mem.MkdirAll(testDir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := newSealedFS(mem, testDir, testKey(1), newWALEnds(), func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			panic(err) // also in a fuzz target, where t is not to be used
		}
	}
	return s, func(name string, p []byte) []byte {
		path := mem.PathJoin(testDir, name)
		if p != nil {
			f, err := mem.Create(path, vfs.WriteCategoryUnspecified)
			must(err)
			_, err = f.Write(bytes.Clone(p))
			must(err)
			_ = f.Close()
			return p
		}
		f, err := mem.Open(path)
		must(err)
		defer f.Close()
		p, err = io.ReadAll(f)
		must(err)
		return p
	}
}

func (s *sealedFS) path(name string) string { return s.PathJoin(testDir, name) }

// writeFile writes the parts one by one. It syncs after those whose number is in syncs.
func (s *sealedFS) writeFile(t testing.TB, name string, parts [][]byte, syncs func(int) bool, end bool) {
	t.Helper()
	f, err := s.Create(s.path(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range parts {
		if _, err := f.Write(bytes.Clone(p)); err != nil {
			t.Fatal(err)
		}
		if syncs(i) {
			if err := f.SyncData(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if end {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.failed(); err != nil {
		t.Fatal(err)
	}
}

// readTable reads a whole table.
func (s *sealedFS) readTable(name string) ([]byte, error) {
	f, err := s.Open(s.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p := make([]byte, st.Size())
	if n, err := f.ReadAt(p, 0); err != nil && (n < len(p) || !errors.Is(err, io.EOF)) {
		return nil, err
	}
	return p, nil
}

// readLog reads a whole log, as another process would.
func (s *sealedFS) readLog(name string) ([]byte, error) {
	s.ends = newWALEnds()
	f, err := s.Open(s.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func never(int) bool { return false }

func TestTable_IsReadAnywhere(t *testing.T) {
	r := testkit.Rand(testkit.Seed(t))
	s, _ := newTestFS(t)
	for i, size := range []int{0, 1, plainBlock - 1, plainBlock, plainBlock + 1, 16 * plainBlock, 17*plainBlock + 5, 200_000} {
		name := fmt.Sprintf("%06d.sst", i)
		want := testkit.Random(r, size)
		var parts [][]byte
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(10_000))
			parts, rest = append(parts, rest[:n]), rest[n:]
		}
		s.writeFile(t, name, parts, never, true)
		if st, err := s.Stat(s.path(name)); err != nil || st.Size() != int64(size) {
			t.Errorf("table of %d bytes: stat says %v, error %v", size, st.Size(), err)
		}
		if got, err := s.readTable(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("table of %d bytes: got %d and error %v", size, len(got), err)
		}
		f, err := s.Open(s.path(name))
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			off, p := r.IntN(size+10), make([]byte, r.IntN(9000))
			n, err := f.ReadAt(p, int64(off))
			expect := want[min(off, size):min(off+len(p), size)]
			if !bytes.Equal(p[:n], expect) || (n < len(p)) != (err != nil) || err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("table of %d bytes: got %d bytes at %d and error %v, want %d", size, n, off, err, len(expect))
			}
		}
		_ = f.Close()
	}
}

// A table that was changed, in any bit, by a cut at any place, or by other blocks of the same disk, is damage.
func TestTable_ThatWasChangedIsDamage(t *testing.T) {
	r := testkit.Rand(testkit.Seed(t))
	s, file := newTestFS(t)
	want := testkit.Random(r, 3*plainBlock+100)
	s.writeFile(t, "000001.sst", [][]byte{want}, never, true)
	s.writeFile(t, "000002.sst", [][]byte{testkit.Random(r, len(want))}, never, true)
	sound, other := file("000001.sst", nil), file("000002.sst", nil)
	block := func(p []byte, i int) []byte { return p[headerSize+i*diskBlock:][:diskBlock] }
	try := func(what string, p []byte) {
		t.Helper()
		file("000001.sst", p)
		if got, err := s.readTable("000001.sst"); !errors.Is(err, kv.ErrDamaged) {
			t.Errorf("%s: got %d bytes and error %v, want ErrDamaged", what, len(got), err)
		}
	}
	for range 500 {
		p, bit := bytes.Clone(sound), r.IntN(8*len(sound))
		p[bit/8] ^= 1 << (bit % 8)
		try(fmt.Sprintf("bit %d", bit), p)
	}
	for n := range len(sound) {
		if n%61 == 0 || (n-headerSize)%diskBlock < 20 {
			try(fmt.Sprintf("cut to %d", n), sound[:n])
		}
	}
	try("longer", append(bytes.Clone(sound), 0))
	p := bytes.Clone(sound)
	copy(block(p, 0), block(sound, 1))
	try("a block twice", p)
	copy(p, sound)
	copy(block(p, 1), block(other, 1))
	try("a block of another table", p)
	try("another table", other)
	s.writeFile(t, "000003.log", [][]byte{want}, never, true)
	try("a log", file("000003.log", nil))
	file("000001.sst", sound)
	if got, err := s.readTable("000001.sst"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("sound again: got %d bytes and error %v", len(got), err)
	}
}

// A log that was changed is damage wherever a later frame knows that the place was durable; else it ends there.
func TestLog_TellsDamageFromItsEnd(t *testing.T) {
	r := testkit.Rand(testkit.Seed(t))
	for _, closed := range []bool{false, true} {
		s, file := newTestFS(t)
		const synced = 8 // of 12 parts
		var parts [][]byte
		var all []byte
		starts := []int{headerSize} // of frames, on disk
		durable := 0
		for i := range 12 {
			parts = append(parts, testkit.Random(r, 1+r.IntN(300)))
			all = append(all, parts[i]...)
			starts = append(starts, starts[i]+frameHeader+len(parts[i])+tagSize)
			if i < synced {
				durable = len(all)
			}
		}
		s.writeFile(t, "000001.log", parts, func(i int) bool { return i < synced }, closed)
		sound := file("000001.log", nil)
		try := func(what string, at int, p []byte) {
			t.Helper()
			file("000001.log", p)
			got, err := s.readLog("000001.log")
			frame, off := 0, 0
			for frame < len(parts) && starts[frame+1] <= at {
				off += len(parts[frame])
				frame++
			}
			// The sync is known to the frames after it only, and those of a cut are gone.
			known := off < durable && len(p) == len(sound) && at >= headerSize || at < headerSize && len(p) == len(sound)
			switch {
			case known && !errors.Is(err, kv.ErrDamaged):
				t.Errorf("%s, closed %v: got %d bytes and error %v, want ErrDamaged", what, closed, len(got), err)
			case !known && errors.Is(err, kv.ErrDamaged) && at < headerSize: // a header that is cut off
			case !known && (err != nil || !bytes.Equal(got, all[:off])):
				t.Errorf("%s, closed %v: got %d bytes and error %v, want %d", what, closed, len(got), err, off)
			}
		}
		for bit := 0; bit < 8*len(sound); bit += 1 + r.IntN(20) {
			p := bytes.Clone(sound)
			p[bit/8] ^= 1 << (bit % 8)
			try(fmt.Sprintf("bit %d", bit), bit/8, p)
		}
		for n := 0; n < len(sound); n += 1 + r.IntN(20) {
			try(fmt.Sprintf("cut to %d", n), n, sound[:n])
			zero := append(bytes.Clone(sound[:n]), make([]byte, len(sound)-n)...)
			if n >= starts[synced] {
				try(fmt.Sprintf("zero from %d on", n), n, zero)
			}
		}
		file("000002.log", sound)
		if _, err := s.readLog("000002.log"); !errors.Is(err, kv.ErrDamaged) {
			t.Errorf("under another name: got error %v, want ErrDamaged", err)
		}
	}
}

// What is cut off in the middle of Create is an empty log, and no damage.
func TestLog_ThatWasNotBegunIsEmpty(t *testing.T) {
	s, file := newTestFS(t)
	for _, n := range []int{0, 10, headerSize, 5000} {
		file("000001.log", make([]byte, n))
		if got, err := s.readLog("000001.log"); err != nil || len(got) > 0 {
			t.Errorf("%d zeros: got %d bytes and error %v", n, len(got), err)
		}
	}
	file("000001.log", append(make([]byte, headerSize), 1))
	if _, err := s.readLog("000001.log"); !errors.Is(err, kv.ErrDamaged) {
		t.Errorf("a frame behind no header: got error %v, want ErrDamaged", err)
	}
}

// Whatever is done to a file, what is read from it is what was written, from its beginning.
func FuzzSealedFS(f *testing.F) {
	r := testkit.Rand(1)
	s, file := newTestFS(f)
	want := testkit.Random(r, 2*plainBlock+10)
	s.writeFile(f, "000001.sst", [][]byte{want}, never, true)
	s.writeFile(f, "000001.log", [][]byte{want[:100], want[100:5000], want[5000:]}, func(i int) bool { return i == 0 }, true)
	sounds := [][]byte{file("000001.log", nil), file("000001.sst", nil)}
	f.Add(true, uint16(0), uint16(3), []byte("x"))
	f.Add(false, uint16(headerSize), uint16(0), []byte{0x5e, 0xa7, 0xf4, 0xa3, 0, 0, 0, 1})
	f.Add(false, uint16(0), uint16(0xffff), []byte{})
	f.Fuzz(func(t *testing.T, table bool, at, remove uint16, insert []byte) {
		sound, name := sounds[0], "000001.log"
		if table {
			sound, name = sounds[1], "000001.sst"
		}
		from := min(int(at), len(sound))
		to := min(from+int(remove), len(sound))
		p := append(append(bytes.Clone(sound[:from]), insert...), sound[to:]...)
		file(name, append([]byte{}, p...))
		read := s.readLog
		if table {
			read = s.readTable
		}
		got, err := read(name)
		if err != nil && !errors.Is(err, kv.ErrDamaged) {
			t.Fatalf("got error %v, want ErrDamaged", err)
		}
		if !bytes.HasPrefix(want, got) || table && err == nil && len(got) != len(want) {
			t.Fatalf("got %d bytes that were not written", len(got))
		}
	})
}

package pebblekv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/kv/kvtest"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

func testKey(k byte) []byte { return bytes.Repeat([]byte{k}, KeySize) }

func open(t testing.TB, dir string) *DB {
	t.Helper()
	d, err := Open(t.Context(), Options{Dir: dir, Key: testKey(1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

// fill sets n keys to v in one Update.
func fill(t testing.TB, d *DB, n int, v uint64) {
	t.Helper()
	if err := d.Update(t.Context(), filler(n, v)); err != nil {
		t.Fatal(err)
	}
}

func filler(n int, v uint64) func(kv.Tx) error {
	return func(tx kv.Tx) error {
		value := binary.BigEndian.AppendUint64(make([]byte, 56), v)
		for i := range n {
			if err := tx.Put([]byte(fmt.Sprintf("%032d", i)), value); err != nil {
				return err
			}
		}
		return nil
	}
}

// check returns the one value that all n keys have, or an error.
func check(t testing.TB, d *DB, n int) (uint64, error) {
	t.Helper()
	seen, first := 0, uint64(0)
	for p, err := range d.Scan(t.Context(), nil, nil) {
		if err != nil {
			return 0, err
		}
		v := binary.BigEndian.Uint64(p.Value[56:])
		if seen == 0 {
			first = v
		}
		if seen++; v != first {
			return 0, fmt.Errorf("pair %d is of update %d, others are of %d", seen, v, first)
		}
	}
	if seen != n {
		return 0, fmt.Errorf("got %d pairs, want %d", seen, n)
	}
	return first, nil
}

func TestDB(t *testing.T) {
	before := testkit.Goroutines(t)
	kvtest.Run(t, func(t *testing.T) kv.DB { return open(t, filepath.Join(t.TempDir(), "kv")) })
	before.Check(t)
}

func TestOpen_KeepsWhatWasStored(t *testing.T) {
	dir := t.TempDir()
	for v := uint64(1); v < 4; v++ {
		d := open(t, dir)
		if v > 1 {
			if got, err := check(t, d, 30_000); err != nil || got != v-1 {
				t.Fatalf("got update %d and error %v, want %d", got, err, v-1)
			}
		}
		fill(t, d, 30_000, v)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpen_WithAnotherKeyIsErrDamaged(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	fill(t, d, 100, 1)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: dir, Key: testKey(2)}); !errors.Is(err, kv.ErrDamaged) {
		t.Errorf("got error %v, want ErrDamaged", err)
	}
	if _, err := Open(t.Context(), Options{Dir: dir, Key: testKey(1)[:16]}); err == nil || errors.Is(err, kv.ErrDamaged) {
		t.Errorf("a short key: got error %v, want one that is not ErrDamaged", err)
	}
	if got, err := check(t, open(t, dir), 100); err != nil || got != 1 {
		t.Errorf("with the right key again: got update %d and error %v", got, err)
	}
}

// A folder that is in use must never look damaged: its owner would throw it away.
func TestOpen_TwiceIsErrLocked(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	for range 2 {
		if _, err := Open(t.Context(), Options{Dir: dir, Key: testKey(1)}); !errors.Is(err, kv.ErrLocked) || errors.Is(err, kv.ErrDamaged) {
			t.Errorf("got error %v, want ErrLocked", err)
		}
	}
	fill(t, d, 10, 1)
}

func TestDB_HidesWhatItHolds(t *testing.T) {
	dir := t.TempDir()
	canary := testkit.NewCanary(testkit.Rand(testkit.Seed(t)))
	d := open(t, dir)
	err := d.Update(t.Context(), func(tx kv.Tx) error {
		for i := range 30_000 {
			if err := tx.Put([]byte(canary.Text()+fmt.Sprint(i)), []byte(canary.Text())); err != nil {
				return err
			}
		}
		return tx.Put([]byte("big"), bytes.Repeat([]byte(canary.Text()), kv.MaxValue/len(canary.Text())))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	scan := func() {
		t.Helper()
		files := 0
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			files++
			p, err := os.ReadFile(path)
			if form := canary.Find(p); form != "" {
				t.Errorf("%s holds a key or value as %s", e.Name(), form)
			}
			return err
		})
		if err != nil || files < 3 {
			t.Errorf("read %d files, error %v", files, err)
		}
	}
	scan()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	scan()
}

// A database of badger lay in this place once. It is not read, and must not be taken for an empty one or be written to.
func TestOpen_OfAFolderOfBadgerIsErrDamaged(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"000001.sst", "00002.mem", "000001.vlog", "DISCARD", "KEYREGISTRY", "MANIFEST", "SHEAF-LOCK"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("of badger"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(t.Context(), Options{Dir: dir, Key: testKey(1)}); !errors.Is(err, kv.ErrDamaged) {
		t.Errorf("got error %v, want ErrDamaged", err)
	}
	if p, err := os.ReadFile(filepath.Join(dir, "000001.sst")); err != nil || string(p) != "of badger" {
		t.Errorf("got %q, error %v: the old files were touched", p, err)
	}
}

func TestLogger_SaysWhatPebbleSays(t *testing.T) {
	var buf bytes.Buffer
	l := logger{slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	l.Errorf("one %d\n", 1)
	l.Infof("two %d\n", 2)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("Fatalf has returned")
			}
		}()
		l.Fatalf("three")
	}()
	for _, want := range []string{"level=ERROR", `pebble="one 1"`, "level=DEBUG", `pebble="two 2"`} {
		if !strings.Contains(buf.String(), want) {
			t.Errorf("no %s in:\n%s", want, buf.String())
		}
	}
}

func TestDB_TrimForgetsBlocks(t *testing.T) {
	d := open(t, t.TempDir())
	fill(t, d, 200_000, 1)
	if err := d.cur.b.Flush(); err != nil {
		t.Fatal(err)
	}
	cached := func() int64 { return d.cur.b.Metrics().BlockCache.Size }
	if _, err := check(t, d, 200_000); err != nil {
		t.Fatal(err)
	}
	before := cached()
	d.Trim()
	if after := cached(); before < 4<<20 || after > 1<<20 {
		t.Errorf("%d bytes of blocks before, %d after", before, after)
	}
	if _, err := check(t, d, 200_000); err != nil {
		t.Fatal(err)
	}
	if again := cached(); again < before/2 {
		t.Errorf("after it was trimmed, the cache takes %d bytes only, %d before", again, before)
	}
}

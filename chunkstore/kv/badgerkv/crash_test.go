package badgerkv

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

const (
	childEnv   = "SHEAF_BADGERKV_TEST_CHILD"
	childPairs = 20_000 // two transactions of badger's
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		updateForEver(dir)
		return
	}
	if dir := os.Getenv(damageEnv); dir != "" {
		readAll(dir)
		return
	}
	if dir := os.Getenv(memoryEnv); dir != "" {
		fillMany(dir)
		return
	}
	os.Exit(m.Run())
}

// updateForEver makes big and small updates until it is killed, and says what has returned.
func updateForEver(dir string) {
	ctx := context.Background()
	d, err := Open(ctx, Options{Dir: dir, Key: testKey(1)})
	first := uint64(1)
	if err == nil {
		var v []byte
		if v, err = d.Get(ctx, []byte(fmt.Sprintf("%032d", 0))); err == nil {
			first = uint64(v[63]) | uint64(v[62])<<8 | uint64(v[61])<<16
			first++
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	for v := first; err == nil; v++ {
		if err = d.Update(ctx, filler(childPairs, v)); err == nil {
			fmt.Println("updated", v)
		}
	}
	fmt.Println("error", err)
	os.Exit(1)
}

// copyDir copies a database that is open: what a kill at this moment would leave behind. Badger
// goes on with its tables meanwhile, so a copy counts only if the list of tables is the same
// at its end.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	for {
		before := readFile(t, filepath.Join(from, "MANIFEST"))
		to := t.TempDir()
		entries, err := os.ReadDir(from)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			p, err := os.ReadFile(filepath.Join(from, e.Name()))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(to, e.Name()), p, 0o600)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(to, "MANIFEST"), before, 0o600); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(before, readFile(t, filepath.Join(from, "MANIFEST"))) {
			return to
		}
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A crash at each step of a big Update leaves all of it or none: all from the commit record on.
func TestUpdate_BigIsWholeAfterACrashAtEachStep(t *testing.T) {
	const n = 30_000
	dir := t.TempDir()
	d := open(t, dir)
	fill(t, d, n, 1)
	type crash struct {
		stage string
		dir   string
	}
	var crashes []crash
	seen := map[string]int{}
	d.stage = func(s string) {
		if seen[s]++; seen[s] <= 2 {
			crashes = append(crashes, crash{s, copyDir(t, dir)})
		}
	}
	fill(t, d, n, 2)
	d.stage = func(string) {}
	for _, s := range []string{"piece", "intent", "committed", "durable", "applied", "finished"} {
		if seen[s] == 0 {
			t.Errorf("the update did not come by %q", s)
		}
	}
	if seen["piece"] < 2 || seen["applied"] < 2 {
		t.Errorf("got %d pieces and %d transactions, want several", seen["piece"], seen["applied"])
	}
	committed := false
	for _, c := range crashes {
		committed = committed || c.stage == "committed"
		want := uint64(1)
		if committed {
			want = 2
		}
		for range 2 { // the second Open finds nothing left to do
			d := open(t, c.dir)
			if got, err := check(t, d, n); err != nil || got != want {
				t.Errorf("crash at %q: got update %d and error %v, want %d", c.stage, got, err, want)
			}
			if left := internalKeys(t, d); left > 0 {
				t.Errorf("crash at %q: %d keys of the intent are left", c.stage, left)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A second crash, in the middle of the recovery from the first, changes nothing.
func TestOpen_RecoversFromACrashOfItsRecovery(t *testing.T) {
	const n = 30_000
	dir := t.TempDir()
	d := open(t, dir)
	fill(t, d, n, 1)
	var crashed string
	d.stage = func(s string) {
		if s == "applied" && crashed == "" {
			crashed = copyDir(t, dir)
		}
	}
	fill(t, d, n, 2)
	for i := range 4 {
		// Recover as far as the i-th step, and crash again.
		d := &DB{dir: crashed, turn: make(chan struct{}, 1), closing: make(chan struct{})}
		var again string
		steps := 0
		d.stage = func(string) {
			if steps == i {
				again = copyDir(t, crashed)
			}
			steps++
		}
		if err := d.lockDir(); err != nil {
			t.Fatal(err)
		}
		if err := d.open(testKey(1), discard); err != nil {
			t.Fatal(err)
		}
		if err := d.recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if again == "" {
			break // the recovery has no more steps
		}
		if got, err := check(t, open(t, again), n); err != nil || got != 2 {
			t.Errorf("got update %d and error %v, want 2", got, err)
		}
		crashed = copyDir(t, again)
	}
}

func internalKeys(t *testing.T, d *DB) (n int) {
	t.Helper()
	txn := d.b.NewTransaction(false)
	defer txn.Discard()
	it := txn.NewIterator(iterateAll)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if it.Item().Key()[0] != prefixUser {
			n++
		}
	}
	return n
}

// After a kill at any moment, the database holds one whole update: the last that was
// acknowledged, or the one after it.
func TestDB_SurvivesKill(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	r := testkit.Rand(testkit.Seed(t))
	dir := t.TempDir()
	var acknowledged uint64
	for range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acks, after := 0, 1+r.IntN(3)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if acks++; acks == after {
				time.AfterFunc(time.Duration(r.IntN(400))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
			if strings.HasPrefix(lines.Text(), "error") {
				t.Fatalf("child: %s", lines.Text())
			}
			_, _ = fmt.Sscanf(lines.Text(), "updated %d", &acknowledged) // a line may be cut off
		}
		_ = cmd.Wait() // it was killed
		d, err := Open(t.Context(), Options{Dir: dir, Key: testKey(1)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := check(t, d, childPairs)
		if err != nil || got != acknowledged && got != acknowledged+1 {
			t.Fatalf("got update %d and error %v, want %d or the next", got, err, acknowledged)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d rounds, %d acknowledged updates", rounds, acknowledged)
}

// A kill leaves empty logs at times; they are not taken for damage.
func TestOpen_PassesOverEmptyLogs(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	fill(t, d, 100, 1)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"00007.mem", "000007.vlog"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := check(t, open(t, dir), 100); err != nil || got != 1 {
		t.Errorf("got update %d and error %v, want 1", got, err)
	}
}

// A commit record or an intent that makes no sense is damage, not a panic.
func TestOpen_OfADamagedIntentIsErrDamaged(t *testing.T) {
	record := func(id, pieces byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, id, 0, 0, 0, 0, 0, 0, 0, pieces} }
	for name, pairs := range map[string]map[string][]byte{
		"short record":  {"c": {1, 2, 3}},
		"missing piece": {"c": record(1, 2), string(intentKey(1, 0)): appendWrite(nil, write{"ua", nil})},
		"bad piece":     {"c": record(1, 1), string(intentKey(1, 0)): {200, 1, 2}},
		"foreign key":   {"c": record(1, 1), string(intentKey(1, 0)): appendWrite(nil, write{"cx", nil})},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := open(t, dir)
			if err := d.commit(pairs); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(t.Context(), Options{Dir: dir, Key: testKey(1)}); !errors.Is(err, kv.ErrDamaged) {
				t.Errorf("got error %v, want ErrDamaged", err)
			}
		})
	}
}

// A half-applied update stops the database until it is opened again, and is whole then.
func TestUpdate_BigThatFailsHalfWayIsWholeAfterOpen(t *testing.T) {
	const n = 30_000
	dir := t.TempDir()
	d := open(t, dir)
	fill(t, d, n, 1)
	d.stage = func(s string) {
		if s == "durable" { // from here on the folder cannot be synced
			if err := os.Rename(dir, dir+".away"); err != nil {
				t.Error(err)
			}
		}
	}
	if err := d.Update(t.Context(), filler(n, 2)); err == nil {
		t.Skip("this system syncs a folder that has been moved away")
	}
	if _, err := d.Get(t.Context(), []byte("x")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get from a half-applied database: got error %v", err)
	}
	for _, err := range d.Scan(t.Context(), nil, nil) {
		if err == nil {
			t.Error("scan of a half-applied database yields a pair")
		}
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := check(t, open(t, dir), n); err != nil || got != 2 {
		t.Errorf("got update %d and error %v, want 2", got, err)
	}
}

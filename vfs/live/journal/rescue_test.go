package journal

import (
	"bytes"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
)

var errBroken = errors.New("disk is broken")

// failing refuses the operations of these kinds until it is emptied.
func failing(d *MemDir, ops ...string) {
	d.Fail = func(op string) error {
		if slices.Contains(ops, op) {
			return errBroken
		}
		return nil
	}
}

func metas(all []got) (s []string) {
	for _, g := range all {
		s = append(s, g.meta)
	}
	return s
}

func appendMeta(t *testing.T, j *Journal, meta string) LSN {
	t.Helper()
	lsn, err := j.Append([]Record{{1, []byte(meta), []byte("data of " + meta)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// nothing is a source of chance that keeps nothing that was not synced.
func nothing() *mrand.Rand { return mrand.New(zeros{}) }

type zeros struct{}

func (zeros) Uint64() uint64 { return 1 << 63 } // IntN(2) is 1, IntN(3) is 1

// A sync fails once, and the system has dropped the bytes. They are written again before anything is acknowledged.
func TestJournal_GoesOnAfterAFailedSync(t *testing.T) {
	d := NewMemDir()
	j, _, _ := open(t, options(d, 0), 0)
	if err := j.Sync(appendMeta(t, j, "a")); err != nil {
		t.Fatal(err)
	}
	pos := make([]Pos, 1)
	if _, err := j.Append([]Record{{1, []byte("b"), []byte("data of b")}}, pos); err != nil {
		t.Fatal(err)
	}
	lsn := appendMeta(t, j, "c")
	fails := 1
	d.Fail = func(op string) error {
		if op == "sync" && fails > 0 {
			fails--
			return errBroken
		}
		return nil
	}
	if err := j.Sync(lsn); err != nil {
		t.Fatalf("the disk failed once only: %v", err)
	}
	p := make([]byte, 9)
	if err := j.ReadData(pos[0], p, 0); err != nil || string(p) != "data of b" {
		t.Errorf("read back: %q, %v", p, err)
	}
	_, all, _ := open(t, options(d.PowerCut(nothing()), 0), 0)
	if got := metas(all); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("after a power cut: %v", got)
	}
	if err := j.Sync(appendMeta(t, j, "d")); err != nil {
		t.Fatal(err)
	}
	_, all, _ = open(t, options(d.PowerCut(nothing()), 0), 0)
	if got := metas(all); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("after another power cut: %v", got)
	}
}

// While the disk is broken nothing is acknowledged; when it is whole, all goes on in the same Journal.
func TestJournal_HealsWithItsDisk(t *testing.T) {
	for _, ops := range [][]string{
		{"sync"},
		{"sync", "create"},
		{"sync", "write"},
		{"sync", "rename"},
		{"sync", "syncdir"},
		{"sync", "syncdir", "remove"},
		{"sync", "write", "wrote", "create", "rename", "remove", "syncdir"},
		{"sync", "wrote"},
	} {
		t.Run(fmt.Sprint(ops), func(t *testing.T) {
			d := NewMemDir()
			j, _, _ := open(t, options(d, 0), 0)
			if err := j.Sync(appendMeta(t, j, "a")); err != nil {
				t.Fatal(err)
			}
			lsn := appendMeta(t, j, "b")
			failing(d, ops...)
			for range 3 {
				if err := j.Sync(lsn); !errors.Is(err, ErrFailed) || !errors.Is(err, errBroken) {
					t.Fatalf("sync on a broken disk: %v", err)
				}
				if _, err := j.Append([]Record{{1, []byte("x"), nil}}, nil); !errors.Is(err, errBroken) {
					t.Fatalf("append on a broken disk: %v", err)
				}
				if _, err := j.Rotate(); !errors.Is(err, errBroken) {
					t.Fatalf("rotate on a broken disk: %v", err)
				}
			}
			// The death of the process now loses nothing.
			_, all, _ := open(t, options(d.Clone(), 0), 0)
			if got := metas(all); !slices.Equal(got, []string{"a", "b"}) {
				t.Errorf("after a kill: %v", got)
			}
			d.Fail = nil
			if err := j.Sync(appendMeta(t, j, "c")); err != nil {
				t.Fatalf("the disk is whole again: %v", err)
			}
			_, all, _ = open(t, options(d.PowerCut(nothing()), 0), 0)
			if got := metas(all); !slices.Equal(got, []string{"a", "b", "c"}) {
				t.Errorf("after a power cut: %v", got)
			}
		})
	}
}

// A write that failed may have got there all the same. What follows it in another shape is not mixed with it.
func TestJournal_AFailedWriteIsNoRecord(t *testing.T) {
	d := NewMemDir()
	j, _, _ := open(t, options(d, 0), 0)
	appendMeta(t, j, "a")
	failing(d, "wrote")
	batch := []Record{{1, []byte("b"), nil}, {1, []byte("c"), nil}}
	if _, err := j.Append(batch, nil); !errors.Is(err, errBroken) {
		t.Fatalf("append on a broken disk: %v", err)
	}
	d.Fail = nil
	lsn, err := j.Append([]Record{{1, []byte("B"), nil}}, nil)
	if err != nil || lsn != 2 {
		t.Fatalf("append after a failed one: record %d, %v", lsn, err)
	}
	_, all, _ := open(t, options(d.Clone(), 0), 0)
	if got := metas(all); !slices.Equal(got, []string{"a", "B"}) {
		t.Errorf("got %v, want a and B", got)
	}
	if err := j.Sync(appendMeta(t, j, "C")); err != nil {
		t.Fatal(err)
	}
	_, all, _ = open(t, options(d.PowerCut(nothing()), 0), 0)
	if got := metas(all); !slices.Equal(got, []string{"a", "B", "C"}) {
		t.Errorf("got %v, want a, B and C", got)
	}
}

// A process dies after a sync has failed. The next one finds the records in the system's memory, clean. When it
// calls them durable, they are.
func TestOpen_WritesAgainWhatAFailedSyncDropped(t *testing.T) {
	d := NewMemDir()
	j, _, _ := open(t, options(d, 0), 0)
	if err := j.Sync(appendMeta(t, j, "a")); err != nil {
		t.Fatal(err)
	}
	lsn := appendMeta(t, j, "b")
	failing(d, "sync", "create", "write")
	if err := j.Sync(lsn); err == nil {
		t.Fatal("a broken disk syncs")
	}
	d.Fail = nil
	k, all, _ := open(t, options(d, 0), 0)
	if got := metas(all); !slices.Equal(got, []string{"a", "b"}) {
		t.Fatalf("after a kill: %v", got)
	}
	if err := k.Sync(k.Last()); err != nil {
		t.Fatal(err)
	}
	_, all, _ = open(t, options(d.PowerCut(nothing()), 0), 0)
	if got := metas(all); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("after a power cut: %v", got)
	}
}

// What is in memory only of too many unsaved bytes is read back from the file; what is nowhere is an error and no loss of the rest.
func TestJournal_RescuesMoreThanItHolds(t *testing.T) {
	d := NewMemDir()
	j, _, _ := open(t, options(d, 4<<20), 0)
	var want []string
	var pos []Pos
	data := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	for i := range 200 { // 25 MiB
		want = append(want, strconv.Itoa(i))
		p := make([]Pos, 1)
		if _, err := j.Append([]Record{{1, []byte(want[i]), data}}, p); err != nil {
			t.Fatal(err)
		}
		pos = append(pos, p[0])
	}
	if got := j.holders * holdSize; got > holdLimit {
		t.Errorf("%d bytes are held", got)
	}
	fails := 1
	d.Fail = func(op string) error {
		if op == "sync" && fails > 0 {
			fails--
			return errBroken
		}
		return nil
	}
	if err := j.Sync(j.Last()); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, len(data))
	for i := range pos {
		if err := j.ReadData(pos[i], p, 0); err != nil || !bytes.Equal(p, data) {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	_, all, _ := open(t, options(d.PowerCut(nothing()), 0), 0)
	if !slices.Equal(metas(all), want) {
		t.Errorf("%d records, want %d", len(all), len(want))
	}
}

// G7: any operation fails at any time. What was acknowledged is there after a kill or a power cut, what is replayed is
// a prefix of what was appended, and a journal whose disk is whole again goes on.
func TestJournal_SurvivesFaultsAndCuts(t *testing.T) {
	rng := mrand.New(mrand.NewPCG(uint64(seed(t)), 9))
	rounds := 300
	if os.Getenv("SHEAF_LONG") != "" {
		rounds = 20_000
	}
	faults, healed := 0, 0
	for round := range rounds {
		d := NewMemDir()
		done := map[LSN]string{} // what Append has returned for
		synced, last, from := LSN(0), LSN(0), LSN(0)
		for crash := range 3 {
			d.Fail = nil
			j, all, _ := open(t, options(d, int64(500+rng.IntN(3000))), from)
			for _, g := range all {
				if want, ok := done[g.lsn]; g.lsn <= last && ok && g.meta != want {
					t.Fatalf("round %d crash %d: record %d is %q, want %q", round, crash, g.lsn, g.meta, want)
				}
				done[g.lsn] = g.meta
			}
			if last = j.Last(); last < synced {
				t.Fatalf("round %d crash %d: %d records, %d were synced", round, crash, last, synced)
			}
			bad := 0 // operations that fail from now on
			d.Fail = func(string) error {
				if bad == 0 && rng.IntN(40) == 0 {
					bad = 1 + rng.IntN(8)
				}
				if bad > 0 {
					bad--
					faults++
					return errBroken
				}
				return nil
			}
			for i := range rng.IntN(40) {
				meta := fmt.Sprint(round, crash, i)
				recs := []Record{{1, []byte(meta), make([]byte, rng.IntN(600))}}
				if rng.IntN(3) == 0 {
					recs = append(recs, Record{1, []byte(meta + "+"), nil})
				}
				lsn, err := j.Append(recs, nil)
				if err == nil {
					for k, r := range recs {
						done[lsn-LSN(len(recs)-1-k)] = string(r.Meta)
					}
					last = lsn
				}
				switch rng.IntN(4) {
				case 0:
					if err := j.Sync(last); err == nil {
						synced = max(synced, last)
					} else if !errors.Is(err, errBroken) {
						t.Fatal(err)
					}
				case 1:
					cut, err := j.Rotate()
					if err != nil && !errors.Is(err, errBroken) {
						t.Fatal(err)
					}
					if err == nil && rng.IntN(2) == 0 { // a commit: durable elsewhere
						from, synced = cut, max(synced, cut)
						if err := j.Trim(cut); err != nil && !errors.Is(err, errBroken) {
							t.Fatal(err)
						}
					}
				}
			}
			if rng.IntN(2) == 0 {
				d.Fail = nil
				if err := j.Sync(j.Last()); err != nil {
					t.Fatalf("round %d crash %d: the disk is whole: %v", round, crash, err)
				}
				synced = max(synced, last)
				healed++
			}
			d.Fail = nil
			if rng.IntN(3) == 0 {
				d = d.Clone()
				synced = max(synced, last) // the death of the process loses nothing
			} else {
				d = d.PowerCut(rng)
			}
			// What lies behind may be replaced by what comes after the crash.
			for lsn := range done {
				if lsn > synced {
					delete(done, lsn)
				}
			}
		}
	}
	if faults < rounds || healed == 0 {
		t.Errorf("%d faults in %d rounds: the test shows nothing", faults, rounds)
	}
	t.Logf("%d rounds, %d faults, %d times healed", rounds, faults, healed)
}

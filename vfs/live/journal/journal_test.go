package journal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func options(d Dir, size int64) Options {
	return Options{Dir: d, Key: [32]byte{1, 2, 3}, Entropy: rand.Reader, SegmentSize: size}
}

type got struct {
	lsn  LSN
	typ  Type
	meta string
	data string
}

func open(t *testing.T, o Options, from LSN) (*Journal, []got, []Pos) {
	t.Helper()
	var all []got
	var pos []Pos
	j, err := Open(t.Context(), o, from, func(r Replayed) error {
		all = append(all, got{r.LSN, r.Type, string(r.Meta), string(r.Data)})
		pos = append(pos, r.Pos)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return j, all, pos
}

func TestJournal_ReplaysWhatWasAppendedAndReadsItBack(t *testing.T) {
	for name, o := range map[string]Options{
		"memory":           options(NewMemDir(), 10_000),
		"disk":             options(OSDir(t.TempDir()+"/j"), 10_000),
		"disk, no AES":     {Dir: OSDir(t.TempDir() + "/x"), Suite: XChaCha},
		"memory, with AES": {Dir: NewMemDir(), Suite: AESGCM},
	} {
		t.Run(name, func(t *testing.T) {
			if o.Suite != 0 {
				suite := o.Suite
				o = options(o.Dir, 10_000)
				o.Suite = suite
			}
			j, all, _ := open(t, o, 0)
			if len(all) != 0 {
				t.Fatalf("new journal replays %d records", len(all))
			}
			var want []got
			for i := range 100 {
				data := bytes.Repeat([]byte{byte(i)}, i*37)
				pos := make([]Pos, 2)
				lsn, err := j.Append([]Record{{1, fmt.Appendf(nil, "m%d", i), data}, {2, nil, nil}}, pos)
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, got{lsn - 1, 1, fmt.Sprintf("m%d", i), string(data)}, got{lsn, 2, "", ""})
				if i%7 == 0 {
					if err := j.Sync(lsn); err != nil {
						t.Fatal(err)
					}
				}
				p := make([]byte, len(data)/2)
				if err := j.ReadData(pos[0], p, len(data)/3); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(p, data[len(data)/3:][:len(p)]) {
					t.Fatalf("record %d reads back other bytes", i)
				}
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			j, all, pos := open(t, o, 0)
			if !slices.Equal(all, want) {
				t.Fatalf("replayed %d records, want %d, or others", len(all), len(want))
			}
			p := make([]byte, len(all[40].data))
			if err := j.ReadData(pos[40], p, 0); err != nil || string(p) != all[40].data {
				t.Fatalf("replayed position reads other bytes: %v", err)
			}
			if _, err := j.Rotate(); err != nil {
				t.Fatal(err)
			}
			if err := j.Trim(want[150].lsn); err != nil {
				t.Fatal(err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			j, all, _ = open(t, o, want[150].lsn)
			if !slices.Equal(all, want[151:]) {
				t.Fatalf("after Trim replayed %d records, want %d", len(all), len(want)-151)
			}
			_ = j.Close()
		})
	}
}

func seed(t *testing.T) int64 {
	s := time.Now().UnixNano()
	if v := os.Getenv("SHEAF_SEED"); v != "" {
		s, _ = strconv.ParseInt(v, 10, 64)
	}
	t.Logf("SHEAF_SEED=%d", s)
	return s
}

// G5: unsynced writes are dropped, torn at 512 bytes and reordered. What was synced is
// there, what is replayed is a prefix of what was written, and a second crash changes nothing of that.
func TestJournal_PowerCutKeepsWhatWasSynced(t *testing.T) {
	rng := mrand.New(mrand.NewPCG(uint64(seed(t)), 1))
	rounds := 400
	if os.Getenv("SHEAF_LONG") != "" {
		rounds = 20_000
	}
	for round := range rounds {
		d := NewMemDir()
		o := options(d, int64(500+rng.IntN(5000)))
		written, synced, from := LSN(0), LSN(0), LSN(0)
		for crash := range 3 {
			o.Dir = d
			j, all, _ := open(t, o, from)
			for i, g := range all {
				if g.lsn <= from || i > 0 && g.lsn <= all[i-1].lsn || g.meta != strconv.FormatUint(g.lsn, 10) {
					t.Fatalf("round %d crash %d: replayed %v after %d", round, crash, g.lsn, from)
				}
			}
			last := j.Last()
			if last < synced {
				t.Fatalf("round %d crash %d: replayed up to %d, synced were %d", round, crash, last, synced)
			}
			// Every record but marks is replayed.
			written = last
			for range rng.IntN(30) {
				lsn := j.Last() + 1
				if _, err := j.Append([]Record{{1, []byte(strconv.FormatUint(lsn, 10)), make([]byte, rng.IntN(1500))}}, nil); err != nil {
					t.Fatal(err)
				}
				written = max(written, lsn)
				switch rng.IntN(6) {
				case 0:
					if err := j.Sync(lsn); err != nil {
						t.Fatal(err)
					}
					synced = max(synced, lsn)
				case 1:
					cut, err := j.Rotate()
					if err != nil {
						t.Fatal(err)
					}
					if rng.IntN(2) == 0 { // a commit: durable elsewhere
						from, synced = cut, max(synced, cut)
						if rng.IntN(2) == 0 {
							if err := j.Trim(cut); err != nil {
								t.Fatal(err)
							}
						}
					}
				}
			}
			if rng.IntN(4) == 0 {
				d = d.Clone()
				synced = j.Last() // the death of the process loses nothing
			} else {
				d = d.PowerCut(rng)
			}
		}
	}
}

// G6: one flipped bit in a durable record is never replayed as something else, and never passes unseen.
func TestJournal_EachFlippedBitOfADurableRecordIsFound(t *testing.T) {
	for _, suite := range []Suite{XChaCha, AESGCM} {
		t.Run(suite.magic(), func(t *testing.T) { flipEachBit(t, suite) })
	}
}

func flipEachBit(t *testing.T, suite Suite) {
	d := NewMemDir()
	o := options(d, 0)
	o.Suite = suite
	j, _, _ := open(t, o, 0)
	for i := range 5 {
		lsn, err := j.Append([]Record{{1, []byte{byte(i)}, bytes.Repeat([]byte("x"), 20)}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Sync(lsn); err != nil {
			t.Fatal(err)
		}
	}
	name := j.segs[0].name
	for bit := int64(0); ; bit++ {
		c := d.Clone()
		if !c.FlipBit(name, bit) {
			break
		}
		o.Dir = c
		n := 0
		k, err := Open(t.Context(), o, 0, func(r Replayed) error {
			if r.Type != 1 || len(r.Meta) != 1 || int(r.Meta[0]) != n || string(r.Data) != "xxxxxxxxxxxxxxxxxxxx" {
				t.Fatalf("bit %d: replayed a record that was not written", bit)
			}
			n++
			return nil
		})
		if err == nil {
			if n != 5 {
				t.Fatalf("bit %d: %d of 5 durable records replayed, and no error", bit, n)
			}
			_ = k.Close() // the bit was in the last mark
		} else if !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
}

func TestReclaim_ClosesWhatIsTrimmedAndNotRead(t *testing.T) {
	dir := t.TempDir()
	j, _, _ := open(t, options(OSDir(dir), 0), 0)
	defer func() { _ = j.Close() }()
	pos := make([]Pos, 1)
	for range 3 {
		lsn, err := j.Append([]Record{{1, nil, []byte("data")}}, pos)
		if err == nil {
			_, err = j.Rotate()
		}
		if err == nil {
			err = j.Trim(lsn)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	j.Reclaim()
	if n := j.unnamed.count(); n != 1 {
		t.Errorf("%d trimmed segments are open, want the one that can still be read", n)
	}
	got := make([]byte, 4)
	if err := j.ReadData(pos[0], got, 0); err != nil || string(got) != "data" {
		t.Errorf("read of a trimmed segment: %q, %v", got, err)
	}
	pos[0] = Pos{}
	j.Reclaim()
	if n := j.unnamed.count(); n != 0 {
		t.Errorf("%d trimmed segments are open that nobody can read", n)
	}
}

// Who closed a drive may take away the disk that it is on, whatever still points into its journal.
func TestClose_LeavesNoFileOpen(t *testing.T) {
	dir := &counted{Dir: OSDir(t.TempDir())}
	j, _, _ := open(t, options(dir, 0), 0)
	pos := make([]Pos, 2)
	for i := range pos {
		lsn, err := j.Append([]Record{{1, nil, []byte("data")}}, pos[i:i+1])
		if err == nil && i == 0 {
			_, err = j.Rotate()
		}
		if err == nil && i == 0 {
			err = j.Trim(lsn)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := dir.open.Load(); n != 2 {
		t.Errorf("%d files are open, want those of the trimmed segment and of the one that is written", n)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if n := dir.open.Load(); n != 0 {
		t.Errorf("%d files are open after Close", n)
	}
	runtime.KeepAlive(&pos)
}

// counted is a Dir that knows how many of its files are open.
type counted struct {
	Dir
	open atomic.Int64
}

func (d *counted) Create(name string) (File, error) {
	f, err := d.Dir.Create(name)
	if err == nil {
		d.open.Add(1)
		f = &countedFile{f, d}
	}
	return f, err
}

type countedFile struct {
	File
	dir *counted
}

func (f *countedFile) Close() error {
	f.dir.open.Add(-1)
	return f.File.Close()
}

// A drive may move to a machine without AES, and a journal be older than AES in it.
func TestOpen_ReadsTheSegmentsOfBothSuites(t *testing.T) {
	o := options(NewMemDir(), 0)
	var want []string
	for i, suite := range []Suite{XChaCha, AESGCM, XChaCha, AESGCM} {
		o.Suite = suite
		j, all, _ := open(t, o, 0)
		if got := metas(all); !slices.Equal(got, want) {
			t.Fatalf("opened %d times: replayed %q, want %q", i, got, want)
		}
		meta := fmt.Sprintf("of %s", suite.magic())
		appendMeta(t, j, meta)
		want = append(want, meta)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if name := j.o.Suite.magic(); !bytes.HasPrefix(o.Dir.(*MemDir).files[fmt.Sprintf("%016x.wal", j.number)].data, []byte(name)) {
			t.Fatalf("the segment that was begun is not of %s", name)
		}
	}
}

func TestJournal_OneSyncServesMany(t *testing.T) {
	d := NewMemDir()
	syncs := 0
	gate := make(chan struct{})
	var once sync.Once
	d.Fail = func(op string) error {
		if op == "sync" {
			syncs++
		}
		return nil
	}
	j, _, _ := open(t, options(d, 0), 0)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			once.Do(func() { close(gate) })
			<-gate
			for range 20 {
				lsn, err := j.Append([]Record{{1, nil, []byte("data")}}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if err := j.Sync(lsn); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if syncs > 1001+2 {
		t.Errorf("%d syncs for 1000 writes", syncs)
	}
	_, all, _ := open(t, options(d, 0), 0)
	if len(all) != 1000 {
		t.Fatalf("%d records, want 1000", len(all))
	}
}

func TestJournal_OpenStopsWithItsContext(t *testing.T) {
	d := NewMemDir()
	j, _, _ := open(t, options(d, 0), 0)
	if _, err := j.Append([]Record{{1, nil, nil}}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, options(d.Clone(), 0), 0, func(Replayed) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Fatalf("Open: %v", err)
	}
}

// FuzzOpen gives Open a segment that a stranger wrote behind a valid header.
func FuzzOpen(f *testing.F) {
	d := NewMemDir()
	j, err := Open(f.Context(), options(d, 0), 0, func(Replayed) error { return nil })
	if err != nil {
		f.Fatal(err)
	}
	if _, err := j.Append([]Record{{1, []byte("meta"), []byte("data")}}, nil); err != nil {
		f.Fatal(err)
	}
	whole := d.files[j.segs[0].name].data
	f.Add(whole[headerSize:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, tail []byte) {
		c := NewMemDir()
		m := &memFile{d: c, data: append(slices.Clone(whole[:headerSize]), tail...)}
		c.files[j.segs[0].name] = m
		k, err := Open(t.Context(), options(c, 0), 0, func(r Replayed) error { return nil })
		if err == nil {
			_ = k.Close()
		} else if !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	})
}

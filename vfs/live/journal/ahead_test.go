package journal

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
)

// hintDir notes the hints that its files are given.
type hintDir struct {
	Dir
	mu    sync.Mutex
	hints map[string][][2]int64
}

func (d *hintDir) Create(name string) (File, error) {
	f, err := d.Dir.Create(name)
	return hintFile{f, d, name}, err
}

type hintFile struct {
	File
	d    *hintDir
	name string
}

func (f hintFile) Ahead(off, n int64) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.hints[f.name] = append(f.d.hints[f.name], [2]int64{off, off + n})
	f.File.Ahead(off, n)
}

func TestJournal_TheDiskBeginsBeforeTheSync(t *testing.T) {
	d := &hintDir{Dir: OSDir(t.TempDir() + "/j"), hints: map[string][][2]int64{}}
	j, _, _ := open(t, options(d, 20<<20), 0)
	data := bytes.Repeat([]byte("sheaf"), MaxData/5)
	var lsn LSN
	for range 400 { // 50 MiB, in three segments
		var err error
		if lsn, err = j.Append([]Record{{1, nil, data}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Sync(lsn); err != nil {
		t.Fatal(err)
	}
	// What is synced at once needs no hint.
	before := j.segs[len(j.segs)-1].name
	for range 100 {
		lsn, err := j.Append([]Record{{1, nil, data}}, nil)
		if err == nil {
			err = j.Sync(lsn)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	all := 0
	for name, spans := range d.hints {
		at := int64(0)
		for _, s := range spans {
			if s[0] < at || s[1]-s[0] < aheadStep {
				t.Errorf("segment %s: hints %v", name, spans)
			}
			at = s[1]
		}
		all += len(spans)
		if name > before {
			t.Errorf("segment %s was synced all the time, and has hints: %v", name, spans)
		}
	}
	if all == 0 {
		t.Error("no hint at all")
	}
}

func TestPrepared_OfAnOlderSegmentIsEncryptedAgain(t *testing.T) {
	for name, d := range map[string]Dir{"memory": NewMemDir(), "disk": OSDir(t.TempDir() + "/j")} {
		t.Run(name, func(t *testing.T) {
			o := options(d, 0)
			j, _, _ := open(t, o, 0)
			want := []got{}
			var ready []*Prepared
			for i := range 6 {
				data := bytes.Repeat([]byte{byte(i)}, 1000*i)
				p, err := j.Prepare([]Record{{1, fmt.Appendf(nil, "m%d", i), data}, {2, nil, data}})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Drop()
				ready = append(ready, p)
			}
			for i := len(ready) - 1; i >= 0; i-- { // and in another order
				if i%2 == 0 {
					if _, err := j.Rotate(); err != nil {
						t.Fatal(err)
					}
				}
				pos := make([]Pos, 2)
				lsn, err := ready[i].Append(pos)
				if err != nil {
					t.Fatal(err)
				}
				data := bytes.Repeat([]byte{byte(i)}, 1000*i)
				want = append(want, got{lsn - 1, 1, fmt.Sprintf("m%d", i), string(data)}, got{lsn, 2, "", string(data)})
				back := make([]byte, len(data))
				if err := j.ReadData(pos[1], back, 0); err != nil || !bytes.Equal(back, data) {
					t.Fatalf("record %d reads back other bytes, or %v", i, err)
				}
			}
			left, err := j.Prepare([]Record{{3, nil, nil}})
			if err != nil {
				t.Fatal(err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := left.Append(nil); !errors.Is(err, ErrClosed) {
				t.Errorf("Append to a closed journal: %v", err)
			}
			left.Drop()
			j, all, _ := open(t, o, 0)
			if fmt.Sprint(all) != fmt.Sprint(want) {
				t.Errorf("replayed %d records, want %d, or others", len(all), len(want))
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

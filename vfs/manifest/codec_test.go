package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/vfs"
)

func decodeOne(b []byte) (Entry, error) {
	r := &entryReader{b: b, Reader: cbor.NewReader(b)}
	e := r.entry()
	return e, r.Close()
}

func TestEntry_RoundTripsEveryField(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 1))
	for i := range 5_000 {
		e := randomEntry(r, fmt.Sprint("n", i))
		for j := range r.IntN(3) {
			h := randomEntry(r, "x")
			h.ID, h.Kind, h.Stored, h.Name = e.ID, e.Kind, &Stored{Name: "h"}, "h"
			h.Conflict, h.Held, h.Below, h.Edit, h.Past, h.Node, h.Target, h.From, h.Link = false, false, 0, causal.Dot{}, nil, chunk.Ref{}, e.Target, NodeID{}, NodeID{}
			h.Dot.Counter = uint64(j + 1)
			if e.Kind == vfs.KindFile {
				h.Edit = h.Dot
			}
			e.Hidden = append(e.Hidden, h)
		}
		b := encodeOne(t, &e)
		got, err := decodeOne(b)
		if err != nil {
			t.Fatalf("%d: %v\n%+v", i, err, e)
		}
		if d := cmp.Diff(e, got); d != "" {
			t.Fatalf("%d: %s", i, d)
		}
		if again := appendEntry(nil, &got); !bytes.Equal(b, again) {
			t.Fatalf("%d: encodes differently the second time", i)
		}
	}
}

func TestEntry_TypicalOneIsShort(t *testing.T) {
	e := fileEntry("a-typical-name-of.txt", 5000)
	e.Edit.Counter--
	if n := len(encodeOne(t, &e)); n >= 220 {
		t.Errorf("%d bytes, want less than 220", n)
	}
}

func TestEntry_BrokenRulesAreRefusedByWriterAndReader(t *testing.T) {
	for name, spoil := range map[string]func(e *Entry){
		"empty name":         func(e *Entry) { e.Name = "" },
		"name with slash":    func(e *Entry) { e.Name = "a/b" },
		"dot dot":            func(e *Entry) { e.Name = ".." },
		"root":               func(e *Entry) { e.ID = RootID },
		"kind 0":             func(e *Entry) { e.Kind = 0 },
		"kind 8":             func(e *Entry) { e.Kind = 8 },
		"mode":               func(e *Entry) { e.Mode = 0o10000 },
		"more bytes":         func(e *Entry) { e.Bytes = e.Size + 1 },
		"dir node":           func(e *Entry) { e.Node.Kind = chunk.Dir },
		"short file":         func(e *Entry) { e.Size, e.Bytes = 5, 5 },
		"target":             func(e *Entry) { e.Target = "x" },
		"no dot":             func(e *Entry) { e.Dot = causal.Dot{} },
		"no place":           func(e *Entry) { e.Place = causal.Stamp{} },
		"no edit":            func(e *Entry) { e.Edit = causal.Dot{} },
		"half edit":          func(e *Entry) { e.Edit.Device = 0 },
		"long past":          func(e *Entry) { e.Past = make([]causal.Dot, MaxPast+1) },
		"zero past":          func(e *Entry) { e.Past = make([]causal.Dot, 1) },
		"from":               func(e *Entry) { e.From = nodeID(1) },
		"held":               func(e *Entry) { e.Held = true },
		"below":              func(e *Entry) { e.Below = 1 },
		"xattr order":        func(e *Entry) { e.Xattr = []Xattr{{Name: "b"}, {Name: "a"}} },
		"xattr twice":        func(e *Entry) { e.Xattr = []Xattr{{Name: "a"}, {Name: "a"}} },
		"xattr size":         func(e *Entry) { e.Xattr = []Xattr{{Name: "a", Value: make([]byte, vfs.MaxXattrValue+1)}} },
		"stored name":        func(e *Entry) { e.Stored = &Stored{Name: ".."} },
		"hidden without own": func(e *Entry) { h := *e; e.Hidden = []Entry{h} },
		"link of a dir": func(e *Entry) {
			*e = Entry{Name: "d", ID: e.ID, Kind: vfs.KindDir, Dot: e.Dot, Place: e.Place, Attr: e.Attr, Link: e.ID}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := fileEntry("name", 1)
			spoil(&e)
			if _, _, err := BuildDir(t.Context(), newMemStore(), seqOf([]Entry{e})); !errors.Is(err, ErrMalformed) {
				t.Errorf("BuildDir: %v, want ErrMalformed", err)
			}
			if _, err := decodeOne(appendEntry(nil, &e)); err == nil {
				t.Errorf("decoded")
			}
		})
	}
}

func TestTime_HasOneForm(t *testing.T) {
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Unix(-1, 999_999_999), time.Unix(minNanoSec, 0), time.Unix(minNanoSec-1, 5), time.Unix(maxNanoSec, 999_999_999),
		time.Unix(maxNanoSec+1, 0), time.Unix(1<<40, 7), time.Unix(-1<<40, 0),
	} {
		b := appendTime(nil, at)
		r := cbor.NewReader(b)
		if got := readTime(r, b[0]); r.Close() != nil || !got.Equal(at) {
			t.Errorf("%v became %v: %v", at, got, r.Err())
		}
	}
	long := cbor.AppendUint(cbor.AppendInt(cbor.AppendArray(nil, 2), 5), 0)
	r := cbor.NewReader(long)
	if readTime(r, long[0]); r.Err() == nil {
		t.Error("5 s in the long form was accepted")
	}
}

func TestSnapshot_RoundTrips(t *testing.T) {
	st := newMemStore()
	top := dirEntry("", 1, chunk.Ref{}, 0)
	top.ID, top.Mode = RootID, 0o750
	hidden := dirEntry("root", 1, chunk.Ref{}, 0)
	hidden.ID, hidden.Stored = topID, &Stored{Name: "root"}
	joined := top
	joined.Dot.Counter++
	joined.Hidden = []Entry{hidden}
	for _, s := range []Snapshot{
		{},
		{Top: top},
		{Top: joined},
		{
			Root: chunk.Ref{ID: chunk.ID{1}, Kind: chunk.Dir}, History: chunk.Ref{ID: chunk.ID{2}, Kind: chunk.History},
			Context: causal.Context{{Device: 3, Counter: 4}, {Device: 5, Counter: 1 << 60}}, Lamport: 77, Below: belowAll, Files: 3, Bytes: 1 << 50,
			Device: 9, Time: time.Unix(5, 6).UTC(), Mark: 12,
		},
	} {
		ref, err := PutSnapshot(t.Context(), st, s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := GetSnapshot(t.Context(), st, ref)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(s, got); d != "" {
			t.Error(d)
		}
	}
	for _, e := range []Entry{fileEntry("", 1), dirEntry("x", 1, chunk.Ref{}, 0)} {
		if _, err := EncodeSnapshot(nil, Snapshot{Top: e}); !errors.Is(err, ErrMalformed) {
			t.Errorf("root %v: %v", e.Name, err)
		}
	}
	if _, err := EncodeSnapshot(nil, Snapshot{Context: causal.Context{{Device: 5, Counter: 1}, {Device: 3, Counter: 1}}}); !errors.Is(err, ErrMalformed) {
		t.Errorf("unsorted context: %v", err)
	}
}

// T-A17: bytes of one kind are not taken for another, even where a store would
// hand them out.
func TestNodes_OfAnotherKindAreRefused(t *testing.T) {
	st := newMemStore()
	dir := buildDir(t, st, []Entry{fileEntry("a", 1)})
	body := st.m[dir.ID]
	asData, err := st.Put(t.Context(), chunk.Data, body)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Lookup(t.Context(), st, asData, "a"); !errors.Is(err, ErrMalformed) {
		t.Errorf("Lookup in a data chunk: %v", err)
	}
	if _, err := GetSnapshot(t.Context(), st, dir); !errors.Is(err, ErrMalformed) {
		t.Errorf("GetSnapshot of a directory: %v", err)
	}
	for _, err := range Kepts(t.Context(), st, dir) {
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("Kepts of a directory: %v", err)
		}
	}
	for _, kind := range []chunk.Kind{chunk.File, chunk.History} {
		if _, err := parseNode(kind, body); err == nil {
			t.Errorf("directory decoded as %s", kind)
		}
	}
}

func fuzzNode(f *testing.F, kind chunk.Kind) {
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseNode(kind, b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v does not wrap ErrMalformed", err)
			}
			return
		}
		out := appendNodeHead(nil, n.level, len(n.children)+len(n.entries)+len(n.extents)+len(n.kepts))
		for i := range n.children {
			out = n.children[i].append(out, kind)
		}
		for i := range n.entries {
			out = appendEntry(out, &n.entries[i])
		}
		for _, e := range n.extents {
			if e.Ref.IsZero() {
				out = cbor.AppendUint(out, uint64(e.Size))
			} else {
				out = appendRef(out, e.Ref)
			}
		}
		for i := range n.kepts {
			out = appendKept(out, &n.kepts[i])
		}
		if !bytes.Equal(b, out) {
			t.Errorf("%x decodes, but encodes as %x", b, out)
		}
	})
}

func seedNodes(f *testing.F, st *memStore, kind chunk.Kind, ref chunk.Ref) {
	err := Walk(f.Context(), st, ref, nil, func(r chunk.Ref) error {
		if r.Kind == kind && len(st.m[r.ID]) < 8<<10 {
			f.Add(st.m[r.ID])
		}
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
}

func FuzzDirNode(f *testing.F) {
	st, r := newMemStore(), rand.New(rand.NewPCG(1, 2))
	for range 20 {
		e := randomEntry(r, "name")
		e.Node = chunk.Ref{}
		seedNodes(f, st, chunk.Dir, buildDir(f, st, []Entry{e}))
	}
	f.Add(appendNodeHead(nil, 1, 0))
	fuzzNode(f, chunk.Dir)
}

func FuzzFileNode(f *testing.F) {
	st := newMemStore()
	for _, n := range []uint64{2, 3, 2000} {
		ref, _, err := BuildFile(f.Context(), st, seqOf(someExtents(n)))
		if err != nil {
			f.Fatal(err)
		}
		_ = Walk(f.Context(), st, ref, nil, func(r chunk.Ref) error {
			if r.Kind == chunk.Data {
				return nil
			}
			if len(st.m[r.ID]) < 16<<10 {
				f.Add(st.m[r.ID])
			}
			return nil
		})
	}
	fuzzNode(f, chunk.File)
}

func FuzzHistoryNode(f *testing.F) {
	st := newMemStore()
	ref, err := BuildHistory(f.Context(), st, someKepts(5, time.Hour))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(st.m[ref.ID])
	fuzzNode(f, chunk.History)
}

func FuzzSnapshot(f *testing.F) {
	top := dirEntry("", 1, chunk.Ref{}, 0)
	top.ID = RootID
	b, err := EncodeSnapshot(nil, Snapshot{Context: causal.Context{{Device: 3, Counter: 4}}, Lamport: 77, Time: time.Unix(5, 6), Top: top})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSnapshot(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v does not wrap ErrMalformed", err)
			}
			return
		}
		if out, err := EncodeSnapshot(nil, s); err != nil || !bytes.Equal(b, out) {
			t.Errorf("%x decodes, but encodes as %x, %v", b, out, err)
		}
	})
}

package refs

import (
	"io/fs"
	"reflect"
	"slices"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
)

func listRef(n byte) chunk.Ref { return chunk.Ref{ID: chunk.ID{n}, Size: 32, Kind: chunk.Data} }

// What a device says of collections is in that head and in all that follow, until it says something else, also after it was opened anew; and
// others read it.
func TestCollect_IsSaidUntilSomethingElseIs(t *testing.T) {
	_, n := newNode(t)
	other := n.enroll(t, keys.Writer)
	r := n.mustOpen(t)
	if _, err := r.Collect(t.Context(), Collection{1, listRef(1)}, noon); err == nil {
		t.Error("a device without a head collects")
	}
	move(t, r, 1)
	c := Collection{2, listRef(1)}
	_, err := r.Collect(t.Context(), c, noon)
	wantError(t, "collect", err, nil)
	agreed := []Agreed{{keys.DeviceID{9}, 7}, {keys.DeviceID{3}, 4}}
	_, err = r.Agree(t.Context(), agreed, noon)
	wantError(t, "agree", err, nil)
	move(t, r, 2)
	r = n.mustOpen(t)
	h := move(t, r, 3)
	slices.Reverse(agreed)
	if h.Collection != c || !slices.Equal(h.Agreed, agreed) {
		t.Errorf("later it says %+v %+v", h.Collection, h.Agreed)
	}
	ro := other.mustOpen(t)
	for got, err := range ro.Heads(t.Context()) {
		wantError(t, "read heads", err, nil)
		if got.Device == h.Device && (got.Collection != c || !got.Agrees(keys.DeviceID{9}, 7) || got.Agrees(keys.DeviceID{9}, 8)) {
			t.Errorf("another device reads %+v %+v", got.Collection, got.Agreed)
		}
	}
	_, err = r.Collect(t.Context(), Collection{}, noon)
	wantError(t, "end", err, nil)
	h, err = r.Agree(t.Context(), nil, noon)
	wantError(t, "agree to nothing", err, nil)
	if h.Collection != (Collection{}) || len(h.Agreed) > 0 || h.Root != root(3) {
		t.Errorf("in the end it says %+v", h)
	}
}

// Heads are read from any one on that is there, and held against those after it.
func TestSince_YieldsTheChain(t *testing.T) {
	_, n := newNode(t)
	other := n.enroll(t, keys.Writer)
	r := n.mustOpen(t)
	for i := range 40 {
		move(t, r, i+1)
	}
	ro := other.mustOpen(t)
	for _, by := range []*Refs{r, ro} {
		heads, err := by.Since(t.Context(), n.device.ID(), 37)
		wantError(t, "since", err, nil)
		var seqs []uint64
		for _, h := range heads {
			seqs = append(seqs, h.Seq)
		}
		if !slices.Equal(seqs, []uint64{37, 38, 39, 40}) {
			t.Errorf("got %v", seqs)
		}
		for _, seq := range []uint64{0, 41} {
			_, err = by.Since(t.Context(), n.device.ID(), seq)
			wantError(t, "since what is not there", err, fs.ErrNotExist)
		}
	}
	if heads, err := r.Since(t.Context(), other.device.ID(), 1); err == nil {
		t.Errorf("heads of a device that has none: %v", heads)
	}
	wantError(t, "prune", r.PruneSeen(t.Context(), 16, 20, 30), nil) // 21 are not seen
	_, err := r.Since(t.Context(), n.device.ID(), 20)
	wantError(t, "since the oldest that is not seen", err, nil)
	_, err = r.Since(t.Context(), n.device.ID(), 19)
	wantError(t, "since one that was pruned", err, fs.ErrNotExist)
	wantError(t, "prune", r.PruneSeen(t.Context(), 16, 2, 17), nil)
	_, err = r.Since(t.Context(), n.device.ID(), 24)
	wantError(t, "since the oldest of as many as may stay", err, nil)
	_, err = r.Since(t.Context(), n.device.ID(), 23)
	wantError(t, "since one that was pruned", err, fs.ErrNotExist)
	lasting, err := r.Lasting(t.Context(), n.device.ID())
	if err != nil || len(lasting) != 17 || lasting[0].Seq != 24 || lasting[16].Seq != 40 {
		t.Errorf("%d heads last, %v", len(lasting), err)
	}
	if lasting, err = r.Lasting(t.Context(), other.device.ID()); err != nil || len(lasting) != 0 {
		t.Errorf("of a device that has none: %v, %v", lasting, err)
	}

	name := headName(r.dir, 30)
	put(t, n.bucket, name, get(t, n.bucket, headName(r.dir, 31)))
	if heads, err := ro.Since(t.Context(), n.device.ID(), 25); err == nil {
		t.Errorf("a head that is another one: %v", heads)
	}
	if heads, err := ro.Lasting(t.Context(), n.device.ID()); err == nil {
		t.Errorf("a head that is another one: %v", heads)
	}
}

// A head has one form: format 1 where nothing is said of collections, format 2 where something is.
func TestHead_OfBothFormatsHasOneForm(t *testing.T) {
	base := Head{Device: keys.DeviceID{1}, Seq: 1, Epoch: 1, Root: root(1), Members: keys.Tips{{1}}, Time: noon}
	drive := keys.DriveID{5}
	with := func(change func(*Head)) Head {
		h := base
		change(&h)
		return h
	}
	for _, h := range []Head{
		base,
		with(func(h *Head) { h.Collection = Collection{1, listRef(2)} }),
		with(func(h *Head) { h.Agreed = []Agreed{{keys.DeviceID{1}, 1}, {keys.DeviceID{2}, 1 << 60}} }),
		with(func(h *Head) {
			h.Collection, h.Agreed = Collection{1 << 63, listRef(2)}, []Agreed{{keys.DeviceID{2}, 3}}
		}),
	} {
		got, d, err := parseHead(h.encode(drive))
		wantError(t, "parse", err, nil)
		got.Time = got.Time.UTC()
		if !reflect.DeepEqual(got, h) || d != drive {
			t.Errorf("got %+v, want %+v", got, h)
		}
	}
	for name, h := range map[string]Head{
		"a collection without a number":   with(func(h *Head) { h.Collection = Collection{0, listRef(2)} }),
		"a collection without a list":     with(func(h *Head) { h.Collection = Collection{Number: 1} }),
		"a list that is no data":          with(func(h *Head) { h.Collection = Collection{1, root(2)} }),
		"a word on no number":             with(func(h *Head) { h.Agreed = []Agreed{{keys.DeviceID{1}, 0}} }),
		"words out of order":              with(func(h *Head) { h.Agreed = []Agreed{{keys.DeviceID{2}, 1}, {keys.DeviceID{1}, 1}} }),
		"two words on one of the devices": with(func(h *Head) { h.Agreed = []Agreed{{keys.DeviceID{2}, 1}, {keys.DeviceID{2}, 2}} }),
	} {
		_, _, err := parseHead(h.encode(drive))
		wantError(t, name, err, ErrTampered)
	}
	empty := with(func(h *Head) { h.Collection = Collection{1, listRef(2)} }).encode(drive)
	// The same with the collection cut out: format 2 that says nothing.
	at := len(empty) - 1 - 69 - 2 - 1 - 1 - 1
	cut := append(append(slices.Clone(empty[:at]), 0x80), empty[len(empty)-2:]...)
	if _, _, err := parseHead(cut); err == nil {
		t.Error("format 2 for a head of format 1 is taken")
	}
}

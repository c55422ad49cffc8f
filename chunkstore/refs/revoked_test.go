package refs

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
)

// revoke is the owner's revocation of a device by who has seen its head last.
func (p *pair) revoke(t testing.TB, n node, last keys.Mark) {
	t.Helper()
	a, err := keys.Unlock(t.Context(), p.Bucket, keys.Secret{Recovery: p.a.words}, keys.UnlockOptions{})
	wantError(t, "unlock", err, nil)
	wantError(t, "revoke", a.Revoke(t.Context(), n.device.ID(), keys.RevokeOptions{Last: last}), nil)
}

// T-REV, R1: after a revocation the heads up to the one that it names count, and no other, also if they
// were accepted before or are dated back. The revoked device has all its state, and a place that helps it.
func TestPoll_HeadsAfterARevocationAreVoid(t *testing.T) {
	p := newPair(t)
	id := p.b.device.ID()
	last := p.ra.known[id].Mark()
	blind := &hiding{Bucket: p.Bucket, from: names(t, p.Bucket, "members/")} // shows b the log as it was
	far := p.b
	far.bucket = blind
	rb := far.mustOpen(t)
	move(t, rb, 3)
	wantError(t, "poll", p.ra.Poll(t.Context()), nil)
	if p.ra.known[id].Seq != 3 {
		t.Fatalf("got head %d", p.ra.known[id].Seq)
	}
	p.revoke(t, p.b, last)
	move(t, rb, 4) // signed with a key that is revoked, and naming the log as it was before
	for what, r := range map[string]*Refs{"accepted before": p.ra, "after a restart": p.a.mustOpen(t), "new": p.a.enroll(t, keys.Writer).mustOpen(t)} {
		wantError(t, what, r.Poll(t.Context()), nil)
		if got := r.known[id].Mark(); got != last {
			t.Errorf("%s: got head %d, want 2", what, got.Seq)
		}
	}
	// It cannot go on when it is told.
	blind.from = nil
	wantError(t, "told", rb.Poll(t.Context()), nil)
	_, err := rb.Move(t.Context(), root(4), root(5), nil, noon)
	wantError(t, "move when it was told", err, keys.ErrNotMember)
	_, err = p.b.open(t)
	wantError(t, "open", err, keys.ErrNotMember)
	// Nor set others back: their heads are where they were, and go on in the new epoch.
	h := move(t, p.ra, 4)
	if h.Epoch != 2 {
		t.Errorf("a head after the revocation is sealed under epoch %d", h.Epoch)
	}
	saved := p.Clone()
	remove(t, p.Bucket, p.name(p.b, 2))
	expect(t, "its last head is hidden", p.ra, ErrIncomplete, p.b)
	put(t, p.Bucket, p.name(p.b, 2), get(t, saved, p.name(p.b, 2)))
	wantError(t, "shown again", p.ra.Poll(t.Context()), nil)
}

// hiding is a Bucket that lists only some of the entries of the members log, and passes writes on.
type hiding struct {
	blob.Bucket
	from []blob.Name
}

func (h *hiding) List(ctx context.Context, under blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for info, err := range h.Bucket.List(ctx, under) {
			hidden := err == nil && h.from != nil && strings.HasPrefix(string(info.Name), "members/") && !slices.Contains(h.from, info.Name)
			if !hidden && !yield(info, err) {
				return
			}
		}
	}
}

// A device that was added by another one, which is revoked and has not known it: its heads count no more, and nobody whose heads speak of
// it is at fault for that.
func TestPoll_ADeviceThatCountsNoMore(t *testing.T) {
	p := newPair(t)
	admin := p.a.enroll(t, keys.Writer|keys.Admin)
	world := &pair{Bucket: p.Clone(), a: p.a}
	a, err := keys.Unlock(t.Context(), p.Bucket, keys.Secret{Recovery: p.a.words}, keys.UnlockOptions{})
	wantError(t, "unlock", err, nil)
	d, err := a.Enroll(t.Context(), keys.EnrollOptions{Roles: keys.Writer, By: admin.device})
	wantError(t, "enroll", err, nil)
	puppet := node{p.Bucket, newDB(), a, d, p.a.words}
	move(t, puppet.mustOpen(t), 1)
	for _, r := range []*Refs{p.ra, p.rb} {
		wantError(t, "poll", r.Poll(t.Context()), nil)
	}
	move(t, p.rb, 3) // speaks of the head
	wantError(t, "poll", p.ra.Poll(t.Context()), nil)
	if p.ra.known[d.ID()].Seq != 1 {
		t.Fatal("the head is not seen")
	}
	world.revoke(t, admin, keys.Mark{})
	for _, n := range names(t, world.Bucket, "members/") {
		put(t, p.Bucket, n, get(t, world.Bucket, n))
	}
	for what, r := range map[string]*Refs{"running": p.ra, "again": p.a.mustOpen(t), "of who spoke of it": p.b.mustOpen(t), "new": p.a.enroll(t, keys.Writer).mustOpen(t)} {
		wantError(t, what, r.Poll(t.Context()), nil)
		got, err := heads(t, r)
		wantError(t, what, err, nil)
		if _, ok := got[d.ID()]; ok || got[p.b.device.ID()] != 3 {
			t.Errorf("%s: got %v", what, got)
		}
	}
	move(t, p.ra, 4)
	_, err = a.Enroll(t.Context(), keys.EnrollOptions{By: admin.device})
	wantError(t, "enroll by who is revoked", err, keys.ErrNotMember)
	wantError(t, "enroll by a stranger", second(a.Enroll(t.Context(), keys.EnrollOptions{By: d})), keys.ErrNotMember)
}

func second(_ *keys.Device, err error) error { return err }

// R1 for revocations that name another head than the one there is, or none.
func TestPoll_TheLastHeadThatARevocationNames(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*keys.Mark)
		want   error
	}{
		"the newest":     {func(*keys.Mark) {}, nil},
		"none":           {func(m *keys.Mark) { *m = keys.Mark{} }, nil},
		"another one":    {func(m *keys.Mark) { m.Hash[0] ^= 1 }, ErrFork},
		"one that comes": {func(m *keys.Mark) { m.Seq++ }, ErrIncomplete},
	} {
		p := newPair(t)
		last := p.ra.known[p.b.device.ID()].Mark()
		c.change(&last)
		p.revoke(t, p.b, last)
		wantError(t, what, p.ra.Poll(t.Context()), c.want)
		if got := p.ra.known[p.b.device.ID()].Mark(); c.want == nil && got != last {
			t.Errorf("%s: got head %d", what, got.Seq)
		}
	}
}

// While a revoked device has the secret of the newest epoch nothing is written: a device that can begins a new one first.
func TestMove_WaitsForAnEpoch(t *testing.T) {
	p := newPair(t)
	c := p.a.enroll(t, keys.Writer)
	one, two := &pair{Bucket: p.Clone(), a: p.a}, &pair{Bucket: p.Clone(), a: p.a}
	one.revoke(t, p.b, keys.Mark{})
	two.revoke(t, c, keys.Mark{})
	for _, world := range []*pair{one, two} {
		for _, n := range names(t, world.Bucket, "members/") {
			put(t, p.Bucket, n, get(t, world.Bucket, n))
		}
	}
	p.ra.o.Settle = nil
	wantError(t, "poll", p.ra.Poll(t.Context()), nil)
	_, err := p.ra.Move(t.Context(), root(3), root(4), nil, noon)
	wantError(t, "cannot", err, keys.ErrStale)
	r := p.a.mustOpen(t)
	if h := move(t, r, 4); h.Epoch != 3 || r.members.Stale() {
		t.Errorf("got epoch %d", h.Epoch)
	}
}

// R2: links, epochs and the members log of a chain never go back.
func TestFollows_RefusesWhatDoesNotFollow(t *testing.T) {
	p := newPair(t)
	id := p.a.device.ID()
	one, _, err := p.ra.read(t.Context(), id, 1)
	wantError(t, "read", err, nil)
	two, _, err := p.ra.read(t.Context(), id, 2)
	wantError(t, "read", err, nil)
	wantError(t, "as written", p.ra.follows(one, two), nil)
	all := p.ra.members.Tips()
	d, _ := p.ra.members.Member(id)
	b, _ := p.ra.members.Member(p.b.device.ID())
	genesis := keys.Tips{d.Added}
	for name, c := range map[string]struct {
		change func(before, h *Head)
		want   error
	}{
		"a gap":                       {func(_, h *Head) { h.Seq = 3 }, ErrIncomplete},
		"the same number again":       {func(_, h *Head) { h.Seq = 1 }, ErrIncomplete},
		"another link":                {func(_, h *Head) { h.Prev[0] ^= 1 }, ErrFork},
		"an earlier epoch":            {func(b, _ *Head) { b.Epoch = 2 }, ErrTampered},
		"an earlier members log":      {func(_, h *Head) { h.Members = genesis }, ErrTampered},
		"a members log that is ahead": {func(_, h *Head) { h.Members = append(keys.Tips{{1}}, all...) }, ErrIncomplete},
		"a members log without it":    {func(_, h *Head) { h.Device, h.Members = p.b.device.ID(), genesis }, ErrTampered},
		"a stranger":                  {func(_, h *Head) { h.Device[0] ^= 1 }, ErrTampered},
	} {
		b, h := one, two
		b.Members, h.Members = all, all
		c.change(&b, &h)
		wantError(t, name, p.ra.follows(b, h), c.want)
	}
	if !all.Equal(keys.Tips{b.Added}) {
		t.Fatal("this test takes the last entry for another one")
	}
	// A head that knows of a revocation is sealed under the epoch that it began, or a later one.
	p.revoke(t, p.b, keys.Mark{})
	wantError(t, "poll", p.ra.Poll(t.Context()), nil)
	h := two
	h.Members = p.ra.members.Tips()
	wantError(t, "an epoch that the revoked one has", p.ra.follows(one, h), ErrTampered)
	h.Epoch = 2
	wantError(t, "the next epoch", p.ra.follows(one, h), nil)
	h.Device = p.b.device.ID()
	wantError(t, "the revoked one", p.ra.follows(Head{}, h), ErrTampered)
}

func FuzzHead(f *testing.F) {
	h := Head{
		Device: keys.DeviceID{1}, Seq: 2, Prev: [32]byte{3}, Epoch: 4, Root: root(5),
		Context: causal.Context{{Device: 1, Counter: 2}, {Device: 3, Counter: 4}}, Members: keys.Tips{{6}, {7}},
		Seen: []Seen{{keys.DeviceID{7}, keys.Mark{Seq: 8}}, {keys.DeviceID{9}, keys.Mark{Seq: 1}}}, Time: noon,
	}
	f.Add(h.encode(keys.DriveID{1}))
	h.Near = []Near{{ID: chunk.ID{1}, Pack: [32]byte{2}, Off: 3, Len: 4}, {ID: chunk.ID{2}}}
	f.Add(h.encode(keys.DriveID{1}))
	h.Collection, h.Agreed = Collection{1, listRef(2)}, []Agreed{{keys.DeviceID{3}, 4}}
	f.Add(h.encode(keys.DriveID{1}))
	h.Near = nil
	f.Add(h.encode(keys.DriveID{1}))
	f.Add(Head{Seq: 1, Root: root(1), Members: keys.Tips{{1}}}.encode(keys.DriveID{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, drive, err := parseHead(b)
		if err == nil && !bytes.Equal(h.encode(drive), b) {
			t.Error("another encoding is accepted")
		}
	})
}

func FuzzSplitName(f *testing.F) {
	f.Add("heads/00112233445566778899aabbccddeeff/0000000000000001")
	f.Fuzz(func(t *testing.T, name string) {
		if dir, seq, ok := splitName(blob.Name(name)); ok && headName(dir, seq) != blob.Name(name) {
			t.Errorf("%q is taken for head %d of %s", name, seq, dir)
		}
	})
}

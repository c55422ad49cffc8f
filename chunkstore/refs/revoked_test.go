package refs

import (
	"bytes"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/causal"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
)

// T-REV, R1: after a revocation the heads up to the one that it names count, and no other, also if they
// were accepted before or are dated back.
func TestChain_HeadsAfterARevocationAreVoid(t *testing.T) {
	p := newPair(t)
	id := p.b.device.ID()
	m, _ := p.ra.members.Member(id)
	last := p.ra.known[id].Mark()
	m.Revoked, m.Last = 9, last
	move(t, p.rb, 3) // signed with a key that is revoked, naming the log as it was before

	k, err := p.ra.chain(t.Context(), id, m, []uint64{1, 2, 3})
	if wantError(t, "revoked", err, nil); k.Mark() != last {
		t.Errorf("got head %d, want 2", k.Seq)
	}
	wantError(t, "poll", p.ra.Poll(t.Context()), nil) // by a log without the revocation it counts
	if p.ra.known[id].Seq != 3 {
		t.Fatalf("got head %d", p.ra.known[id].Seq)
	}
	k, err = p.ra.chain(t.Context(), id, m, []uint64{1, 2, 3})
	if wantError(t, "accepted before", err, nil); k.Mark() != last {
		t.Errorf("got head %d, want 2", k.Seq)
	}
	_, err = p.ra.chain(t.Context(), id, m, []uint64{1})
	wantError(t, "its last head is hidden", err, ErrIncomplete)
	m.Last.Hash[0] ^= 1
	_, err = p.ra.chain(t.Context(), id, m, []uint64{1, 2, 3})
	wantError(t, "another last head", err, ErrFork)
	m.Last = keys.Mark{}
	k, err = p.ra.chain(t.Context(), id, m, []uint64{1, 2, 3})
	if wantError(t, "no head counts", err, nil); k.Seq != 0 {
		t.Errorf("got head %d", k.Seq)
	}
	m.Revoked, m.Last = 2, last // as if it had known of its revocation when it wrote
	_, err = p.ra.chain(t.Context(), id, m, []uint64{1, 2, 3})
	wantError(t, "written when it was no member", err, ErrTampered)
	m.Revoked, m.Added = 0, 5
	_, err = p.ra.chain(t.Context(), id, m, []uint64{1, 2, 3})
	wantError(t, "written before it was a member", err, ErrTampered)
}

// R2: links, epochs and the members log of a chain never go back.
func TestFollows_RefusesWhatDoesNotFollow(t *testing.T) {
	p := newPair(t)
	id := p.a.device.ID()
	m, _ := p.rb.members.Member(id)
	one, _, err := p.ra.read(t.Context(), id, 1)
	wantError(t, "read", err, nil)
	two, _, err := p.ra.read(t.Context(), id, 2)
	wantError(t, "read", err, nil)
	wantError(t, "as written", p.ra.follows(m, one, two), nil)
	for name, c := range map[string]struct {
		change func(before, h *Head)
		want   error
	}{
		"a gap":                       {func(_, h *Head) { h.Seq = 3 }, ErrIncomplete},
		"the same number again":       {func(_, h *Head) { h.Seq = 1 }, ErrIncomplete},
		"another link":                {func(_, h *Head) { h.Prev[0] ^= 1 }, ErrFork},
		"an earlier epoch":            {func(b, _ *Head) { b.Epoch = 2 }, ErrTampered},
		"an earlier members log":      {func(b, _ *Head) { b.Members.Seq = 9 }, ErrTampered},
		"a members log that is ahead": {func(_, h *Head) { h.Members.Seq = 9 }, ErrIncomplete},
		"another members log":         {func(_, h *Head) { h.Members.Hash[3] ^= 1 }, ErrFork},
	} {
		b, h := one, two
		c.change(&b, &h)
		wantError(t, name, p.ra.follows(m, b, h), c.want)
	}
}

func FuzzHead(f *testing.F) {
	h := Head{
		Device: keys.DeviceID{1}, Seq: 2, Prev: [32]byte{3}, Epoch: 4, Root: root(5),
		Context: causal.Context{{Device: 1, Counter: 2}, {Device: 3, Counter: 4}}, Members: keys.Mark{Seq: 6},
		Seen: []Seen{{keys.DeviceID{7}, keys.Mark{Seq: 8}}, {keys.DeviceID{9}, keys.Mark{Seq: 1}}}, Time: noon,
	}
	f.Add(h.encode(keys.DriveID{1}))
	f.Add(Head{Seq: 1, Root: root(1), Members: keys.Mark{Seq: 1}}.encode(keys.DriveID{}))
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

package refs

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
)

// pair is a drive with two devices that have seen each other's heads: three of a, two of b.
type pair struct {
	*mem.Bucket
	a, b   node
	ra, rb *Refs
}

func newPair(t testing.TB) *pair {
	t.Helper()
	p := new(pair)
	p.Bucket, p.a = newNode(t)
	p.b = p.a.enroll(t, keys.Writer)
	p.ra, p.rb = p.a.mustOpen(t), p.b.mustOpen(t)
	for i := 1; i <= 3; i++ {
		move(t, p.ra, i)
	}
	wantError(t, "poll", p.rb.Poll(t.Context()), nil)
	move(t, p.rb, 1)
	move(t, p.rb, 2)
	wantError(t, "poll", p.ra.Poll(t.Context()), nil)
	return p
}

func (p *pair) name(n node, seq uint64) blob.Name {
	return headName(folder(p.a.account.Ring, n.device.ID()), seq)
}

// expect polls by r and wants the error, and that no head of the device at fault is yielded.
func expect(t testing.TB, what string, r *Refs, want error, at node) {
	t.Helper()
	wantError(t, what, r.Poll(t.Context()), want)
	got, err := heads(t, r)
	wantError(t, what+": heads", err, want)
	if _, ok := got[at.device.ID()]; ok {
		t.Errorf("%s: an older head is yielded", what)
	}
}

// T-A20a and b: newest heads are hidden, or all of them.
func TestPoll_HiddenHeadsAreARollback(t *testing.T) {
	p := newPair(t)
	saved := p.Clone()
	remove(t, p.Bucket, p.name(p.b, 2))
	expect(t, "newest hidden", p.ra, ErrRollback, p.b)
	remove(t, p.Bucket, p.name(p.b, 1))
	expect(t, "all hidden", p.ra, ErrRollback, p.b)
	// What is shown again is well again, and a may go on all the while.
	move(t, p.ra, 4)
	for seq := range uint64(2) {
		put(t, p.Bucket, p.name(p.b, seq+1), get(t, saved, p.name(p.b, seq+1)))
	}
	wantError(t, "shown again", p.ra.Poll(t.Context()), nil)
	got, err := heads(t, p.ra)
	if wantError(t, "heads", err, nil); got[p.b.device.ID()] != 2 || got[p.a.device.ID()] != 4 {
		t.Errorf("got %v", got)
	}
	// The memory outlives the process.
	remove(t, p.Bucket, p.name(p.b, 2))
	expect(t, "after a restart", p.a.mustOpen(t), ErrRollback, p.b)
}

// T-A20a for this device's own heads: an old head is all that is shown.
func TestOpen_HiddenOwnHeadsAreARollback(t *testing.T) {
	p := newPair(t)
	remove(t, p.Bucket, p.name(p.a, 3))
	_, err := p.a.open(t)
	wantError(t, "newest hidden", err, ErrRollback)
	wantError(t, "poll", p.ra.Poll(t.Context()), ErrRollback)
	_, err = p.ra.Move(t.Context(), root(3), root(4), nil, noon)
	wantError(t, "move", err, ErrRollback)
	remove(t, p.Bucket, p.name(p.a, 1), p.name(p.a, 2))
	_, err = p.a.open(t)
	wantError(t, "all hidden", err, ErrRollback)
}

// T-A20b, R5: a device's heads are withheld from one who has never seen them, but another's head
// tells of them.
func TestPoll_WhatAnotherHasSeenIsMissed(t *testing.T) {
	p := newPair(t)
	c := p.a.enroll(t, keys.Writer)
	saved := p.Clone()
	rc := c.mustOpen(t) // has it all
	wantError(t, "poll", rc.Poll(t.Context()), nil)

	c.db = newDB()
	remove(t, p.Bucket, p.name(p.a, 3)) // b has seen it
	expect(t, "newest", c.mustOpen(t), ErrIncomplete, p.a)
	remove(t, p.Bucket, p.name(p.a, 2), p.name(p.a, 1))
	expect(t, "all", c.mustOpen(t), ErrIncomplete, p.a)
	for seq := range uint64(3) {
		put(t, p.Bucket, p.name(p.a, seq+1), get(t, saved, p.name(p.a, seq+1)))
	}
	remove(t, p.Bucket, p.name(p.a, 2))
	expect(t, "a gap", c.mustOpen(t), ErrIncomplete, p.a)
}

// T-A20c: two devices are shown two worlds. When they meet, by whichever way, it is found, and both stop
// to write.
func TestPoll_TwoWorldsThatMeetAreAFork(t *testing.T) {
	p := newPair(t)
	// a's key is used twice, by two copies of a, each in a world of its own.
	world := p.Clone()
	copied := p.a
	copied.bucket, copied.db = world, p.a.db.(*lossyDB).crashed()
	other := copied.mustOpen(t)
	move(t, p.ra, 4)
	if _, err := other.Move(t.Context(), root(3), root(9), seen(9), noon); err != nil {
		t.Fatal(err)
	}
	far := p.b
	far.bucket = world
	rb := far.mustOpen(t)
	wantError(t, "poll in the other world", rb.Poll(t.Context()), nil)
	move(t, rb, 3)

	// They meet: b's head comes to a's world.
	c := p.a.enroll(t, keys.Writer)
	rc := c.mustOpen(t)
	wantError(t, "c before", rc.Poll(t.Context()), nil)
	put(t, p.Bucket, p.name(p.b, 3), get(t, world, p.name(p.b, 3)))
	wantError(t, "c after", rc.Poll(t.Context()), ErrFork)
	_, err := rc.Move(t.Context(), root(0), root(1), nil, noon)
	wantError(t, "c writes", err, ErrFork)
	wantError(t, "a after", p.ra.Poll(t.Context()), ErrFork)
	_, err = p.ra.Move(t.Context(), root(4), root(5), nil, noon)
	wantError(t, "a writes", err, ErrFork)
	// And b is shown a's world.
	far.bucket = p.Bucket
	rb = far.mustOpen(t)
	wantError(t, "b after", rb.Poll(t.Context()), ErrFork)
	_, err = rb.Move(t.Context(), root(3), root(4), nil, noon)
	wantError(t, "b writes", err, ErrFork)
	// The evidence is kept: b still has the head that it had seen.
	if k := rb.known[p.a.device.ID()]; k.Root != root(9) {
		t.Errorf("got %v", k.Root)
	}
}

// T-A20d: the state of a device is copied and both copies run.
func TestMove_TwoCopiesOfADeviceAreFound(t *testing.T) {
	p := newPair(t)
	copied := p.a
	copied.db = p.a.db.(*lossyDB).crashed()
	other := copied.mustOpen(t)
	move(t, p.ra, 4)
	_, err := other.Move(t.Context(), root(3), root(9), nil, noon)
	wantError(t, "the copy that runs", err, ErrFork)
	_, err = other.Move(t.Context(), root(3), root(9), nil, noon)
	wantError(t, "again", err, ErrFork)
	wantError(t, "the copy polls", other.Poll(t.Context()), ErrStateLost)
	_, err = copied.open(t)
	wantError(t, "the copy that starts later", err, ErrStateLost)
	move(t, p.ra, 5)
	if found := findings(t, p.a.mustOpen(t)); len(found) > 0 {
		t.Error(found)
	}
}

// T-A20d, closer: the copy's head took the very place that this device was about to use when it crashed.
func TestOpen_AnotherHeadInThePlaceOfTheNextOne(t *testing.T) {
	p := newPair(t)
	copied := p.a
	copied.db = p.a.db.(*lossyDB).crashed()
	f := &faulty{Bucket: p.Bucket, before: func() error { return errCut }}
	crashing := p.a
	crashing.bucket = f
	r := crashing.mustOpen(t)
	_, err := r.Move(t.Context(), root(3), root(4), nil, noon)
	wantError(t, "cut off", err, errCut)
	if _, err := copied.mustOpen(t).Move(t.Context(), root(3), root(9), nil, noon); err != nil {
		t.Fatal(err)
	}
	f.before = nil
	_, err = r.Move(t.Context(), root(3), root(4), nil, noon)
	wantError(t, "goes on", err, ErrFork)
	_, err = p.a.open(t)
	wantError(t, "starts", err, ErrStateLost)
}

// T-A20e: local state is wiped. The device does not go on under its name; a new one reuses no
// sequence number, and nothing that was there goes away.
func TestOpen_AWipedDeviceMustEnrollAnew(t *testing.T) {
	p := newPair(t)
	wiped := p.a
	wiped.db = newDB()
	_, err := wiped.open(t)
	wantError(t, "wiped", err, ErrStateLost)
	before := names(t, p.Bucket, prefix)
	fresh := p.a.enroll(t, keys.Writer)
	r := fresh.mustOpen(t)
	if h := move(t, r, 1); h.Seq != 1 || h.Device == p.a.device.ID() {
		t.Errorf("got %+v", h)
	}
	got, err := heads(t, r)
	if wantError(t, "heads", err, nil); len(got) != 3 || got[p.a.device.ID()] != 3 || got[p.b.device.ID()] != 2 {
		t.Errorf("got %v", got)
	}
	if after := names(t, p.Bucket, prefix); len(after) != len(before)+1 {
		t.Errorf("%d heads became %d", len(before), len(after))
	}
}

// A device whose memory and Bucket were both set back, as by an old image of the disk, learns of it
// from others.
func TestOpen_ADeviceThatWasSetBackLearnsOfItFromOthers(t *testing.T) {
	p := newPair(t)
	old, oldDB := p.Clone(), p.a.db.(*lossyDB).crashed()
	move(t, p.ra, 4)
	wantError(t, "poll", p.rb.Poll(t.Context()), nil)
	move(t, p.rb, 3)
	put(t, old, p.name(p.b, 3), get(t, p.Bucket, p.name(p.b, 3)))
	back := p.a
	back.bucket, back.db = old, oldDB
	_, err := back.open(t)
	wantError(t, "open", err, ErrStateLost)
	wantError(t, "open", err, ErrRollback)
}

// T-A5: heads that others made of public data, or that lie where none belong, are not shown.
func TestPoll_ForgedHeadsAreNotShown(t *testing.T) {
	p := newPair(t)
	want, err := heads(t, p.ra)
	wantError(t, "heads", err, nil)
	copyOf := get(t, p.Bucket, p.name(p.b, 2))
	nobody := headName(folder(p.a.account.Ring, keys.DeviceID{9}), 1)
	for _, name := range []blob.Name{nobody, "heads/x", "heads/x/y", nobody + "0", p.name(p.b, 2) + "x"} {
		put(t, p.Bucket, name, copyOf)
		wantError(t, string(name), p.ra.Poll(t.Context()), nil)
		got, err := heads(t, p.ra)
		if wantError(t, "heads", err, nil); len(got) != len(want) {
			t.Errorf("%s: got %v", name, got)
		}
		wantError(t, "verify", findings(t, p.ra)[name], ErrTampered)
		remove(t, p.Bucket, name)
	}
	for _, name := range []blob.Name{p.name(p.b, 3), p.name(p.b, 4), p.name(p.b, 1<<64-1)} {
		for _, forged := range [][]byte{nil, copyOf, make([]byte, headFloor), make([]byte, maxHead+1), make([]byte, keys.MaxBlob+1)} {
			put(t, p.Bucket, name, forged)
			expect(t, string(name), p.ra, ErrTampered, p.b)
			remove(t, p.Bucket, name)
		}
	}
	wantError(t, "in the end", p.ra.Poll(t.Context()), nil)
}

// T-A6: any two heads swapped, within a device and between devices.
func TestPoll_SwappedHeadsAreTampered(t *testing.T) {
	p := newPair(t)
	all := names(t, p.Bucket, prefix)
	other := newPair(t)
	for i, x := range all {
		was := get(t, p.Bucket, x)
		for _, y := range all[i+1:] {
			yWas := get(t, p.Bucket, y)
			put(t, p.Bucket, x, yWas)
			put(t, p.Bucket, y, was)
			found := findings(t, p.ra)
			if !errors.Is(found[x], ErrTampered) || !errors.Is(found[y], ErrTampered) {
				t.Errorf("%s, %s: got %v", x, y, found)
			}
			put(t, p.Bucket, x, was)
			put(t, p.Bucket, y, yWas)
		}
		for _, y := range names(t, other.Bucket, "") {
			put(t, p.Bucket, x, get(t, other.Bucket, y))
			wantError(t, "another drive's "+string(y), findings(t, p.ra)[x], ErrTampered)
		}
		put(t, p.Bucket, x, was)
	}
	x, y := p.name(p.b, 2), p.name(p.a, 3)
	was, yWas := get(t, p.Bucket, x), get(t, p.Bucket, y)
	put(t, p.Bucket, x, yWas)
	expect(t, "another device's", p.ra, ErrTampered, p.b)
	put(t, p.Bucket, x, was)
	put(t, p.Bucket, y, was)
	_, err := p.a.open(t)
	wantError(t, "own", err, ErrTampered)
}

// G6: each flipped bit of a head is found; a damaged newest one is never passed over for an older one.
func TestVerify_EachFlippedBitIsFound(t *testing.T) {
	p := newPair(t)
	name := p.name(p.b, 2)
	good := get(t, p.Bucket, name)
	m, _ := p.ra.members.Member(p.b.device.ID())
	for bit := range len(good) * 8 {
		good[bit/8] ^= 1 << (bit % 8)
		if _, err := open(p.a.account.Ring, p.b.device.ID(), m.Public.Sign, name, good); !errors.Is(err, ErrTampered) {
			t.Fatalf("bit %d: got %v", bit, err)
		}
		if bit%4999 == 0 {
			put(t, p.Bucket, name, good)
			wantError(t, "verify", findings(t, p.ra)[name], ErrTampered)
			expect(t, "poll", p.ra, ErrTampered, p.b)
		}
		good[bit/8] ^= 1 << (bit % 8)
	}
	put(t, p.Bucket, name, good)
	own := p.name(p.a, 3)
	good = get(t, p.Bucket, own)
	good[100] ^= 1
	put(t, p.Bucket, own, good)
	_, err := p.a.open(t)
	wantError(t, "own newest", err, ErrTampered)
	good[100] ^= 1
	put(t, p.Bucket, own, good)
	remove(t, p.Bucket, p.name(p.a, 2))
	wantError(t, "a gap", findings(t, p.ra)[own], ErrIncomplete)
}

// G6 for the memory: a flipped bit of a value that Refs keeps is found when it is loaded.
func TestOpen_FlippedBitsOfTheMemoryAreFound(t *testing.T) {
	p := newPair(t)
	db := p.a.db.(*lossyDB)
	for k, v := range db.now {
		if k == keyNext {
			continue
		}
		for bit := 0; bit < len(v)*8; bit += 1009 {
			bad := []byte(v)
			bad[bit/8] ^= 1 << (bit % 8)
			db.now[k] = string(bad)
			if _, err := p.a.open(t); !errors.Is(err, ErrTampered) && !errors.Is(err, ErrRollback) {
				t.Fatalf("%q, bit %d: got %v", k, bit, err)
			}
		}
		db.now[k] = v
	}
	p.a.mustOpen(t)
}

// K15: the memory holds no key in the clear.
func TestMemory_HoldsNoKey(t *testing.T) {
	p := newPair(t)
	for k, v := range p.a.db.(*lossyDB).now {
		for i := 0; i+8 < len(v); i++ {
			if id := root(3).ID; v[i:i+8] == string(id[:8]) {
				t.Errorf("%q shows a Ref", k)
			}
		}
	}
}

// T-A12, T-A20: the members log or the drive record is set back, or heads name a log that is withheld.
func TestOpen_MembersAndRecordThatWereSetBack(t *testing.T) {
	p := newPair(t)
	last := entriesOf(t, p.Bucket, p.ra.members.Tips())
	saved := p.Clone()
	remove(t, p.Bucket, last...)
	_, err := p.a.open(t)
	wantError(t, "log cut", err, ErrRollback)
	wantError(t, "log cut", p.ra.Poll(t.Context()), ErrRollback)
	for _, n := range last {
		put(t, p.Bucket, n, get(t, saved, n))
	}
	p.a.mustOpen(t)

	o := Options{
		Bucket: p.Bucket, KV: p.a.db, Device: p.a.device, Members: p.ra.members,
		Record: keys.Mark{Seq: 1, Hash: [32]byte{1}},
	}
	_, err = Open(t.Context(), o)
	wantError(t, "another record", err, ErrFork)
	o.Record.Seq = 2
	_, err = Open(t.Context(), o)
	wantError(t, "a later record", err, nil)
	o.Record.Seq = 1
	_, err = Open(t.Context(), o)
	wantError(t, "the earlier record", err, ErrRollback)
}

// R1: a head that names an entry of the members log that is not shown.
func TestPoll_AHeadThatNamesAWithheldMembersLog(t *testing.T) {
	p := newPair(t)
	other := p.Clone()
	c := p.a.enroll(t, keys.Writer)
	entry := entriesOf(t, p.Bucket, c.account.Members().Tips())
	rb := p.b.mustOpen(t)
	move(t, rb, 3)
	put(t, other, p.name(p.b, 3), get(t, p.Bucket, p.name(p.b, 3)))
	late := p.a
	late.bucket, late.db = other, p.a.db.(*lossyDB).crashed()
	expect(t, "log withheld", late.mustOpen(t), ErrIncomplete, p.b)
	// Another device was enrolled meanwhile, in the other world: neither entry is in the way of the other.
	late.db = newDB()
	seer := late.enroll(t, keys.Writer)
	expect(t, "another log", seer.mustOpen(t), ErrIncomplete, p.b)
	for _, n := range entry {
		put(t, other, n, get(t, p.Bucket, n))
	}
	r := seer.mustOpen(t)
	wantError(t, "both", r.Poll(t.Context()), nil)
	if _, ok := r.members.Member(c.device.ID()); !ok || len(r.members.Tips()) != 2 {
		t.Error("an entry of one of the two worlds does not count")
	}
}

// entriesOf returns the blobs of some entries of the members log.
func entriesOf(t testing.TB, b blob.Bucket, tips keys.Tips) []blob.Name {
	t.Helper()
	var found []blob.Name
	for _, n := range names(t, b, "members/") {
		for _, h := range tips {
			if strings.Contains(string(n), hex.EncodeToString(h[:16])) {
				found = append(found, n)
			}
		}
	}
	if len(found) != 2*len(tips) {
		t.Fatalf("%d blobs of %d entries", len(found), len(tips))
	}
	return found
}

// R1: a device without the role of a writer cannot move, and heads it makes are void.
func TestPoll_HeadsOfAReaderAreVoid(t *testing.T) {
	p := newPair(t)
	reader := p.a.enroll(t, 0)
	_, err := reader.open(t)
	wantError(t, "open", err, keys.ErrNotMember)
	a := reader.account
	_, b, err := seal(a.Ring, reader.device, zeros{}, Head{Device: reader.device.ID(), Seq: 1, Root: root(1), Members: a.Members().Tips()})
	wantError(t, "seal", err, nil)
	put(t, p.Bucket, p.name(reader, 1), b)
	wantError(t, "poll", p.ra.Poll(t.Context()), nil)
	got, err := heads(t, p.ra)
	if wantError(t, "heads", err, nil); len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// T-A17: a head's blob does not pass for a members entry, nor the other way round.
func TestOpen_KindsOfBlobsAreToldApart(t *testing.T) {
	p := newPair(t)
	ring := p.a.account.Ring
	name := p.name(p.a, 3)
	b := get(t, p.Bucket, name)
	for _, c := range []kdf.Context{kdf.Members, kdf.RootRecord, kdf.Marks, kdf.Index} {
		key := ring.Derive(c)
		_, err := keys.OpenBlob(&key, c, name, b)
		wantError(t, string(c), err, ErrTampered)
		key = ring.Derive(kdf.Head)
		_, err = keys.OpenBlob(&key, c, name, b)
		wantError(t, string(c)+" with the key of heads", err, ErrTampered)
	}
}

// A5: a member has the keys of the drive, but not those of another member: it cannot write in its name.
func TestPoll_AMemberCannotForgeAnothersHead(t *testing.T) {
	p := newPair(t)
	b := p.ra.known[p.b.device.ID()]
	forged := Head{
		Device: p.b.device.ID(), Seq: 3, Prev: b.hash, Epoch: 1, Root: root(66), Context: seen(9),
		Members: p.ra.members.Tips(), Time: noon,
	}
	_, blob, err := seal(p.a.account.Ring, p.a.device, zeros{}, forged)
	wantError(t, "seal", err, nil)
	put(t, p.Bucket, p.name(p.b, 3), blob)
	expect(t, "signed by another", p.ra, ErrTampered, p.b)
	wantError(t, "verify", findings(t, p.ra)[p.name(p.b, 3)], ErrTampered)
}

// T-A12: an entry of the members log that a Poll has seen is remembered after a restart.
func TestPoll_RemembersTheMembersLog(t *testing.T) {
	p := newPair(t)
	p.a.enroll(t, keys.Writer)
	wantError(t, "poll", p.ra.Poll(t.Context()), nil)
	remove(t, p.Bucket, entriesOf(t, p.Bucket, p.ra.members.Tips())...)
	_, err := p.a.open(t)
	wantError(t, "cut while it was down", err, ErrRollback)
}

// T-A20c where the forked head is not the newest any more.
func TestPoll_AForkFurtherBackIsFound(t *testing.T) {
	p := newPair(t)
	world := p.Clone()
	copied, far := p.a, p.b
	copied.bucket, copied.db = world, p.a.db.(*lossyDB).crashed()
	far.bucket = world
	if _, err := copied.mustOpen(t).Move(t.Context(), root(3), root(9), nil, noon); err != nil {
		t.Fatal(err)
	}
	move(t, far.mustOpen(t), 3) // names the other head 4
	move(t, p.ra, 4)
	move(t, p.ra, 5)
	put(t, p.Bucket, p.name(p.b, 3), get(t, world, p.name(p.b, 3)))
	c := p.a.enroll(t, keys.Writer)
	for range 2 { // also after a restart
		rc := c.mustOpen(t)
		for range 2 { // and it does not go away by itself
			expect(t, "poll", rc, ErrFork, p.a)
		}
		_, err := rc.Move(t.Context(), root(0), root(1), nil, noon)
		wantError(t, "move", err, ErrFork)
	}
}

// R3 for this device's own newest head: a copy of it put another one over it.
func TestOpen_AnotherHeadOverTheOwnNewestIsAFork(t *testing.T) {
	p := newPair(t)
	own := p.ra.known[p.a.device.ID()]
	other := own.Head
	other.Root = root(77)
	_, b, err := seal(p.a.account.Ring, p.a.device, zeros{}, other)
	wantError(t, "seal", err, nil)
	put(t, p.Bucket, p.name(p.a, 3), b)
	_, err = p.a.open(t)
	wantError(t, "open", err, ErrFork)
	wantError(t, "poll", p.ra.Poll(t.Context()), ErrFork)
	_, err = p.ra.Move(t.Context(), root(3), root(4), nil, noon)
	wantError(t, "move", err, ErrFork)
	wantError(t, "verify", findings(t, p.ra)[p.name(p.a, 3)], ErrFork)
}

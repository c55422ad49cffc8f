package peer

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// offer offers packs, and wants certain answers.
func offer(t *testing.T, b *Bucket, packs []blob.Name, room int, rank Rank, want ...Answer) {
	t.Helper()
	got, err := b.Offer(t.Context(), packs, room, rank)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("offered: %v, %v, want %v", got, err, want)
	}
}

func TestOffer_EachPackIsWantedFromOne(t *testing.T) {
	var r roll
	far := newNode(t, &r, func(o *Options) { o.Bucket = mem.New() })
	addr := listen(t, far)
	first, second := newNode(t, &r, nil).Bucket(far.Key(), at(addr)), newNode(t, &r, nil).Bucket(far.Key(), at(addr))
	rnd := testkit.Rand(testkit.Seed(t))
	var names []blob.Name
	bodies := map[blob.Name][]byte{}
	for range 4 {
		name, body := newPack(rnd, 1000)
		names = append(names, name)
		bodies[name] = body
	}
	offer(t, first, names[:3], 2, Mine, Wanted, Wanted, Later)
	offer(t, second, names[:3], 8, Mine, Later, Later, Wanted)
	// What somebody else could bring as well waits, as long as others are bringing something.
	offer(t, second, names[3:], 8, Spare, Later)
	put(t, first, names[0], bodies[names[0]])
	offer(t, second, names[:2], 8, Mine, Held, Later)
	// A read here waits for what is coming, and for nothing else.
	came := make(chan bool)
	go func() { came <- far.Await(t.Context(), names[1], time.Minute) }()
	put(t, first, names[1], bodies[names[1]])
	if !<-came {
		t.Error("a pack came, and who waited for it was not told")
	}
	put(t, second, names[2], bodies[names[2]])
	if far.Await(t.Context(), names[3], time.Minute) {
		t.Error("a pack has come that nobody brings")
	}
	// When nobody brings anything any more, it is wanted from whoever has it.
	for end := time.Now().Add(time.Minute); ; {
		got, err := first.Offer(t.Context(), names[3:], 1, Spare)
		if err != nil || time.Now().After(end) {
			t.Fatalf("offered to one to whom nobody brings anything: %v, %v", got, err)
		}
		if got[0] == Wanted {
			break
		}
	}
}

// What a device promised and did not bring is wanted from others after a while.
func TestOffer_APromiseEnds(t *testing.T) {
	var a arrivals
	name, _ := newPack(rand.New(rand.NewPCG(1, 1)), 100)
	now := time.Now()
	ask := func(who byte, at time.Time) Answer {
		got, _ := a.answer(at, Key{who}, []blob.Name{name}, []bool{false}, 1, Mine)
		return Answer(got[0])
	}
	if got := ask(1, now); got != Wanted {
		t.Errorf("the first is told %v", got)
	}
	if got := ask(2, now.Add(claimFor-1)); got != Later {
		t.Errorf("before the promise ends another is told %v", got)
	}
	if got := ask(2, now.Add(claimFor+1)); got != Wanted {
		t.Errorf("after it has ended another is told %v", got)
	}
	end := a.begin(Key{2}, name)
	if got := ask(1, now.Add(10*claimFor)); got != Later {
		t.Errorf("while it is on its way another is told %v", got)
	}
	end()
	if got := ask(1, now); got != Wanted {
		t.Errorf("after it did not come another is told %v", got)
	}
	// What a device is promised is bounded, however much it offers.
	many := make([]blob.Name, MaxOffer)
	rnd := rand.New(rand.NewPCG(2, 2))
	for i := range many {
		many[i], _ = newPack(rnd, 100)
	}
	got, _ := a.answer(now, Key{1}, many, make([]bool, len(many)), maxClaims, Mine)
	wanted := 0
	for _, one := range got {
		if Answer(one) == Wanted {
			wanted++
		}
	}
	if wanted != maxClaims-1 { // and the one of before
		t.Errorf("%d are wanted of one device, want %d", wanted, maxClaims-1)
	}
}

// Who may not put is asked for nothing.
func TestOffer_OnlyWhoMayPut(t *testing.T) {
	var r roll
	far := newNode(t, &r, func(o *Options) { o.Bucket = mem.New() })
	near := newNode(t, &r, nil)
	r.set(near.Key(), Grant{Read: true})
	name, _ := newPack(testkit.Rand(testkit.Seed(t)), 100)
	if _, err := near.Bucket(far.Key(), at(listen(t, far))).Offer(t.Context(), []blob.Name{name}, 1, Mine); !errors.Is(err, blob.ErrUnauthorized) {
		t.Errorf("an offer of one who may not put: %v", err)
	}
}

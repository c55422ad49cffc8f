package peering_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/peering"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/shelf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/tier"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/engine"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
	"github.com/sheaf-drive/sheaf/sync/trust"
	"github.com/sheaf-drive/sheaf/vfs"
	"github.com/sheaf-drive/sheaf/vfs/live"
)

// A machine has a drive, and what lies around it.
type machine struct {
	t           *testing.T
	name, dir   string
	own, mirror *mem.Bucket
	shelf       blob.Bucket
	log         *slog.Logger
	idle        time.Duration // how long what is written waits
	drive       *sheaf.Drive
	peers       *peering.Peering
	ring        *trust.Ring // nil: all members are accepted
}

func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	return &machine{
		t: t, name: name, dir: t.TempDir(), idle: 50 * time.Millisecond, own: mem.New(), mirror: mem.New(), shelf: mem.New(),
		log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("device", name),
	}
}

func (m *machine) options(places ...engine.Place) sheaf.Options {
	m.t.Helper()
	tr, err := tier.Open(tier.Options{Local: m.own, Mirror: m.mirror, Log: m.log})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = tr.Close() })
	places = append([]engine.Place{peering.ShelfPlace(m.shelf)}, places...)
	return sheaf.Options{
		Dir: m.dir, DeviceName: m.name, Log: m.log, Tree: live.Options{Idle: m.idle, MaxAge: 6 * m.idle},
		Replication: &sheaf.Replication{Tier: tr, Own: m.own, Mirror: m.mirror, Places: places},
	}
}

func (m *machine) begin(o peering.Options) {
	m.t.Helper()
	o.Name, o.Own, o.Mirror, o.Shelf, o.Dir, o.Log = m.name, m.own, m.mirror, m.shelf, m.dir, m.log
	if m.ring != nil {
		o.Trust = func() peering.Trust { return m.ring }
	}
	p, err := peering.New(o)
	if err != nil {
		m.t.Fatal(err)
	}
	m.peers = p
	m.t.Cleanup(func() { _ = p.Close() })
	if _, err := p.Listen(m.t.Context(), "127.0.0.1:0"); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) opened(d *sheaf.Drive) {
	m.drive = d
	m.t.Cleanup(func() {
		if m.peers != nil { // who follows a drive ends first
			_ = m.peers.Close()
		}
		_ = d.Close(context.WithoutCancel(m.t.Context()))
	})
}

func (m *machine) create() {
	m.t.Helper()
	d, _, err := sheaf.Create(m.t.Context(), m.options())
	if err != nil {
		m.t.Fatal(err)
	}
	m.opened(d)
	m.begin(peering.Options{Signer: d.Signer(), Drive: d.DriveID()})
	m.peers.Attach(d)
}

// join makes m a device of the drive of by, as a pairing does when both sides are certain of each other.
func (m *machine) join(by *machine) {
	m.t.Helper()
	n, err := keys.NewNewcomer(nil)
	if err != nil {
		m.t.Fatal(err)
	}
	gift, err := by.drive.Welcome(m.t.Context(), n.Device().Public(), m.name)
	if err != nil {
		m.t.Fatal(err)
	}
	drive, tips, err := n.Accept(m.dir, gift)
	if err != nil {
		m.t.Fatal(err)
	}
	m.begin(peering.Options{Signer: n.Device().Signer(), Drive: drive})
	inviter := sheaf.PeerDevice{Key: keyOf(by), Name: by.name, ID: by.drive.Info().Device}
	m.peers.Trust(inviter.Key)
	if err := m.peers.Know(inviter.Key, by.peers.Listening()); err != nil {
		m.t.Fatal(err)
	}
	d, err := sheaf.Arrive(m.t.Context(), m.options(m.peers.Place(inviter)), tips)
	if err != nil {
		m.t.Fatal(err)
	}
	m.opened(d)
	m.peers.Attach(d)
}

func keyOf(m *machine) peer.Key {
	n, err := peer.New(peer.Options{Signer: m.drive.Signer()})
	if err != nil {
		m.t.Fatal(err)
	}
	return n.Key()
}

func (m *machine) write(path string, data []byte) {
	m.t.Helper()
	if err := vfs.WriteFile(m.t.Context(), m.drive.FS(), path, data, vfs.New{Mode: 0o600}); err != nil {
		m.t.Fatalf("%s writes %s: %v", m.name, path, err)
	}
}

// sees waits until a file has a content, and returns how long that took.
func (m *machine) sees(path string, want []byte) time.Duration {
	m.t.Helper()
	begun := time.Now()
	var last error
	for end := begun.Add(60 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		got, err := vfs.ReadFile(m.t.Context(), m.drive.FS(), path, 64<<20)
		if err == nil && bytes.Equal(got, want) {
			return time.Since(begun)
		}
		last = fmt.Errorf("%d bytes, %w", len(got), err)
	}
	m.t.Fatalf("%s does not see %s: %v", m.name, path, last)
	return 0
}

// What one device writes another one reads, in both directions, and each keeps what the other has written.
func TestPeering_TwoDevicesAreAlike(t *testing.T) {
	rnd := testkit.Rand(testkit.Seed(t))
	a, b := newMachine(t, "a"), newMachine(t, "b")
	a.create()
	big := testkit.Random(rnd, 3<<20)
	a.write("before", []byte("before"))
	if err := a.drive.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.join(a)
	b.sees("before", []byte("before"))
	a.write("from a", []byte("from a"))
	t.Logf("a to b: %v", b.sees("from a", []byte("from a")))
	b.write("from b", big)
	t.Logf("b to a: %v", a.sees("from b", big))
	a.write("from a", []byte("once more"))
	t.Logf("a to b again: %v", b.sees("from a", []byte("once more")))
	// What a has written is at b, as a whole, and the other way round.
	for _, m := range []*machine{a, b} {
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		if err := m.drive.Replicas().Wait(ctx, 1); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		cancel()
		if _, devices := m.drive.Replicas().Reaches(); !devices {
			t.Errorf("%s: nobody is said to wait for what is committed", m.name)
		}
	}
	for _, x := range []struct{ from, to *machine }{{a, b}, {b, a}} {
		for info, err := range x.from.own.List(t.Context(), "packs/") {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := blob.ReadAll(t.Context(), x.to.shelf, info.Name, 64<<20); err != nil {
				t.Errorf("%s lacks a pack of %s: %v", x.to.name, x.from.name, err)
			}
		}
	}
}

// What is written on a device is there on one that it lets in, as soon as that is in: also what nobody has committed.
func TestPeering_ANewDeviceFindsWhatIsWritten(t *testing.T) {
	a, b := newMachine(t, "a"), newMachine(t, "b")
	a.idle = time.Hour
	a.create()
	a.write("before", []byte("before"))
	b.join(a)
	if got, err := vfs.ReadFile(t.Context(), b.drive.FS(), "before", 100); err != nil || string(got) != "before" {
		t.Errorf("the new device reads %q: %v", got, err)
	}
}

// cloudy returns a device that has read what another one wrote, at a place: it has the heads of that one, and none of its packs.
func cloudy(t *testing.T) (a *machine, cloud *mem.Bucket) {
	t.Helper()
	cloud = mem.New()
	place := engine.Place{Name: "cloud", Open: func(context.Context) (blob.Bucket, error) { return cloud, nil }}
	a = newMachine(t, "a")
	c := newMachine(t, "c")
	d, words, err := sheaf.Create(t.Context(), a.options(place))
	if err != nil {
		t.Fatal(err)
	}
	a.opened(d)
	turn(t, a)
	o := c.options(place)
	o.Secret.Recovery = words
	if d, err = sheaf.Join(t.Context(), o, true); err != nil {
		t.Fatal(err)
	}
	c.opened(d)
	c.write("of c", []byte("of c"))
	turn(t, c)
	turn(t, a)
	return a, cloud
}

// A device that is let in by one that reads the work of a third at a place begins, though it knows nothing of that place: what it begins on is brought to it.
func TestPeering_ANewDeviceBeginsWhereOthersAreAtAPlaceItDoesNotKnow(t *testing.T) {
	a, _ := cloudy(t)
	a.begin(peering.Options{Signer: a.drive.Signer(), Drive: a.drive.DriveID()})
	a.peers.Attach(a.drive)
	z := newMachine(t, "z")
	z.join(a)
	if got, err := vfs.ReadFile(t.Context(), z.drive.FS(), "of c", 100); err != nil || string(got) != "of c" {
		t.Errorf("the new device reads %q: %v", got, err)
	}
}

// It waits for that.
func TestPeering_ANewDeviceWaitsForWhatIsBrought(t *testing.T) {
	a, cloud := cloudy(t)
	n, err := keys.NewNewcomer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gift, err := a.drive.Welcome(t.Context(), n.Device().Public(), "z")
	if err != nil {
		t.Fatal(err)
	}
	z := newMachine(t, "z")
	_, tips, err := n.Accept(z.dir, gift)
	if err != nil {
		t.Fatal(err)
	}
	brought := make(chan error, 1)
	time.AfterFunc(3*time.Second, func() { brought <- bring(t.Context(), cloud, z.shelf) }) // a Store looks for longer than a second
	at := engine.Place{Name: "a", Open: func(context.Context) (blob.Bucket, error) {
		return shelf.New(shelf.Options{Own: a.own, Mirror: a.mirror, Shelf: a.shelf}), nil
	}}
	d, err := sheaf.Arrive(t.Context(), z.options(at), tips)
	if err != nil {
		t.Fatal(err)
	}
	z.opened(d)
	if err := <-brought; err != nil {
		t.Fatal(err)
	}
	z.sees("of c", []byte("of c"))
}

// bring copies all packs.
func bring(ctx context.Context, from, to blob.Bucket) error {
	for info, err := range from.List(ctx, "packs/") {
		if err != nil {
			return err
		}
		r, err := from.Get(ctx, info.Name, 0, -1)
		if err == nil {
			err = errors.Join(to.Put(ctx, info.Name, r, info.Size), r.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// turn gives each place of m one, with all that is written.
func turn(t *testing.T, m *machine) {
	t.Helper()
	err := m.drive.Commit(t.Context())
	if err == nil {
		err = m.drive.Replicas().Sync(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// T-REV over peers: a revoked device is cut off within a second, reads nothing new, and writes nothing.
func TestTREV_ARevokedDeviceIsCutOff(t *testing.T) {
	a, b := newMachine(t, "a"), newMachine(t, "b")
	a.create()
	b.join(a)
	a.write("old", []byte("old"))
	b.sees("old", []byte("old"))
	begun := time.Now()
	if _, err := a.drive.Revoke(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	for connected(a) && time.Since(begun) < 30*time.Second {
		time.Sleep(5 * time.Millisecond)
	}
	if connected(a) {
		t.Fatal("the revoked device is connected still")
	}
	t.Logf("cut off after %v", time.Since(begun))
	a.write("new", []byte("new"))
	if err := a.drive.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := count(t, a.shelf)
	b.write("mine", []byte("mine"))
	_ = b.drive.Commit(t.Context()) // it may know already that it is none any more
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_ = b.drive.Replicas().Sync(ctx)
	if _, err := vfs.ReadFile(t.Context(), b.drive.FS(), "new", 1<<20); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the revoked device reads what is new: %v", err)
	}
	if n := count(t, a.shelf); n != before {
		t.Errorf("the revoked device has put %d blobs", n-before)
	}
	if _, err := vfs.ReadFile(t.Context(), a.drive.FS(), "mine", 1<<20); err == nil {
		t.Error("what the revoked device wrote is in the drive")
	}
}

func connected(m *machine) bool {
	for _, p := range m.peers.Peers() {
		if p.By != "" {
			return true
		}
	}
	return len(m.peers.Sessions()) > 0
}

func count(t *testing.T, b blob.Bucket) (n int) {
	for _, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// A wire is a Link over which nothing is said.
type wire struct {
	done chan struct{}
	once *sync.Once
}

func (w wire) Open(ctx context.Context) (peer.Stream, error) { return w.Accept(ctx) } // who has a turn meanwhile waits
func (w wire) Accept(ctx context.Context) (peer.Stream, error) {
	select {
	case <-w.done:
		return nil, os.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
func (w wire) Done() <-chan struct{} { return w.done }
func (w wire) Close()                { w.once.Do(func() { close(w.done) }) }
func (w wire) RemoteAddr() net.Addr  { return &net.UnixAddr{Name: "there", Net: "unix"} }

// Without Attach a Peering does what it is told: members are let in and made replicas, and cut off when they are none any more.
func TestPeering_TendIsWhatAttachDoesByItself(t *testing.T) {
	a := newMachine(t, "a")
	d, _, err := sheaf.Create(t.Context(), a.options())
	if err != nil {
		t.Fatal(err)
	}
	a.opened(d)
	n, err := keys.NewNewcomer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Welcome(t.Context(), n.Device().Public(), "b"); err != nil {
		t.Fatal(err)
	}
	b := peer.Key(n.Device().Public().Sign)
	dialled := make(chan string, 8)
	a.begin(peering.Options{Signer: d.Signer(), Drive: d.DriveID(), Dial: func(_ context.Context, _ peer.Key, addr string) (peer.Link, error) {
		select {
		case dialled <- addr:
		default:
		}
		return nil, os.ErrClosed
	}})
	link := func() wire { return wire{make(chan struct{}), &sync.Once{}} }
	replicas := func() (names []string) {
		for _, s := range d.Replicas().List() {
			if !s.Here {
				names = append(names, s.Name)
			}
		}
		return names
	}
	early := link()
	a.peers.Serve(b, early)
	<-early.done // there is no drive that says who it is
	if err := a.peers.Know(b, "where b is"); err != nil {
		t.Fatal(err)
	}
	a.peers.Take(d)
	if got := replicas(); len(got) != 1 {
		t.Fatalf("the replicas are %q, want the member", got)
	}
	_ = d.Replicas().Sync(t.Context()) // it cannot be reached
	if got := <-dialled; got != "where b is" {
		t.Errorf("dialled %q", got)
	}
	l := link()
	a.peers.Serve(b, l)
	if got := a.peers.Sessions(); len(got) != 1 || got[0].By != "given" {
		t.Errorf("the sessions are %+v", got)
	}
	if _, err := d.Revoke(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if got := replicas(); len(got) != 1 {
		t.Errorf("the replicas are %q before anybody tends them", got)
	}
	a.peers.Tend(d)
	<-l.done
	if got := replicas(); len(got) != 0 {
		t.Errorf("the replicas are %q, and the only other device was revoked", got)
	}
}

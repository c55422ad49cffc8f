package peering_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/api/peering"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
)

// gone ends that a device is reached, for good.
func (m *machine) gone() {
	m.t.Helper()
	if err := m.peers.Close(); err != nil {
		m.t.Fatal(err)
	}
}

// back has a device reached again that was gone.
func (m *machine) back() {
	m.t.Helper()
	m.begin(peering.Options{Signer: m.drive.Signer(), Drive: m.drive.DriveID()})
	m.peers.Attach(m.drive)
}

// A device that was let in by one that is gone since, before anybody else heard of it, shows the others that it is a member: what it writes comes to them, and what they write to it. Who was revoked shows
// what it likes.
func TestPeering_WhoWasLetInByOneThatIsGone(t *testing.T) {
	a, b, c := newMachine(t, "anna"), newMachine(t, "bob"), newMachine(t, "cleo")
	a.create()
	b.join(a)
	b.gone() // and has never heard of the one that comes now
	c.join(a)
	a.gone()
	b.back()
	if _, err := b.drive.PeerByKey(keyOf(c)); err == nil {
		t.Fatal("B knows C: the test proves nothing")
	}
	place := c.place(b)
	c.write("from C", []byte("c"))
	b.sees("from C", []byte("c"))
	b.write("from B", []byte("b"))
	c.sees("from B", []byte("b"))

	if _, err := b.drive.Revoke(t.Context(), c.drive.Info().Device); err != nil {
		t.Fatal(err)
	}
	eventually(t, "C is cut off", 10*time.Second, func() bool { return !b.connectedTo(c) })
	eventually(t, "C is refused", 20*time.Second, func() bool {
		err := reads(t.Context(), place)
		if err == nil {
			t.Error("C gets in")
		}
		return errors.Is(err, blob.ErrUnauthorized)
	})
}

// A device of another drive is heard, and shows nothing.
func TestPeering_WhoIsOfAnotherDriveShowsNothing(t *testing.T) {
	a, x := newMachine(t, "anna"), newMachine(t, "xaver")
	a.create()
	x.create()
	n, err := peer.New(peer.Options{
		Signer: x.drive.Signer(), Drive: a.drive.DriveID(), Bucket: x.own, // it says that it is of the drive, and admits everybody
		Admit: func(context.Context, peer.Key) (peer.Grant, error) { return peer.Grant{Read: true}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.Meet(t.Context(), keyOf(a), a.peers.Listening()); !errors.Is(err, blob.ErrUnauthorized) {
		t.Errorf("it is told %v", err)
	}
	for info, err := range a.mirror.List(t.Context(), "") {
		t.Errorf("the mirror has %s (%v)", info.Name, err)
	}
}

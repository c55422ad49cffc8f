// Package peering makes the devices of a drive replicas of each other: it knows which there are and where, shows them what is here, gives the engine a
// place for each, and cuts off those that are members no more. The connections are package peer's, the copying is the engine's.
package peering

import (
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/shelf"
	"github.com/sheaf-drive/sheaf/chunkstore/durable"
	"github.com/sheaf-drive/sheaf/sync/engine"
	"github.com/sheaf-drive/sheaf/sync/find"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
)

// ShelfName is the name of the replica that is the shelf: what peers have put here.
const ShelfName = "shelf"

// ShelfPlace returns the shelf as a place of the engine. The caller closes it, after the engine.
func ShelfPlace(b blob.Bucket) engine.Place {
	return engine.Place{
		Name: ShelfName, At: "this device", Here: true, Passing: true,
		Open: func(context.Context) (blob.Bucket, error) { return lasting{b}, nil },
	}
}

// lasting is a Bucket that the engine does not close.
type lasting struct{ blob.Bucket }

// A Drive is what of a drive its peers have to do with. *sheaf.Drive is one, and its comments are the specification.
type Drive interface {
	Peers() []sheaf.PeerDevice
	PeerByKey(key [32]byte) (sheaf.PeerDevice, error)
	Replicas() *engine.Engine
	Moved() <-chan struct{}
	DriveID() [16]byte
	FindSecrets() [][32]byte
	Introduced(ctx context.Context, from blob.Bucket) error
}

// Options say what a Peering is made of. All but Name, Log, Rate, Near, Dial, NoUDP and NoLAN are needed.
type Options struct {
	Signer crypto.Signer // of this device
	Drive  [16]byte
	Name   string // of this device, for people
	// Own is what this device has put, Mirror the small blobs of others, Shelf what peers have put here.
	Own, Mirror, Shelf blob.Bucket
	// Dir is a folder for the addresses of peers.
	Dir   string
	NoUDP bool
	// Dial is as peer.Options have it; nil: by QUIC and TCP.
	Dial func(ctx context.Context, key peer.Key, addr string) (peer.Link, error)
	// Trust returns what this device thinks of the others: which members are accepted, and how far. nil, or if it returns nil, as before the drive is open: all are. Where that cannot be read it is to return one that accepts none.
	Trust func() Trust
	// NoCopies says that others put nothing on this device: it reads what they have from them.
	NoCopies bool
	// NoLAN does without announcements to the networks of this machine, whatever is set.
	NoLAN bool
	// Rate limits what goes to devices and comes from them, Near so for those in the networks of this machine; nil: nothing does.
	Rate, Near *peer.Rate
	Log        *slog.Logger
}

// A Peering is this device among those of its drive. It is safe for concurrent use. New makes one; the caller closes it.
type Peering struct {
	o    Options
	node *peer.Node
	all  sync.WaitGroup
	life context.Context
	end  context.CancelFunc
	met  chan struct{} // holds one if sessions have changed
	told chan peer.Key // who has news

	mu      sync.Mutex
	book    book
	listen  string
	trusted map[peer.Key]bool // before a drive is attached
	drive   Drive
	finder  *find.Finder // nil: nobody is looked for
	dialing map[peer.Key]bool
	guests  []guest
	inviter *peer.Key // who is looked for before a drive is attached; nil: nobody

	places map[string]bool // those of the engine that are devices; of the goroutine that follows only
}

// book is what is kept: where peers are, by their keys in hexadecimal, where this device listens, and how it looks for them.
type book struct {
	Listen string              `json:"listen,omitempty"`
	Peers  map[string][]string `json:"peers,omitempty"`
	NoLAN  bool                `json:"no_lan,omitempty"`
	Meet   []string            `json:"meet,omitempty"` // servers
}

// bookFile is its name.
const bookFile = "peers.json"

// maxAddrs is how many addresses are kept of one device.
const maxAddrs = 16

// New returns a Peering that neither listens nor follows a drive.
func New(o Options) (*Peering, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Peering{o: o, met: make(chan struct{}, 1), told: make(chan peer.Key, 64), trusted: map[peer.Key]bool{}, dialing: map[peer.Key]bool{}, places: map[string]bool{}}
	p.life, p.end = context.WithCancel(context.Background())
	b, err := os.ReadFile(filepath.Join(o.Dir, bookFile))
	if err == nil {
		err = json.Unmarshal(b, &p.book)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the addresses of peers: %w", err)
	}
	if p.book.Peers == nil {
		p.book.Peers = map[string][]string{}
	}
	p.node, err = peer.New(peer.Options{
		Signer: o.Signer, Drive: o.Drive, Name: o.Name, Takes: !o.NoCopies, Admit: p.admit, Nudged: p.nudged, NoUDP: o.NoUDP, Rate: o.Rate, Near: o.Near, Log: o.Log, Packet: p.packet,
		Changed: func() {
			select {
			case p.met <- struct{}{}:
			default:
			}
		},
		Card: p.card, Shown: p.shown, Introduced: p.introduced, Dial: o.Dial,
		Bucket: telling{p, shelf.New(shelf.Options{Own: o.Own, Mirror: o.Mirror, Shelf: o.Shelf, Put: func() { p.hurry(ShelfName) }})},
	})
	return p, err
}

// Wanted returns where this device was told to listen; "" if it was not.
func Wanted(dir string) string {
	var b book
	p, err := os.ReadFile(filepath.Join(dir, bookFile))
	if err != nil || json.Unmarshal(p, &b) != nil {
		return ""
	}
	return b.Listen
}

// save keeps the book. p.mu is held.
func (p *Peering) save() error {
	b, err := json.MarshalIndent(p.book, "", "\t")
	if err == nil {
		err = durable.WriteFile(filepath.Join(p.o.Dir, bookFile), b)
	}
	if err != nil {
		return fmt.Errorf("keep the addresses of peers: %w", err)
	}
	return nil
}

// Listen lets peers reach this device at an address, now and when it is started again. It does nothing if it listens already.
func (p *Peering) Listen(ctx context.Context, addr string) (at string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listen != "" {
		return p.listen, nil
	}
	a, err := p.node.Listen(ctx, addr)
	if err != nil {
		return "", err
	}
	p.listen, p.book.Listen = a.String(), a.String()
	p.look()
	return p.listen, p.save()
}

// Listening returns where this device listens; "" if it does not.
func (p *Peering) Listening() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listen
}

// Addresses returns where others of this network may dial this device.
func (p *Peering) Addresses() []string {
	host, port, err := net.SplitHostPort(p.Listening())
	if err != nil {
		return nil
	}
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		return []string{net.JoinHostPort(host, port)}
	}
	var all []string
	addrs, _ := net.InterfaceAddrs() // without them there are none
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			all = append(all, net.JoinHostPort(n.IP.String(), port))
		}
	}
	return all
}

// Know keeps where a device may be dialled, before what was known.
func (p *Peering) Know(key peer.Key, addrs ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := hex.EncodeToString(key[:])
	all := slices.Clone(addrs[:min(len(addrs), maxAddrs)])
	for _, a := range p.book.Peers[id] {
		if !slices.Contains(all, a) && len(all) < maxAddrs {
			all = append(all, a)
		}
	}
	p.book.Peers[id] = all
	return p.save()
}

// Known returns where a device may be dialled: where it was found first.
func (p *Peering) Known(key peer.Key) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	if p.finder != nil {
		all = p.finder.Where(key)
	}
	for _, a := range p.book.Peers[hex.EncodeToString(key[:])] {
		if !slices.Contains(all, a) && len(all) < 2*maxAddrs {
			all = append(all, a)
		}
	}
	return all
}

// Trust admits a device as long as there is no drive that says who its members are: it reads, and brings what the drive begins on.
func (p *Peering) Trust(key peer.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trusted[key] = true
}

// admit says what a device may do here: who is a member reads, and who may write to the drive keeps copies here.
func (p *Peering) admit(_ context.Context, key peer.Key) (peer.Grant, error) {
	p.mu.Lock()
	d, trusted := p.drive, p.trusted[key]
	p.mu.Unlock()
	if d == nil {
		if !trusted {
			return peer.Grant{}, peer.ErrStranger
		}
		return peer.Grant{Read: true, Write: true}, nil
	}
	m, err := d.PeerByKey(key)
	if errors.Is(err, sheaf.ErrNotMember) {
		return peer.Grant{}, fmt.Errorf("%w: %w: %w", peer.ErrStranger, peer.ErrRefused, err)
	}
	if err != nil {
		return peer.Grant{}, fmt.Errorf("%w: %w", peer.ErrStranger, err)
	}
	return p.limited(key, peer.Grant{Read: true, Write: m.Writer})
}

// introduced reads what a device has of the log of members that says it is one, and is not known here.
func (p *Peering) introduced(ctx context.Context, _ peer.Key, from blob.Bucket) error {
	p.mu.Lock()
	d := p.drive
	p.mu.Unlock()
	if d == nil {
		return peer.ErrStranger
	}
	return d.Introduced(ctx, from)
}

// replicaName is how a peer is called among the replicas: by a part of its ID, for its name is not its own alone.
func replicaName(d sheaf.PeerDevice) string {
	id := strings.Split(d.ID, "-")
	return "peer-" + strings.ToLower(id[min(1, len(id)-1)])
}

// Place returns a device as a place of the engine.
func (p *Peering) Place(d sheaf.PeerDevice) engine.Place {
	b := p.node.Bucket(d.Key, func() []string { return p.Known(d.Key) })
	return engine.Place{
		Name: replicaName(d), At: "device " + d.Name, Passing: true, Direct: true, Takes: b.Takes, Offer: offering(b),
		Open: func(context.Context) (blob.Bucket, error) { return arriving{b, p}, nil },
	}
}

// hurry gives a replica a turn at once.
func (p *Peering) hurry(name string) {
	p.mu.Lock()
	d := p.drive
	p.mu.Unlock()
	if d == nil {
		return
	}
	if e := d.Replicas(); e != nil {
		e.Hurry(name)
	}
}

// nudged is what a peer says when there is news at its side.
func (p *Peering) nudged(key peer.Key) {
	p.mu.Lock()
	d := p.drive
	p.mu.Unlock()
	if d == nil {
		return
	}
	if m, err := d.PeerByKey(key); err == nil {
		p.hurry(replicaName(m))
		p.ask(key)
	}
}

// recheckEvery is how long a revoked device may stay connected at most, whatever else happens.
const recheckEvery = 500 * time.Millisecond

// Attach follows a drive from now on: its members are the peers. The drive has replicas, and is closed after this is.
func (p *Peering) Attach(d Drive) {
	p.Take(d)
	p.listenToOthers(d)
	p.all.Go(func() {
		tick := time.NewTicker(recheckEvery)
		defer tick.Stop()
		for {
			_, turned := d.Replicas().Held()
			moved := d.Moved()
			changed := p.trustChanged()
			select {
			case <-p.life.Done():
				return
			case <-moved:
				p.node.Nudge()
			case <-changed:
				p.node.Nudge()
			case <-turned:
			case <-p.met:
				p.greet(d)
			case <-tick.C:
			}
			p.Tend(d)
		}
	})
}

// Take is the beginning of Attach: the members of a drive are let in, and made replicas where it is known how they are reached. Whoever does not call Attach calls Tend.
func (p *Peering) Take(d Drive) {
	p.mu.Lock()
	p.drive = d
	clear(p.trusted)
	p.mu.Unlock()
	p.stopLooking() // as one that has no drive yet
	p.mu.Lock()
	p.inviter, p.guests = nil, nil
	p.look()
	p.mu.Unlock()
	p.follow(d)
}

// Tend makes the replicas those of the members, as they are known by now, and cuts off who is none any more. After Attach it is called by itself; it is not called twice at a time.
func (p *Peering) Tend(d Drive) {
	p.follow(d)
	p.node.Recheck()
}

// Serve begins a session with a device that has reached this one by its Options.Dial: see peer.Node.Serve.
func (p *Peering) Serve(key peer.Key, l peer.Link) { p.node.Serve(key, l) }

// greet gives each peer that has just connected a turn.
func (p *Peering) greet(d Drive) {
	for _, s := range p.node.Sessions() {
		m, err := d.PeerByKey(s.Key)
		if err != nil {
			continue
		}
		if time.Since(s.Since) < 5*time.Second {
			p.hurry(replicaName(m))
			p.ask(s.Key)
		}
		// Over QUIC a peer comes from the port that it listens on, as far as nothing in between changes that.
		if known := p.kept(s.Key); s.By == "quic" && (len(known) == 0 || known[0] != s.At) {
			if err := p.Know(s.Key, s.At); err != nil {
				p.o.Log.Warn("where a peer is was not kept", "err", err)
			}
		}
	}
}

// follow makes the replicas those of the members that are, or were, reached directly: a new one is added, one that was revoked is dropped.
func (p *Peering) follow(d Drive) {
	e := d.Replicas()
	now, met := map[string]bool{}, map[peer.Key]bool{}
	for _, s := range p.node.Sessions() {
		met[s.Key] = true
	}
	for _, m := range d.Peers() {
		if !met[m.Key] && len(p.Known(m.Key)) == 0 {
			continue // it is met at other places only
		}
		if _, err := p.limited(m.Key, peer.Grant{Read: true}); err != nil {
			continue
		}
		name := replicaName(m)
		now[name] = true
		if p.places[name] {
			continue
		}
		if err := e.Add(p.Place(m)); err != nil && !errors.Is(err, engine.ErrExists) {
			p.o.Log.Warn("a device is no replica", "device", m.ID, "err", err)
			continue
		}
		p.places[name] = true
	}
	for name := range p.places {
		if now[name] {
			continue
		}
		if err := e.Drop(name); err != nil && !errors.Is(err, engine.ErrNotFound) {
			p.o.Log.Warn("a device that is no member any more is a replica still", "replica", name, "err", err)
			continue
		}
		delete(p.places, name)
	}
}

// A Peer is another device, and how it is connected.
type Peer struct {
	sheaf.PeerDevice
	At, By    string
	Way       string // "lan", "direct" or "relay"; "" if it is not connected
	Since     time.Time
	Addresses []string
	Replica   string
}

// Peers returns all devices but this one.
func (p *Peering) Peers() []Peer {
	p.mu.Lock()
	d := p.drive
	p.mu.Unlock()
	if d == nil {
		return nil
	}
	met := map[peer.Key]peer.Met{}
	for _, m := range p.node.Sessions() {
		met[m.Key] = m
	}
	var all []Peer
	for _, m := range d.Peers() {
		s := met[m.Key]
		all = append(all, Peer{PeerDevice: m, At: s.At, By: s.By, Way: way(s), Since: s.Since, Addresses: p.Known(m.Key), Replica: replicaName(m)})
	}
	return all
}

// Sessions returns what is connected, members or not.
func (p *Peering) Sessions() []peer.Met { return p.node.Sessions() }

// Close ends all sessions. The drive that was attached is open still.
func (p *Peering) Close() error {
	p.end()
	p.stopLooking()
	err := p.node.Close()
	p.all.Wait()
	return err
}

package peer

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// Options say who a Node is, and whom it admits. Signer and Admit are needed.
type Options struct {
	// Signer is the device key: Ed25519.
	Signer crypto.Signer
	// Admit says what a device may do here. An error, or a Grant of nothing, keeps it out. It is asked often, and has to be quick.
	Admit func(ctx context.Context, key Key) (Grant, error)
	// Introduced is told that a device has come which Admit refuses with ErrStranger, and which says that it is one of the drive's: it reads from b what shows that, as far as b lets it, and
	// verifies it. Then Admit is asked again. nil: nobody is heard.
	Introduced func(ctx context.Context, key Key, b blob.Bucket) error
	// Card is what this device shows of itself in handshakes, at most MaxCard bytes; nil, or nothing: it shows none. It has to be quick.
	Card func() []byte
	// Shown is told what a device has shown of itself, before Admit is asked in that handshake; the device has proven that it has the key, and is admitted perhaps not. It does not keep card. nil: nobody wants to know.
	Shown func(key Key, card []byte)
	// Bucket is what others see of this device; nil: nothing.
	Bucket blob.Bucket
	// Takes says whether others may put into Bucket, if their Grant has Write: this device keeps copies for them.
	Takes bool
	// Drive is which drive's device it is. A device of another one is not talked to.
	Drive [16]byte
	// Name is what the device is called, for people.
	Name string
	// Nudged is called when a device says that it has news. It has to be quick.
	Nudged func(Key)
	// Changed is called when a session has begun or ended. It has to be quick.
	Changed func()
	// Packet is told what comes to the socket of QUIC and is none: see Node.Send. It has to be quick, and does not keep p. nil: it is dropped.
	Packet func(p []byte, from netip.AddrPort)
	// Dial, if not nil, is how devices are reached, and not by QUIC and TCP: it returns a Link to the device that is at an address. Whoever gives it vouches for it that the device
	// at the other end has the private half of key, as TLS proves it otherwise, and that nobody else reads or changes what goes over it. It is for devices in one process.
	Dial func(ctx context.Context, key Key, addr string) (Link, error)
	// NoUDP does without QUIC, NoTCP without the other way.
	NoUDP, NoTCP bool
	// Again is after what time a session over TCP is tried over QUIC again. 0: a minute.
	Again time.Duration
	// Rate limits what is sent and received, Near so from and to devices in the networks of this machine; nil: nothing does.
	Rate, Near *Rate
	// Log takes what there is to say; nil discards it.
	Log *slog.Logger
}

// The bounds of a Node.
const (
	maxSessions   = 128
	maxPerDevice  = 6
	maxHandshakes = 32              // over TCP, at a time; and in a second over QUIC before addresses have to be proven
	probeWait     = 5 * time.Second // for an answer of a session that may have died
	lingerWait    = time.Second     // for one that was refused
	tcpDelay      = 600 * time.Millisecond
	dialPause     = time.Second // after a dial that failed
)

// A Node is this device among its peers. It is safe for concurrent use. New makes one; the caller closes it.
type Node struct {
	o    Options
	cert tls.Certificate
	key  Key
	log  *slog.Logger

	life  context.Context // ends with Close
	end   context.CancelFunc
	wg    sync.WaitGroup
	trees trees
	slots chan struct{} // of handshakes over TCP
	shown shown

	seats    chan struct{} // holds one for each device that is heard, or waits for that
	guests   chan struct{} // holds one for each that is heard
	arrivals arrivals
	lines    lines

	mu       sync.Mutex
	closed   bool
	udp      *quic.Transport // nil: not yet
	socket   net.PacketConn
	closers  []func()
	sessions map[Key][]*session // the newest last
	dials    map[Key]*dialing
	last     struct { // of the second that it is now
		second int64
		seen   int
	}
}

// dialing is what is under way, or was, to reach a device.
type dialing struct {
	busy   chan struct{} // holds one while somebody dials
	failed time.Time
	err    error
	quic   time.Time // when QUIC was tried last
}

// New returns a Node that neither listens nor has a session.
func New(o Options) (*Node, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Again <= 0 {
		o.Again = time.Minute
	}
	cert, key, err := certificate(o.Signer)
	if err != nil {
		return nil, err
	}
	n := &Node{
		o: o, cert: cert, key: key, log: o.Log, slots: make(chan struct{}, maxHandshakes),
		sessions: map[Key][]*session{}, dials: map[Key]*dialing{}, seats: make(chan struct{}, maxSeats), guests: make(chan struct{}, maxGuests),
	}
	n.life, n.end = context.WithCancel(context.Background())
	return n, nil
}

// Key returns that of this device.
func (n *Node) Key() Key { return n.key }

// Listen lets others reach this device at an address, by UDP and TCP on the same port, and returns the address with its port. It may be called once, and
// before anybody was dialled.
func (n *Node) Listen(ctx context.Context, addr string) (net.Addr, error) {
	var lc net.ListenConfig
	var tcp net.Listener
	var udp net.PacketConn
	var err error
	for range 8 { // a port that is free for one may be taken for the other
		if !n.o.NoTCP {
			if tcp, err = lc.Listen(ctx, "tcp", addr); err != nil {
				return nil, fmt.Errorf("listen for peers: %w", err)
			}
		}
		at := addr
		if tcp != nil {
			at = tcp.Addr().String()
		}
		if n.o.NoUDP {
			break
		}
		if udp, err = lc.ListenPacket(ctx, "udp", at); err == nil {
			break
		}
		if tcp != nil {
			_ = tcp.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen for peers: %w", err)
	}
	var at net.Addr
	if udp != nil {
		at = udp.LocalAddr()
		if err := n.listenQUIC(udp); err != nil {
			if tcp != nil {
				_ = tcp.Close()
			}
			return nil, err
		}
	}
	if tcp != nil {
		at = tcp.Addr()
		n.listenTCP(tcp)
	}
	return at, nil
}

func (n *Node) listenQUIC(conn net.PacketConn) error {
	tr := &quic.Transport{Conn: n.paced(conn), VerifySourceAddress: n.crowded}
	l, err := tr.Listen(n.config(n.life, nil, alpn, guestALPN), n.quicConfig())
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("listen for peers over QUIC: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.udp != nil || n.closed {
		_ = tr.Close()
		return errors.Join(errors.New("listen for peers: it listens already"), conn.Close())
	}
	n.udp, n.socket = tr, conn
	n.listenPackets(tr)
	n.wg.Go(func() {
		for {
			c, err := l.Accept(n.life)
			if err != nil {
				return
			}
			cs := c.ConnectionState().TLS
			key, err := keyOf(cs)
			if err != nil {
				_ = c.CloseWithError(0, "")
				continue
			}
			n.outdo(n.begin(key, n.quicLink(c), n.hears(cs)))
		}
	})
	return nil
}

// crowded reports whether so many come that they have to prove their addresses first.
func (n *Node) crowded(net.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := time.Now().Unix(); now != n.last.second {
		n.last.second, n.last.seen = now, 0
	}
	n.last.seen++
	return n.last.seen > maxHandshakes
}

func (n *Node) listenTCP(l net.Listener) {
	n.mu.Lock()
	n.closers = append(n.closers, func() { _ = l.Close() })
	n.mu.Unlock()
	n.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				if n.life.Err() != nil || errors.Is(err, net.ErrClosed) {
					return
				}
				time.Sleep(50 * time.Millisecond) // out of files, most likely: others need a moment to give some back
				continue
			}
			select {
			case n.slots <- struct{}{}:
			default: // a flood: who means it comes again
				_ = conn.Close()
				continue
			}
			n.wg.Go(func() {
				defer func() { <-n.slots }()
				n.shakeTCP(conn)
			})
		}
	})
}

func (n *Node) shakeTCP(conn net.Conn) {
	ctx, cancel := context.WithTimeout(n.life, handshakeWait)
	defer cancel()
	t := tls.Server(conn, n.config(ctx, nil, alpn, guestALPN))
	err := t.HandshakeContext(ctx)
	var key Key
	if err == nil {
		key, err = keyOf(t.ConnectionState())
	}
	var l link
	if err == nil {
		l, err = newTCPLink(t, false)
	}
	if err != nil {
		n.log.Debug("a device was not let in", "from", conn.RemoteAddr().String(), "err", err)
		if errors.Is(err, ErrStranger) {
			linger(conn)
		}
		_ = conn.Close()
		return
	}
	n.outdo(n.begin(key, l, n.hears(t.ConnectionState())))
}

// linger gives the far side a moment to read why it was refused: what it has sent meanwhile would have the system drop that, if the connection were closed at once.
func linger(conn net.Conn) {
	t, ok := conn.(*net.TCPConn)
	if !ok || t.CloseWrite() != nil {
		return
	}
	_ = t.SetReadDeadline(time.Now().Add(lingerWait))
	_, _ = io.CopyN(io.Discard, t, maxHeader)
}

// begin takes a link for a session, and serves it until it ends. A device that is not admitted is heard, if shows is not nil: see hear.
func (n *Node) begin(key Key, l link, shows func()) *session {
	s := &session{n: n, key: key, l: l, rate: n.rateOf(l), since: time.Now(), calls: make(chan struct{}, maxCalls), said: make(chan struct{}, 1), asked: make(chan struct{}, 1), over: make(chan struct{}), heard: make(chan struct{})}
	s.life, s.stop = context.WithCancel(n.life)
	if shows != nil {
		_, refused := n.admit(n.life, key)
		s.guest.Store(n.maybe(refused))
	}
	if s.guest.Load() && !n.seat() {
		l.close("too many are heard")
		s.stop()
		return nil
	}
	n.mu.Lock()
	total := 0
	for _, all := range n.sessions {
		total += len(all)
	}
	if n.closed || total >= maxSessions {
		n.mu.Unlock()
		if s.guest.Load() {
			<-n.seats
		}
		l.close("too many")
		s.stop()
		return nil
	}
	all := n.sessions[key]
	var old *session
	if len(all) >= maxPerDevice {
		old, all = all[0], all[1:]
	}
	n.sessions[key] = append(slices.Clone(all), s)
	// A device that was killed and comes again is at none of its old ends, and what waits for an answer there would do so until the
	// link counts as dead.
	for _, o := range all {
		n.wg.Go(o.probe)
	}
	n.wg.Go(func() {
		s.serve()
		n.gone(s)
	})
	n.mu.Unlock()
	if old != nil {
		old.close("another one took its place")
	}
	if s.guest.Load() {
		n.wg.Go(func() { n.hear(s, shows) })
		return s
	}
	// It may have been revoked between the handshake and the moment from which a Recheck knows of it.
	if _, err := n.admit(n.life, key); err != nil {
		n.log.Debug("a device was not let in", "peer", fmt.Sprintf("%x", key[:4]), "from", l.remote().String(), "err", err)
		s.close("not admitted")
	}
	n.log.Info("a peer is connected", "peer", fmt.Sprintf("%x", key[:4]), "at", l.remote().String(), "by", l.kind())
	n.changed()
	return s
}

func (n *Node) gone(s *session) {
	n.mu.Lock()
	all := slices.DeleteFunc(slices.Clone(n.sessions[s.key]), func(o *session) bool { return o == s })
	if n.sessions[s.key] = all; len(all) == 0 {
		delete(n.sessions, s.key)
	}
	n.mu.Unlock()
	n.changed()
}

func (n *Node) changed() {
	if n.o.Changed != nil {
		n.o.Changed()
	}
}

// Recheck ends all sessions of devices that are admitted no more, also those whose calls are under way, before it returns.
func (n *Node) Recheck() {
	n.mu.Lock()
	var all []*session
	for _, s := range n.sessions {
		all = append(all, s...)
	}
	n.mu.Unlock()
	for _, s := range all {
		if s.guest.Load() {
			continue // it has nothing, and not for long
		}
		if _, err := n.admit(n.life, s.key); err != nil {
			n.log.Info("a session is cut: the device is admitted no more", "peer", fmt.Sprintf("%x", s.key[:4]))
			s.close("not admitted any more")
		}
	}
}

// Nudge tells all devices that are connected that there is news here. It waits for none of them.
func (n *Node) Nudge() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key := range n.sessions {
		if s := n.best(key); s != nil && !n.closed {
			s.nudge()
		}
	}
}

// Meet takes care that there is a session with a device. It dials addresses, "host:port", if there is none.
func (n *Node) Meet(ctx context.Context, key Key, addrs ...string) error {
	_, err := n.session(ctx, key, addrs)
	return err
}

// A Met is a device that is connected.
type Met struct {
	Key   Key
	Name  string // as it says; "" as long as it was not asked
	At    string // the address at its end
	By    string // "quic", "tcp", "relay", or "given" for one of Options.Dial
	Since time.Time
}

// Sessions returns what there is now, for each device the one that is used.
func (n *Node) Sessions() []Met {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []Met
	for key := range n.sessions {
		if s := n.best(key); s != nil {
			m := Met{Key: key, At: s.l.remote().String(), By: s.l.kind(), Since: s.since}
			if h := s.hello.Load(); h != nil {
				m.Name = h.name
			}
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b Met) int { return slices.Compare(a.Key[:], b.Key[:]) })
	return all
}

// best returns the session to be used: the newest over QUIC, or else over TCP, or else by a relay. n.mu is held.
func (n *Node) best(key Key) *session {
	var found *session
	for _, s := range n.sessions[key] {
		if s.life.Err() == nil && !s.guest.Load() && (found == nil || ways[s.l.kind()] >= ways[found.l.kind()]) {
			found = s
		}
	}
	return found
}

// Close ends all sessions and returns when nothing is under way any more.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	var all []*session
	for _, s := range n.sessions {
		all = append(all, s...)
	}
	closers, udp, socket := n.closers, n.udp, n.socket
	n.mu.Unlock()
	for _, s := range all {
		s.close("the peer ends")
	}
	n.end()
	for _, f := range closers {
		f()
	}
	if udp != nil {
		_ = udp.Close()
		_ = socket.Close()
	}
	n.wg.Wait()
	return nil
}

// session is a link with a device.
type session struct {
	n       *Node
	key     Key
	l       link
	rate    *Rate // of the link; nil: no limit
	since   time.Time
	life    context.Context
	stop    context.CancelFunc
	calls   chan struct{} // holds one for each call that is made from here
	said    chan struct{} // holds one while a nudge is under way
	retired atomic.Bool
	again   atomic.Bool   // one more nudge is due after that
	asked   chan struct{} // holds one while hello is asked for
	hello   atomic.Pointer[hello]
	over    chan struct{} // closed when the link has ended
	why     error         // says why, from then on
	guest   atomic.Bool   // the device is not admitted, and is heard
	heard   chan struct{} // closed when it was
}

// ended waits until the link has ended, and says why it did. The session is closed, or about to be.
func (s *session) ended() error {
	<-s.over
	return fmt.Errorf("the session has ended: %w", s.why)
}

func (s *session) close(why string) {
	s.stop()
	s.l.close(why)
}

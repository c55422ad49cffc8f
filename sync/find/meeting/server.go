package meeting

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Options say what a server takes upon itself. Certificate is needed; what is 0 has its default.
type Options struct {
	// Certificate is what it shows.
	Certificate tls.Certificate
	// Connections is how many there may be at a time (4096), PerAddress how many of one IP address (64).
	Connections, PerAddress int
	// Tells is how many messages a second one connection may tell (20).
	Tells int
	// Relays is how many pairs of connections are joined at a time (256; negative: none). RelayRate is how many bytes a second go through one in each direction (4 MiB), and
	// RelayBytes how many in all, in both directions (16 GiB): then it ends, and a new one may begin.
	Relays                int
	RelayRate, RelayBytes int64
	// Log takes what there is to say; nil discards it. No address of a client is logged.
	Log *slog.Logger
}

// The bounds of a server that are not options.
const (
	maxShakes   = 128 // handshakes at a time
	queueFrames = 32  // that wait to be sent to one connection
	bindings    = 20  // that are answered to one IP address in a second
	maxBinders  = 4096
)

// A Hub is a running server. It is safe for concurrent use.
type Hub struct {
	o      Options
	log    *slog.Logger
	life   context.Context
	end    context.CancelFunc
	all    sync.WaitGroup
	tcp    net.Listener
	udp    *net.UDPConn
	shakes chan struct{}

	mu      sync.Mutex
	conns   map[net.Conn]bool
	per     map[netip.Addr]int
	holders map[Slot]*holder
	waiting map[Token]*waiter
	relays  int
	binders map[netip.Addr]int // how many were answered in second
	second  int64
}

// A holder is a connection that holds slots.
type holder struct {
	out   chan []byte
	slots map[Slot]bool // of its own goroutine
}

// Counts are what a server has at a moment.
type Counts struct{ Connections, Slots, Waiting, Relays int }

// Listen starts a server at an address, on TCP and UDP. The caller closes it.
func Listen(ctx context.Context, addr string, o Options) (*Hub, error) {
	setDefault(&o.Connections, 4096)
	setDefault(&o.PerAddress, 64)
	setDefault(&o.Tells, 20)
	setDefault(&o.Relays, 256)
	if o.RelayRate == 0 {
		o.RelayRate = 4 << 20
	}
	if o.RelayBytes == 0 {
		o.RelayBytes = 16 << 30
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &Hub{
		o: o, log: o.Log, shakes: make(chan struct{}, maxShakes), conns: map[net.Conn]bool{}, per: map[netip.Addr]int{}, holders: map[Slot]*holder{},
		waiting: map[Token]*waiter{}, binders: map[netip.Addr]int{},
	}
	var lc net.ListenConfig
	for try := 0; ; try++ { // a port that is free for one may be taken for the other
		l, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		u, err := lc.ListenPacket(ctx, "udp", l.Addr().String())
		if err == nil {
			h.tcp, h.udp = l, u.(*net.UDPConn) //nolint:forcetypeassert // what "udp" gives
			break
		}
		_ = l.Close()
		if try == 8 {
			return nil, fmt.Errorf("listen: %w", err)
		}
	}
	h.life, h.end = context.WithCancel(context.Background())
	h.all.Go(h.accept)
	h.all.Go(h.bind)
	return h, nil
}

func setDefault(n *int, d int) {
	if *n == 0 {
		*n = d
	}
}

// Addr returns where it listens.
func (h *Hub) Addr() net.Addr { return h.tcp.Addr() }

// Counts returns what there is now.
func (h *Hub) Counts() Counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Counts{len(h.conns), len(h.holders), len(h.waiting), h.relays}
}

// Close ends all connections.
func (h *Hub) Close() error {
	h.end()
	err := errors.Join(h.tcp.Close(), h.udp.Close())
	h.mu.Lock()
	for c := range h.conns {
		_ = c.Close()
	}
	h.mu.Unlock()
	h.all.Wait()
	return err
}

func (h *Hub) accept() {
	for {
		c, err := h.tcp.Accept()
		if err != nil {
			if h.life.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(50 * time.Millisecond) // out of files, most likely: others need a moment to give some back
			continue
		}
		ip := addrOf(c)
		select {
		case h.shakes <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		if !h.enter(c, ip) {
			<-h.shakes
			_ = c.Close()
			continue
		}
		h.all.Go(func() {
			defer h.leave(c, ip)
			h.serve(c, sync.OnceFunc(func() { <-h.shakes }))
		})
	}
}

func addrOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

func (h *Hub) enter(c net.Conn, ip netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life.Err() != nil || len(h.conns) >= h.o.Connections || h.per[ip] >= h.o.PerAddress {
		return false
	}
	h.conns[c] = true
	h.per[ip]++
	return true
}

func (h *Hub) leave(c net.Conn, ip netip.Addr) {
	_ = c.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
	if h.per[ip]--; h.per[ip] <= 0 {
		delete(h.per, ip)
	}
}

func (h *Hub) serve(raw net.Conn, shaken func()) {
	defer shaken()
	ctx, cancel := context.WithTimeout(h.life, shakeWait)
	defer cancel()
	c := tls.Server(raw, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{h.o.Certificate}, NextProtos: []string{alpn}, SessionTicketsDisabled: true})
	if err := c.HandshakeContext(ctx); err != nil || c.ConnectionState().NegotiatedProtocol != alpn {
		return
	}
	shaken()
	buf := make([]byte, maxFrame)
	_ = c.SetReadDeadline(time.Now().Add(shakeWait))
	kind, p, err := readFrame(c, buf)
	switch {
	case err != nil:
	case kind == frameRelay && len(p) == len(Token{}):
		h.relay(c, Token(p))
	default:
		h.converse(c, kind, p, buf)
	}
}

// converse serves a connection that holds and tells.
func (h *Hub) converse(c net.Conn, kind byte, p, buf []byte) {
	me := &holder{out: make(chan []byte, queueFrames), slots: map[Slot]bool{}}
	done := make(chan struct{})
	h.all.Go(func() {
		for {
			select {
			case f := <-me.out:
				_ = c.SetWriteDeadline(time.Now().Add(shakeWait))
				if _, err := c.Write(f); err != nil {
					_ = c.Close()
					return
				}
			case <-done:
				return
			}
		}
	})
	defer close(done)
	defer h.hold(me, nil)
	tells := rate.NewLimiter(rate.Limit(h.o.Tells), 2*h.o.Tells)
	for {
		switch kind {
		case frameHold:
			claims, err := parseClaims(p)
			if err != nil {
				return
			}
			h.hold(me, claims)
			h.push(me, appendFrame(nil, frameHeld))
		case frameTell:
			number, slot, text, err := parseTell(p)
			if err != nil {
				return
			}
			said := byte(toldTooMuch)
			if tells.Allow() {
				said = h.tell(slot, text)
			}
			h.push(me, appendFrame(nil, frameTold, binary.BigEndian.AppendUint32(nil, number), []byte{said}))
		case framePing:
			h.push(me, appendFrame(nil, framePong))
		default:
			return
		}
		var err error
		_ = c.SetReadDeadline(time.Now().Add(Quiet))
		if kind, p, err = readFrame(c, buf); err != nil {
			return
		}
	}
}

// push sends a frame to a holder, if it is not behind.
func (h *Hub) push(to *holder, f []byte) bool {
	select {
	case to.out <- f:
		return true
	default:
		return false
	}
}

// hold makes a connection the holder of what it claims, and of nothing else. Who claims a slot last has it: a device that comes from elsewhere may have left a connection behind.
func (h *Hub) hold(me *holder, claims []Claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range me.slots {
		if h.holders[s] == me {
			delete(h.holders, s)
		}
	}
	clear(me.slots)
	for _, c := range claims {
		s := c.Slot()
		h.holders[s] = me
		me.slots[s] = true
	}
}

func (h *Hub) tell(slot Slot, text []byte) byte {
	h.mu.Lock()
	to := h.holders[slot]
	h.mu.Unlock()
	if to == nil {
		return toldNobody
	}
	if !h.push(to, appendFrame(nil, frameSaid, slot[:], text)) {
		return toldTooMuch
	}
	return toldPassed
}

// bind answers Binding requests.
func (h *Hub) bind() {
	p := make([]byte, maxSTUN+1)
	for {
		n, from, err := h.udp.ReadFromUDPAddrPort(p)
		if err != nil {
			if h.life.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		if t, ok := parseBindingRequest(p[:n]); ok && h.mayBind(from.Addr().Unmap(), time.Now().Unix()) {
			_, _ = h.udp.WriteToUDPAddrPort(bindingSuccess(t, from), from) // who got none asks once more
		}
	}
}

// mayBind bounds what one address, which may be forged, can have sent to it.
func (h *Hub) mayBind(ip netip.Addr, now int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now != h.second {
		h.second = now
		clear(h.binders)
	}
	if n := h.binders[ip]; n >= bindings || n == 0 && len(h.binders) >= maxBinders {
		return false
	}
	h.binders[ip]++
	return true
}

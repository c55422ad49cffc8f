package peer

import (
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"
)

// The library keeps 256 packets of a connection that are read and not looked at yet, and drops what comes above that. To the far side this is a loss, at which it sends a third
// less from then on, and for long. A socket is read faster than packets are decrypted: each time that this process did not run for some milliseconds, all that
// the kernel has kept meanwhile would be read at once, and most of it dropped. So packets stay in the kernel, which has room for some MiB, until those before are looked at.

const (
	// maxBacklog is how many packets may be read and not looked at, of all connections. With those of a look and of a read it is below 256.
	maxBacklog = 208
	// lookEvery is after how many packets that is looked at again.
	lookEvery = 32
	// stuckWait is how long is waited for packets that nobody looks at: they are of no connection, or of one that has ended. Each time within strayFor that it was in vain, it is
	// a quarter of that, so that a flood of such packets does not hold up the others.
	stuckWait = 100 * time.Millisecond
	strayFor  = 5 * time.Second
)

// lines are the connections of a socket, as far as they share it: what they have looked at, and the memory of their windows. It is safe for concurrent use. The zero
// value has none.
type lines struct {
	mu    sync.Mutex
	all   map[*quic.Conn]uint64 // by how many bytes the windows have grown
	grown uint64                // together
	ended uint64                // packets that were looked at by connections that have ended
}

// add counts a connection from now on, until remove.
func (l *lines) add(c *quic.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[*quic.Conn]uint64{}
	}
	l.all[c] = 0
}

func (l *lines) remove(c *quic.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grown -= l.all[c]
	delete(l.all, c)
	l.ended += c.ConnectionStats().PacketsReceived
}

// grow reports whether the window of a connection may grow by so many bytes. One whose device is not proven yet grows not.
func (l *lines) grow(c *quic.Conn, by uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	had, ok := l.all[c]
	if !ok || l.grown+by > quicAllWindows {
		return false
	}
	l.all[c], l.grown = had+by, l.grown+by
	return true
}

// looked is how many packets were looked at.
func (l *lines) looked() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.ended
	for c := range l.all {
		n += c.ConnectionStats().PacketsReceived
	}
	return n
}

// A pace is how far the one goroutine that reads a socket is, and holds it back. It is for that goroutine only.
type pace struct {
	l *lines

	read  uint64 // packets
	stray uint64 // of these, those that nobody looked at
	next  uint64 // at how many it is looked again

	patience time.Duration // instead of stuckWait
	until    time.Time     // that this holds
}

// wait waits until more may be read.
func (p *pace) wait() {
	if p.read < p.next {
		return
	}
	p.next = p.read + lookEvery
	last, since := uint64(0), time.Now()
	if since.After(p.until) {
		p.patience = stuckWait
	}
	for try := 0; ; try++ {
		looked := p.l.looked()
		if p.stray > p.read-min(looked, p.read) { // some that nobody looked at in time were looked at since
			p.stray, p.patience = p.read-min(looked, p.read), stuckWait
		}
		if looked += p.stray; p.read <= looked+maxBacklog {
			return
		}
		switch now := time.Now(); {
		case looked != last:
			last, since = looked, now
		case now.Sub(since) > p.patience:
			p.stray += p.read - looked
			p.patience, p.until = p.patience/4, now.Add(strayFor)
			return
		}
		if try < 8 {
			runtime.Gosched()
		} else {
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// pacedSocket is a socket that is read as fast as what comes is looked at.
type pacedSocket struct {
	*net.UDPConn
	many *ipv4.PacketConn
	pace pace
}

// paced returns a socket for QUIC.
func (n *Node) paced(conn net.PacketConn) net.PacketConn {
	if c, ok := conn.(*net.UDPConn); ok {
		return &pacedSocket{c, ipv4.NewPacketConn(c), pace{l: &n.lines}}
	}
	return conn
}

// ReadBatch is what the library reads by where the system gives several packets at once.
func (p *pacedSocket) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	p.pace.wait()
	n, err := p.many.ReadBatch(ms, flags)
	p.pace.read += uint64(max(n, 0))
	return n, err
}

// ReadFrom is what it reads by elsewhere.
func (p *pacedSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	p.pace.wait()
	n, from, err := p.UDPConn.ReadFrom(b)
	p.pace.read++
	return n, from, err
}

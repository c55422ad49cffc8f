package longline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Options are what a line does to what it carries. The zero Options carry all at once.
type Options struct {
	// Delay is what a packet takes from one end to the other, so that a round trip takes twice that.
	Delay time.Duration
	// Rate is how many bits go over it in a second, each way. 0: as many as come.
	Rate int64
	// Queue is how many bytes wait for room before others are dropped, as in a router. 0: what goes over in 50 ms, 64 KiB at least.
	Queue int64
	// Loss is the share of packets that get lost on the way, each way, from 0 to 1.
	Loss float64
	// Seed decides which.
	Seed uint64
}

// The addresses of the two ends.
const (
	Left  = "10.207.0.1"
	Right = "10.207.0.2"
)

const (
	mtu = 1500
	// underWay is how many packets are on the line at most, each way.
	underWay = 1 << 16
)

// A Line carries packets until Close.
type Line struct {
	o    Options
	cut  atomic.Bool
	ends [2]*os.File
	way  [2]way // from the end of that number
	done sync.WaitGroup
}

// A way is one direction.
type way struct {
	packets, bytes, lost, full atomic.Int64
}

// Counts are of one direction since the beginning.
type Counts struct {
	Packets, Bytes int64 // that came out, with the headers of IP
	Lost           int64 // packets, by Loss and by Cut
	Full           int64 // packets that found no room
}

// Open puts a line between two network namespaces, which ip-netns(8) knows by these names and which have nothing at [Left] and [Right]. It needs root and
// the program ip.
func Open(ctx context.Context, left, right string, o Options) (*Line, error) {
	if o.Queue == 0 {
		o.Queue = max(o.Rate/8/20, 64<<10)
	}
	l := &Line{o: o}
	for i, at := range [2]struct{ space, own, other string }{{left, Left, Right}, {right, Right, Left}} {
		f, name, err := tun()
		if err == nil {
			l.ends[i] = f
			err = settle(ctx, name, at.space, at.own, at.other)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("an end in %s: %w", at.space, err), l.Close())
		}
	}
	for i := range l.ends {
		due := make(chan packet, underWay)
		l.done.Go(func() { l.take(l.ends[i], &l.way[i], due, rand.New(rand.NewPCG(o.Seed, uint64(i)))) })
		l.done.Go(func() { l.give(l.ends[1-i], &l.way[i], due) })
	}
	return l, nil
}

// tun makes a TUN device (linux/Documentation/networking/tuntap.rst) that is gone when the file is closed.
func tun() (*os.File, string, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq("")
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, "", fmt.Errorf("make a TUN device: %w", err)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), req.Name(), nil
}

// settle moves a device to its namespace and brings it up.
func settle(ctx context.Context, name, space, own, other string) error {
	for _, args := range [][]string{
		{"link", "set", name, "netns", space},
		{"-n", space, "addr", "add", own, "peer", other, "dev", name},
		// What waits here is lost to nobody's account but the line's: a long queue.
		{"-n", space, "link", "set", name, "mtu", fmt.Sprint(mtu), "txqueuelen", "10000", "up"},
	} {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %q: %w: %s", args, err, out)
		}
	}
	return nil
}

type packet struct {
	body []byte
	at   time.Time // when it comes out
}

var room = sync.Pool{New: func() any { return new([mtu]byte) }}

// take takes what goes in at one end, until that is closed.
func (l *Line) take(from *os.File, w *way, due chan<- packet, rnd *rand.Rand) {
	defer close(due)
	var free time.Time // when the line has room again
	for {
		buf := room.Get().(*[mtu]byte)
		n, err := from.Read(buf[:])
		if err != nil {
			return // it was closed
		}
		now := time.Now()
		if l.cut.Load() || l.o.Loss > 0 && rnd.Float64() < l.o.Loss {
			w.lost.Add(1)
			room.Put(buf)
			continue
		}
		out := now
		if l.o.Rate > 0 {
			if free.Before(now) {
				free = now
			}
			if waits := int64(free.Sub(now).Seconds() * float64(l.o.Rate) / 8); waits > l.o.Queue {
				w.full.Add(1)
				room.Put(buf)
				continue
			}
			free = free.Add(time.Duration(int64(n) * 8 * int64(time.Second) / l.o.Rate))
			out = free
		}
		select {
		case due <- packet{buf[:n], out.Add(l.o.Delay)}:
		default:
			w.full.Add(1)
			room.Put(buf)
		}
	}
}

// give lets packets out at the other end, each in its time.
func (l *Line) give(to *os.File, w *way, due <-chan packet) {
	for p := range due {
		if wait := time.Until(p.at); wait > 0 {
			time.Sleep(wait)
		}
		if _, err := to.Write(p.body); err == nil { // else it is closed, or its namespace gone
			w.packets.Add(1)
			w.bytes.Add(int64(len(p.body)))
		}
		room.Put((*[mtu]byte)(p.body[:mtu]))
	}
}

// Cut loses all that goes in from now on, or ends that.
func (l *Line) Cut(on bool) { l.cut.Store(on) }

// Counts returns those of what goes to the right end, and to the left one.
func (l *Line) Counts() (right, left Counts) {
	get := func(w *way) Counts {
		return Counts{Packets: w.packets.Load(), Bytes: w.bytes.Load(), Lost: w.lost.Load(), Full: w.full.Load()}
	}
	return get(&l.way[0]), get(&l.way[1])
}

// Close takes the line away. What is on it is lost.
func (l *Line) Close() error {
	var errs []error
	for _, f := range l.ends {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	l.done.Wait()
	return errors.Join(errs...)
}

package peer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/longline"
)

// apart makes two network namespaces with a line between them, which are gone when the test ends.
func apart(t *testing.T, o longline.Options) (l *longline.Line, left, right string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root makes network namespaces")
	}
	ip := func(ctx context.Context, args ...string) {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %q: %v: %s (scripts/deps brings ip)", args, err, out)
		}
	}
	var names [2]string
	for i := range names {
		names[i] = fmt.Sprintf("pl%d-%d%d", os.Getpid(), time.Now().UnixNano()%1e6, i)
		ip(t.Context(), "netns", "add", names[i])
		t.Cleanup(func() { ip(context.WithoutCancel(t.Context()), "netns", "del", names[i]) })
	}
	l, err := longline.Open(t.Context(), names[0], names[1], o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, names[0], names[1]
}

// listenIn lets a Node listen in a network namespace. It dials from there, too, over QUIC.
func listenIn(t *testing.T, n *Node, space, addr string) string {
	t.Helper()
	done := make(chan string)
	go func() {
		runtime.LockOSThread() // and never unlocked, so that the thread ends with the goroutine
		defer close(done)
		ns, err := os.Open("/run/netns/" + space)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			_ = ns.Close() // it was read only
		}
		if err != nil {
			t.Error(err)
			return
		}
		at, err := n.Listen(t.Context(), addr+":0")
		if err != nil {
			t.Error(err)
			return
		}
		done <- at.String()
	}()
	at, ok := <-done
	if !ok {
		t.FailNow()
	}
	return at
}

// setting is a number that the one who runs a test may set.
func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// TestLine_IsUsed is for who wants to know how much of a line of 1 Gbit/s and 80 ms two devices use: SHEAF_LONG=1, and SHEAF_LOSS percent of what goes over it is lost,
// each way, of SHEAF_MIB in packs, two at a time.
func TestLine_IsUsed(t *testing.T) {
	if os.Getenv("SHEAF_LONG") == "" {
		t.Skip("only with SHEAF_LONG=1: it measures")
	}
	l, left, right := apart(t, longline.Options{Delay: 40 * time.Millisecond, Rate: 1e9, Loss: float64(setting("SHEAF_LOSS", 0)) / 100, Seed: 1})
	var r roll
	far := newNode(t, &r, func(o *Options) { o.Bucket, o.Log = forgetful{mem.New()}, nil })
	near := newNode(t, &r, func(o *Options) { o.Log = nil })
	b := near.Bucket(far.Key(), at(listenIn(t, far, right, longline.Right)))
	listenIn(t, near, left, longline.Left)
	if _, err := b.Takes(t.Context()); err != nil {
		t.Fatal(err)
	}
	const size = 32 << 20
	name, body := newPack(rand.New(rand.NewPCG(1, 2)), size)
	packs := setting("SHEAF_MIB", 512) << 20 / size
	began := time.Now()
	done := make(chan error)
	go func() {
		var all errgroup.Group
		all.SetLimit(2)
		for range packs {
			all.Go(func() error { return b.Put(t.Context(), name, bytes.NewReader(body), size) })
		}
		done <- all.Wait()
	}()
	last := int64(0)
	for tick := time.NewTicker(time.Second); ; {
		select {
		case <-tick.C:
			to, _ := l.Counts()
			near.mu.Lock()
			s := near.best(far.Key())
			near.mu.Unlock()
			if q, ok := s.l.(quicLink); ok {
				c := q.c.ConnectionStats()
				t.Logf("%3.0f s: %4d Mbit/s on the line, a window of %d KiB, %v there and back, %d lost", time.Since(began).Seconds(), (to.Bytes-last)*8/1e6, c.CongestionWindow>>10, c.SmoothedRTT, c.PacketsLost)
			}
			last = to.Bytes
			continue
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		}
		tick.Stop()
		break
	}
	to, _ := l.Counts()
	t.Logf("%d MiB in %.1f s: %.0f Mbit/s; of the line's %+v", packs*size>>20, time.Since(began).Seconds(), float64(packs*size)*8/1e6/time.Since(began).Seconds(), to)
}

// forgetful keeps nothing of what is put.
type forgetful struct{ blob.Bucket }

func (forgetful) Put(_ context.Context, _ blob.Name, r io.Reader, _ int64) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

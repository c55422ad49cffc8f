package longline_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheaf-drive/sheaf/internal/longline"
)

// spaces makes two network namespaces that are gone when the test ends.
func spaces(t *testing.T) (left, right string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root makes network namespaces")
	}
	names := [2]string{fmt.Sprintf("ll%d-l%d", os.Getpid(), time.Now().UnixNano()%1e6), fmt.Sprintf("ll%d-r%d", os.Getpid(), time.Now().UnixNano()%1e6)}
	for _, name := range names {
		if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", name).CombinedOutput(); err != nil {
			t.Fatalf("ip netns add: %v: %s (scripts/deps brings ip)", err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "ip", "netns", "del", name).CombinedOutput(); err != nil {
				t.Errorf("ip netns del: %v: %s", err, out)
			}
		})
	}
	return names[0], names[1]
}

// within calls f in a network namespace. Sockets that it makes stay there.
func within(t *testing.T, space string, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked, so that the thread ends with the goroutine
		done <- func() error {
			ns, err := os.Open("/run/netns/" + space)
			if err != nil {
				return err
			}
			defer func() { _ = ns.Close() }() // it was read only
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			return f()
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// pair returns a TCP connection over a line, both ends, in namespaces with some settings of sysctl.
func pair(t *testing.T, o longline.Options, settings ...string) (l *longline.Line, left, right net.Conn) {
	t.Helper()
	a, b := spaces(t)
	for _, s := range settings {
		for _, space := range []string{a, b} {
			if out, err := exec.CommandContext(t.Context(), "ip", "netns", "exec", space, "sysctl", "-w", s).CombinedOutput(); err != nil {
				t.Fatalf("sysctl %s: %v: %s", s, err, out)
			}
		}
	}
	l, err := longline.Open(t.Context(), a, b, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	var at net.Listener
	within(t, b, func() (err error) {
		at, err = new(net.ListenConfig).Listen(t.Context(), "tcp", longline.Right+":7000")
		return err
	})
	defer func() { _ = at.Close() }() // one connection is all
	within(t, a, func() (err error) {
		left, err = new(net.Dialer).DialContext(t.Context(), "tcp4", longline.Right+":7000")
		return err
	})
	right, err = at.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(left.Close(), right.Close()) })
	return l, left, right
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

// trip is the shortest time of some that a byte took there and back.
func trip(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	best := time.Hour
	for range 5 {
		begin := time.Now()
		if _, err := c.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(begin))
	}
	return best
}

func TestLine_IsAsLongAsAsked(t *testing.T) {
	t.Parallel()
	const delay = 30 * time.Millisecond
	_, left, right := pair(t, longline.Options{Delay: delay})
	go echo(right)
	if got := trip(t, left); got < 2*delay || got > 2*delay+200*time.Millisecond {
		t.Errorf("there and back: got %v, want little more than %v", got, 2*delay)
	}
}

// flow sends for a while and returns how many bits per second came.
func flow(t *testing.T, from, to net.Conn, seconds float64) float64 {
	t.Helper()
	go func() {
		buf := make([]byte, 64<<10)
		for {
			if _, err := from.Write(buf); err != nil {
				return // it was closed
			}
		}
	}()
	begin, n, buf := time.Now(), 0, make([]byte, 256<<10)
	for time.Since(begin).Seconds() < seconds {
		k, err := to.Read(buf)
		if n += k; err != nil {
			t.Fatal(err)
		}
	}
	return float64(n) * 8 / time.Since(begin).Seconds()
}

func TestLine_IsAsNarrowAsAsked(t *testing.T) {
	t.Parallel()
	const rate = 20_000_000
	l, left, right := pair(t, longline.Options{Delay: time.Millisecond, Rate: rate, Queue: 6000})
	if got := flow(t, left, right, 2); got < 0.3*rate || got > 1.05*rate {
		t.Errorf("got %.1f Mbit/s, want %.1f", got/1e6, rate/1e6)
	}
	if right, _ := l.Counts(); right.Full == 0 || right.Lost > 0 {
		t.Errorf("got %+v, want some that found no room, and none lost", right)
	}
}

func TestLine_LosesAsManyAsAsked(t *testing.T) {
	t.Parallel()
	l, left, right := pair(t, longline.Options{Loss: 0.02, Seed: 1})
	flow(t, left, right, 1)
	got, _ := l.Counts()
	if share := float64(got.Lost) / float64(got.Lost+got.Packets); got.Packets < 300 || share < 0.005 || share > 0.05 {
		t.Errorf("got a share of %.3f of %d packets, want 0.02", share, got.Packets)
	}
}

func TestLine_IsCutAndHeals(t *testing.T) {
	t.Parallel()
	l, left, right := pair(t, longline.Options{})
	go echo(right)
	trip(t, left)
	l.Cut(true)
	if _, err := left.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	_ = left.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // a connection has deadlines
	if n, err := left.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("over a line that is cut: got %d bytes and error %v", n, err)
	}
	l.Cut(false)
	_ = left.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(left, make([]byte, 1)); err != nil {
		t.Errorf("after it healed: %v", err)
	}
}

// TestLine_CarriesAGigabit is for who wants to know what this machine carries: SHEAF_LONG=1.
func TestLine_CarriesAGigabit(t *testing.T) {
	if os.Getenv("SHEAF_LONG") == "" {
		t.Skip("only with SHEAF_LONG=1: it measures")
	}
	_, left, right := pair(t, longline.Options{Delay: 40 * time.Millisecond, Rate: 1e9, Queue: 8 << 20}, "net.ipv4.tcp_rmem=4096 131072 67108864", "net.ipv4.tcp_wmem=4096 131072 67108864")
	t.Logf("TCP, 1 Gbit/s, 80 ms: %.0f Mbit/s", flow(t, left, right, 10)/1e6)
	t.Logf("TCP, when it has come into its stride: %.0f Mbit/s", flow(t, left, right, 10)/1e6)
}

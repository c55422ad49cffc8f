package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/mem"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

// evilPeer listens as a device that is admitted, greets as it should, and answers all else as evil does. It returns its key and address.
func evilPeer(t *testing.T, r *roll, evil func(c call, st Stream)) (Key, string) {
	t.Helper()
	n := newNode(t, r, nil)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := &quic.Transport{Conn: conn}
	l, err := tr.Listen(n.config(t.Context(), nil, alpn), n.quicConfig())
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); _ = tr.Close(); _ = conn.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept(ctx)
			if err != nil {
				return
			}
			all.Go(func() {
				for {
					s, err := c.AcceptStream(ctx)
					if err != nil {
						return
					}
					st := quicStream{s}
					all.Go(func() {
						kind, payload, err := readFrame(st, nil)
						if err != nil || kind != frameCall {
							return
						}
						c, err := decodeCall(payload)
						if err == nil && c.op == opHello {
							h := hello{version: protocolVersion, takes: true, name: "evil"}
							_, _ = st.Write(appendFrame(nil, frameAnswer, h.encode()))
							_ = st.Close()
							return
						}
						evil(c, st)
					})
				}
			})
		}
	})
	return n.Key(), conn.LocalAddr().String()
}

// A device whose key is valid and that nobody admitted gets no further than the handshake, and so does one that answers for another.
func TestEvilPeer_StrangersAreRefusedInTheHandshake(t *testing.T) {
	for way, change := range over {
		t.Run(way, func(t *testing.T) {
			var r roll
			var served atomic.Int64
			far := newNode(t, &r, func(o *Options) { change(o); o.Bucket = counting{mem.New(), &served} })
			addr := listen(t, far)
			stranger := newNode(t, &r, change)
			r.strike(stranger.Key())
			// It does not mind whom it talks to.
			stranger.o.Admit = func(context.Context, Key) (Grant, error) { return Grant{Read: true}, nil }
			if _, err := tryGet(t, stranger.Bucket(far.Key(), at(addr)), "a", 0, -1); !errors.Is(err, blob.ErrUnauthorized) && !errors.Is(err, blob.ErrTemporary) {
				t.Errorf("a stranger got %v", err)
			}
			other := newNode(t, &r, change)
			if err := other.Meet(t.Context(), signerKey(t), addr); !errors.Is(err, ErrImpostor) {
				t.Errorf("who called another device got %v, want ErrImpostor", err)
			}
			if n := served.Load(); n != 0 {
				t.Errorf("the bucket was asked %d times by strangers", n)
			}
			if got := far.Sessions(); len(got) != 0 && way == "quic" { // over TCP, who called wrongly may take a moment to be seen to have gone
				t.Errorf("there are sessions: %v", got)
			}
		})
	}
}

func signerKey(t *testing.T) Key {
	_, k, err := certificate(signer(t))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// counting counts what is asked of a Bucket.
type counting struct {
	blob.Bucket
	n *atomic.Int64
}

func (c counting) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	c.n.Add(1)
	return c.Bucket.Get(ctx, name, off, n)
}

// T-TLS: who was revoked cannot come back by resuming a session, and there is nothing to resume.
func TestTTLS_NoResumptionAfterRevocation(t *testing.T) {
	var r roll
	far := newNode(t, &r, func(o *Options) { o.Bucket = mem.New() })
	addr := listen(t, far)
	near := newNode(t, &r, nil)
	key := far.Key()
	config := near.config(t.Context(), &key, alpn)
	config.SessionTicketsDisabled, config.ClientSessionCache = false, tls.NewLRUClientSessionCache(8)
	inner := config.VerifyConnection
	resumed := false
	config.VerifyConnection = func(cs tls.ConnectionState) error { resumed = resumed || cs.DidResume; return inner(cs) }
	dial := func() error {
		c, err := tls.Dial("tcp", addr, config)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		// The other side of yamux: an answer to a ping says that it is let in.
		if _, err := c.Write([]byte{0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7}); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, 12))
		return err
	}
	for range 3 {
		if err := dial(); err != nil {
			t.Fatalf("a device that is admitted is not let in: %v", err)
		}
	}
	r.strike(near.Key())
	for range 3 {
		if err := dial(); err == nil {
			t.Fatal("a revoked device was let in")
		}
	}
	if resumed {
		t.Error("a session was resumed")
	}
}

// T-REV, of the connection: the session of a revoked device is cut at once, in the middle of what it reads, and it gets no other.
func TestTREV_SessionsAreCutAtOnce(t *testing.T) {
	for way, change := range over {
		t.Run(way, func(t *testing.T) {
			var r roll
			m := mem.New()
			name, body := newPack(testkit.Rand(testkit.Seed(t)), 12<<20)
			put(t, m, name, body)
			far := newNode(t, &r, func(o *Options) { change(o); o.Bucket = m })
			near := newNode(t, &r, change)
			b := near.Bucket(far.Key(), at(listen(t, far)))
			rc, err := b.Get(t.Context(), name, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer rc.Close()
			if _, err := io.ReadFull(rc, make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			r.strike(near.Key())
			far.Recheck()
			if len(far.Sessions()) != 0 {
				t.Error("a session is left when Recheck has returned")
			}
			n, err := io.Copy(io.Discard, rc)
			if err == nil || n >= 11<<20 {
				t.Errorf("%d bytes more were read, %v", n, err)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if _, err := tryGet(t, b, name, 0, 10); err == nil {
				t.Error("a revoked device got bytes")
			}
			if err := b.Put(t.Context(), "x", bytes.NewReader(nil), 0); err == nil {
				t.Error("a revoked device put a blob")
			}
		})
	}
}

// What a role does not allow is refused, and the session goes on.
func TestGrant_IsHeldToInEachCall(t *testing.T) {
	var r roll
	m := mem.New()
	far := newNode(t, &r, func(o *Options) { o.Bucket = m })
	near := newNode(t, &r, nil)
	b := near.Bucket(far.Key(), at(listen(t, far)))
	put(t, b, "mine", []byte("mine"))
	r.set(near.Key(), Grant{Read: true})
	if err := b.Put(t.Context(), "x", bytes.NewReader(nil), 0); !errors.Is(err, blob.ErrUnauthorized) {
		t.Errorf("put by one who may read: %v", err)
	}
	if err := b.Remove(t.Context(), "mine"); !errors.Is(err, blob.ErrUnauthorized) {
		t.Errorf("remove by one who may read: %v", err)
	}
	if got := get(t, b, "mine", 0, -1); string(got) != "mine" {
		t.Errorf("got %q", got)
	}
	r.set(near.Key(), Grant{Write: true})
	if _, err := tryGet(t, b, "mine", 0, -1); !errors.Is(err, blob.ErrUnauthorized) {
		t.Errorf("get by one who may write: %v", err)
	}
	for _, err := range b.List(t.Context(), "") {
		if !errors.Is(err, blob.ErrUnauthorized) {
			t.Errorf("list by one who may write: %v", err)
		}
	}
}

// flipping gives one wrong bit of each blob, at a place that chance names, while it is on.
type flipping struct {
	blob.Bucket
	on   *atomic.Bool
	from int64
}

func (f flipping) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	r, err := f.Bucket.Get(ctx, name, off, n)
	if err != nil || !f.on.Load() {
		return r, err
	}
	p, err := io.ReadAll(r)
	_ = r.Close()
	if len(p) > 0 {
		p[f.from%int64(len(p))] ^= 1
	}
	return io.NopCloser(bytes.NewReader(p)), err
}

// No byte of a pack that is not its own is given out, whatever range is asked for, and whatever tree is sent for it.
func TestEvilPeer_WrongBytesAreNeverGivenOut(t *testing.T) {
	rnd := testkit.Rand(testkit.Seed(t))
	var r roll
	m := mem.New()
	var on atomic.Bool
	name, body := newPack(rnd, 3<<20+12345)
	put(t, m, name, body)
	far := newNode(t, &r, func(o *Options) { o.Bucket = flipping{m, &on, rnd.Int64N(1 << 40)} })
	near := newNode(t, &r, nil)
	b := near.Bucket(far.Key(), at(listen(t, far)))
	ranges := 40
	if testing.Short() {
		ranges = 8
	}
	for range ranges {
		off, n := rnd.Int64N(int64(len(body))+1000), rnd.Int64N(2<<20)
		if rnd.IntN(8) == 0 {
			n = -1
		}
		want := body[min(off, int64(len(body))):]
		if n >= 0 {
			want = want[:min(n, int64(len(want)))]
		}
		on.Store(false)
		if got := get(t, b, name, off, n); !bytes.Equal(got, want) {
			t.Fatalf("range %d+%d: got other bytes", off, n)
		}
		on.Store(true)
		got, err := tryGet(t, b, name, off, n)
		if !bytes.HasPrefix(want, got) {
			t.Fatalf("range %d+%d: wrong bytes were given out", off, n)
		}
		if len(want) > 0 && !errors.Is(err, ErrWrongBytes) {
			t.Fatalf("range %d+%d of wrong bytes: got error %v, want ErrWrongBytes", off, n, err)
		}
	}
	on.Store(false)
	hash := [32]byte{}
	for i := range hash { // of the name
		fmt.Sscanf(string(name[len(name)-64+2*i:])[:2], "%02x", &hash[i])
	}
	tree := far.trees.get(hash)
	for i := range tree {
		if i%23 != 0 && (testing.Short() || i >= 8+64) {
			continue
		}
		lie := bytes.Clone(tree)
		lie[i] ^= 1 << rnd.IntN(8)
		far.trees.put(hash, lie)
		near.trees.forget(hash)
		if got, err := tryGet(t, b, name, 0, -1); err == nil || !bytes.HasPrefix(body, got) {
			t.Fatalf("byte %d of the tree is wrong: got %d bytes, error %v", i, len(got), err)
		}
	}
}

// A pack that is put is stored only if its bytes are those of its name.
func TestEvilPeer_APackOfAnotherNameIsNotStored(t *testing.T) {
	rnd := testkit.Rand(testkit.Seed(t))
	var r roll
	m := mem.New()
	far := newNode(t, &r, func(o *Options) { o.Bucket = m })
	near := newNode(t, &r, nil)
	b := near.Bucket(far.Key(), at(listen(t, far)))
	for _, size := range []int{0, 1, 1000, 256 << 10, 1 << 20, 3<<20 + 1} {
		name, body := newPack(rnd, size+1)
		if err := b.Put(t.Context(), name, bytes.NewReader(body[:size]), int64(size)); !errors.Is(err, ErrWrongBytes) {
			t.Errorf("%d bytes under a wrong name: got error %v, want ErrWrongBytes", size, err)
		}
		if _, err := tryGet(t, m, name, 0, -1); err == nil {
			t.Errorf("%d bytes under a wrong name were stored", size)
		}
		put(t, b, name, body)
	}
}

// A far side that sends more than it was asked for, or anything but what is due, is cut off, and nothing of that is taken.
func TestEvilPeer_BodiesThatDoNotEnd(t *testing.T) {
	junk := make([]byte, maxData)
	data := appendFrame(nil, frameData, junk)
	evils := map[string]func(st Stream){
		"more data than asked for": func(st Stream) {
			for {
				if _, err := st.Write(data); err != nil {
					return
				}
			}
		},
		"empty frames for ever": func(st Stream) {
			for {
				if _, err := st.Write(appendFrame(nil, frameData, nil)); err != nil {
					return
				}
			}
		},
		"a frame of 4 GiB":       func(st Stream) { _, _ = st.Write([]byte{byte(frameAnswer), 255, 255, 255, 255}) },
		"a frame of no kind":     func(st Stream) { _, _ = st.Write([]byte{99, 0, 0, 0, 0}) },
		"a call for an answer":   func(st Stream) { c := call{op: opGet}; _, _ = st.Write(appendFrame(nil, frameCall, c.encode())) },
		"a failure that is none": func(st Stream) { _, _ = st.Write(appendFrame(nil, frameFail, junk[:100])) },
		"an end too early":       func(st Stream) { _, _ = st.Write([]byte{byte(frameData), 0, 0, 1}); st.Drop() },
	}
	for what, f := range evils {
		t.Run(what, func(t *testing.T) {
			var r roll
			key, addr := evilPeer(t, &r, func(_ call, st Stream) { f(st) })
			near := newNode(t, &r, nil)
			b := near.Bucket(key, at(addr))
			got, err := tryGet(t, b, "small", 0, 1000)
			if err == nil || len(got) > 1000 {
				t.Errorf("got %d bytes, error %v", len(got), err)
			}
			n := 0
			for _, err := range b.List(t.Context(), "") {
				if err == nil {
					n++
				}
			}
			if n > 0 {
				t.Errorf("%d blobs were listed", n)
			}
			if err := b.Put(t.Context(), "x", bytes.NewReader(junk), int64(len(junk))); err == nil {
				t.Error("a put is taken for done")
			}
		})
	}
}

// A listing in which names are illegal, twice, out of order, or not asked for, is refused.
func TestEvilPeer_ListingsThatLie(t *testing.T) {
	lies := map[string][]blob.Info{
		"an illegal name":      {{Name: "../../etc/passwd", Size: 1}},
		"a name twice":         {{Name: "a/1", Size: 1}, {Name: "a/1", Size: 1}},
		"out of order":         {{Name: "a/2", Size: 1}, {Name: "a/1", Size: 1}},
		"not asked for":        {{Name: "b/1", Size: 1}},
		"a negative size":      {{Name: "a/1", Size: -1}},
		"a part that is empty": {},
	}
	for what, lie := range lies {
		t.Run(what, func(t *testing.T) {
			var r roll
			key, addr := evilPeer(t, &r, func(_ call, st Stream) {
				_, _ = st.Write(appendFrame(nil, frameAnswer, encodeInfos(lie)))
				_, _ = st.Write(appendFrame(nil, frameEnd, nil))
				_ = st.CloseWrite()
			})
			near := newNode(t, &r, nil)
			var last error
			n := 0
			for _, err := range near.Bucket(key, at(addr)).List(t.Context(), "a/") {
				if last = err; err == nil {
					n++
				}
			}
			if !errors.Is(last, ErrProtocol) || n > 0 {
				t.Errorf("%d blobs, error %v, want ErrProtocol", n, last)
			}
		})
	}
}

// What a device that is admitted sends as it likes is refused; others are served meanwhile.
func TestEvilPeer_MalformedCalls(t *testing.T) {
	rnd := testkit.Rand(testkit.Seed(t))
	for way, change := range over {
		t.Run(way, func(t *testing.T) {
			var r roll
			m := mem.New()
			put(t, m, "a", []byte("a"))
			far := newNode(t, &r, func(o *Options) { change(o); o.Bucket = m })
			addr := listen(t, far)
			evil, good := newNode(t, &r, change), newNode(t, &r, change)
			b := good.Bucket(far.Key(), at(addr))
			for i := range 60 {
				s, err := evil.session(t.Context(), far.Key(), []string{addr})
				if err != nil {
					time.Sleep(20 * time.Millisecond) // it was cut off a moment ago
					evil.mu.Lock()
					evil.dials = map[Key]*dialing{}
					evil.mu.Unlock()
					continue
				}
				st, err := s.l.open(t.Context())
				if err != nil {
					continue
				}
				c := call{op: operation(rnd.IntN(9)), name: "a", off: rnd.Int64(), n: rnd.Int64(), size: rnd.Int64()}
				p := appendFrame(nil, frameCall, c.encode())
				switch i % 3 {
				case 0:
					p = testkit.Random(rnd, 1+rnd.IntN(100))
				case 1:
					p[rnd.IntN(len(p))] ^= 1 << rnd.IntN(8)
				}
				_, _ = st.Write(p)
				_ = st.CloseWrite()
				if got := get(t, b, "a", 0, -1); string(got) != "a" {
					t.Fatalf("another peer got %q", got)
				}
			}
			if got := get(t, m, "a", 0, -1); string(got) != "a" {
				t.Errorf("the blob is %q now", got)
			}
		})
	}
}

// stuck never takes a blob.
type stuck struct{ blob.Bucket }

func (s stuck) Put(ctx context.Context, _ blob.Name, _ io.Reader, _ int64) error {
	<-ctx.Done()
	return ctx.Err()
}

// A flood of bodies that nobody reads takes the memory that the package comment says, and no more.
func TestEvilPeer_AFloodIsBoundedInMemory(t *testing.T) {
	for way, change := range over {
		t.Run(way, func(t *testing.T) {
			var r roll
			m := mem.New()
			put(t, m, "a", []byte("a"))
			far := newNode(t, &r, func(o *Options) { change(o); o.Bucket = stuck{m} })
			addr := listen(t, far)
			before := heap()
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			const devices = 3
			for range devices {
				evil := newNode(t, &r, change)
				evil.o.NoTCP, evil.o.NoUDP = false, false
				change(&evil.o)
				for range 2 * maxCalls {
					all.Go(func() {
						_ = evil.Bucket(far.Key(), at(addr)).Put(ctx, "flood", zeros{}, maxBlob)
					})
				}
			}
			time.Sleep(1500 * time.Millisecond) // it is the flood that is to go on for so long
			used := heap() - before
			good := newNode(t, &r, change)
			if got := get(t, good.Bucket(far.Key(), at(addr)), "a", 0, -1); string(got) != "a" {
				t.Errorf("another device got %q", got)
			}
			cancel()
			all.Wait()
			// What both sides of all sessions hold: they are in one process.
			if limit := int64(devices) * 2 * 64 << 20; used > limit {
				t.Errorf("%d MiB are in use, want at most %d", used>>20, limit>>20)
			}
			t.Logf("%d MiB in use", used>>20)
		})
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// What was sent once means nothing when somebody sends it again.
func TestEvilPeer_Replay(t *testing.T) {
	var r roll
	m := mem.New()
	far := newNode(t, &r, func(o *Options) { o.NoUDP, o.Bucket = true, m })
	addr := listen(t, far)
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	var mu sync.Mutex
	var sent bytes.Buffer
	go func() {
		in, err := proxy.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		buf := make([]byte, 32<<10)
		for {
			n, err := in.Read(buf)
			mu.Lock()
			sent.Write(buf[:n])
			mu.Unlock()
			if _, werr := out.Write(buf[:n]); err != nil || werr != nil {
				_ = out.Close()
				return
			}
		}
	}()
	near := newNode(t, &r, func(o *Options) { o.NoUDP = true })
	put(t, near.Bucket(far.Key(), at(proxy.Addr().String())), "once", []byte("once"))
	_ = near.Close()
	if err := m.Remove(t.Context(), "once"); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mu.Lock()
	_, _ = c.Write(sent.Bytes())
	mu.Unlock()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.Copy(io.Discard, c)
	if _, err := tryGet(t, m, "once", 0, -1); err == nil {
		t.Error("what was recorded was taken for a call")
	}
}

package meeting

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func newHub(t testing.TB, change func(*Options)) (*Hub, Server) {
	t.Helper()
	c, err := OwnCertificate(filepath.Join(t.TempDir(), "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Certificate: c}
	if change != nil {
		change(&o)
	}
	h, err := Listen(t.Context(), "127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	pin, err := PinOf(c)
	if err != nil {
		t.Fatal(err)
	}
	return h, Server{Addr: h.Addr().String(), Pin: pin}
}

func newTestClient(t testing.TB, o ClientOptions) *Client {
	t.Helper()
	up := make(chan struct{}, 100)
	o.Changed = func() { up <- struct{}{} }
	c := NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	select {
	case <-up:
	case <-time.After(20 * time.Second):
		t.Fatal("the server is not reached")
	}
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

type said struct {
	slot Slot
	text string
}

// What is told comes to who holds the slot, to nobody else, and to nobody once that is gone.
func TestTell_ComesToWhoHoldsTheSlot(t *testing.T) {
	h, s := newHub(t, nil)
	got := make(chan said, 10)
	claims := make(chan []Claim, 10)
	claims <- []Claim{{1}, {2}}
	b := newTestClient(t, ClientOptions{Server: s, Said: func(slot Slot, text []byte) { got <- said{slot, string(text)} }, Claims: func() []Claim { return <-claims }})
	a := newTestClient(t, ClientOptions{Server: s, Said: func(Slot, []byte) { t.Error("a is told something") }})
	if err := a.Tell(t.Context(), Claim{2}.Slot(), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if x := <-got; x != (said{Claim{2}.Slot(), "hello"}) {
		t.Errorf("b was told %v", x)
	}
	for _, slot := range []Slot{Claim{3}.Slot(), Slot(Claim{1})} {
		if err := a.Tell(t.Context(), slot, []byte("x")); !errors.Is(err, ErrNobody) {
			t.Errorf("what nobody holds: %v", err)
		}
	}
	claims <- []Claim{{3}}
	b.Renew()
	for end := time.Now().Add(10 * time.Second); !errors.Is(a.Tell(t.Context(), Claim{3}.Slot(), nil), nil); {
		if time.Now().After(end) {
			t.Fatal("the new claim does not hold")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := a.Tell(t.Context(), Claim{1}.Slot(), nil); !errors.Is(err, ErrNobody) {
		t.Errorf("what is held no more: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); h.Counts().Slots > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after a holder has gone there is %+v", h.Counts())
		}
	}
}

// A server with another key than the one in its address is not spoken to, nor one whose certificate nobody vouches for.
func TestClient_AnotherServerIsNotSpokenTo(t *testing.T) {
	_, s := newHub(t, nil)
	_, other := newHub(t, nil)
	for what, x := range map[string]Server{"of another key": {s.Addr, other.Pin}, "without a hash": {Addr: s.Addr}} {
		c := NewClient(ClientOptions{Server: x, Claims: func() []Claim { t.Errorf("a server %s is told claims", what); return nil }})
		if _, err := c.Relay(t.Context(), Token{}); err == nil {
			t.Errorf("a server %s is taken", what)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Bytes go to and fro, both ways at once, until one side ends.
func TestRelay_Carries(t *testing.T) {
	h, s := newHub(t, nil)
	c := newTestClient(t, ClientOptions{Server: s})
	a, b := joined(t, c)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	for _, x := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() { _, _ = x[0].Write(sent) }()
	}
	for _, x := range []net.Conn{a, b} {
		p := make([]byte, len(sent))
		if _, err := io.ReadFull(x, p); err != nil || !bytes.Equal(p, sent) {
			t.Errorf("what was carried is not what was sent: %v", err)
		}
	}
	_ = a.Close()
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Error("after one side has ended the other one reads")
	}
	for end := time.Now().Add(10 * time.Second); h.Counts().Relays > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after a relay there is %+v", h.Counts())
		}
	}
}

func joined(t *testing.T, c *Client) (a, b net.Conn) {
	t.Helper()
	other := make(chan net.Conn, 1)
	token := Token{byte(time.Now().UnixNano()), byte(time.Now().UnixNano() >> 8), 1}
	go func() {
		x, err := c.Relay(t.Context(), token)
		if err != nil {
			t.Error(err)
		}
		other <- x
	}()
	a, err := c.Relay(t.Context(), token)
	b = <-other
	if err != nil || b == nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// What a relay carries is bounded in its rate and in all, and so is how many there are.
func TestRelay_IsBounded(t *testing.T) {
	_, s := newHub(t, func(o *Options) { o.RelayRate, o.RelayBytes, o.Relays = 1<<20, 1<<20, 1 })
	c := newTestClient(t, ClientOptions{Server: s})
	a, b := joined(t, c)
	if _, err := c.Relay(t.Context(), Token{9}); err == nil {
		t.Error("there is one relay more than may be")
	}
	begun := time.Now()
	go func() {
		for {
			if _, err := a.Write(make([]byte, 16<<10)); err != nil {
				return
			}
		}
	}()
	n, _ := io.Copy(io.Discard, b)
	if n > 1<<20 || n < 1<<19 {
		t.Errorf("%d bytes were carried, at most %d may be", n, 1<<20)
	}
	if d := time.Since(begun); d < 600*time.Millisecond {
		t.Errorf("1 MiB went through in %v at 1 MiB/s", d)
	}
}

// Floods: of connections, of claims, of messages to one who does not read, of frames that are none. Memory stays bounded, and who comes after them is served.
func TestHub_FloodsAreBounded(t *testing.T) {
	h, s := newHub(t, func(o *Options) { o.PerAddress = 40 })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	raw := func() net.Conn {
		c, err := tls.Dial("tcp", s.Addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}})
		if err != nil {
			return nil
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	for range 200 { // silent ones, before TLS
		c, err := net.Dial("tcp", s.Addr)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
	}
	time.Sleep(100 * time.Millisecond)
	if n := h.Counts().Connections; n > 40 {
		t.Errorf("%d connections of one address", n)
	}
	h2, s2 := newHub(t, nil)
	s = s2
	deaf := raw()
	if deaf == nil {
		t.Fatal("no connection")
	}
	_, _ = deaf.Write(appendFrame(nil, frameHold, bytes.Repeat([]byte{5}, 16)))
	loud := raw()
	slot := Claim(bytes.Repeat([]byte{5}, 16)).Slot()
	go func() {
		_, _ = io.Copy(io.Discard, loud)
	}()
	for i := range 20_000 {
		if _, err := loud.Write(appendFrame(nil, frameTell, binary.BigEndian.AppendUint32(nil, uint32(i)), slot[:], make([]byte, MaxTell))); err != nil {
			break
		}
	}
	for _, bad := range [][]byte{
		{frameHold, 0xFF, 0xFF},
		appendFrame(nil, frameHold, make([]byte, 17)), appendFrame(nil, frameHold, make([]byte, 16*(maxClaims+1))), appendFrame(nil, frameTell, []byte("x")),
		{99, 0, 0},
		appendFrame(nil, frameRelay, []byte("short")),
	} {
		c := raw()
		_, _ = c.Write(bad)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 10)); err == nil || os.IsTimeout(err) {
			t.Errorf("after %x: %v", bad[:min(len(bad), 8)], err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	newTestClient(t, ClientOptions{Server: s2})
	if n := h2.Counts().Slots; n > 1 {
		t.Errorf("%d slots are held", n)
	}
}

// An evil server: it floods, says frames that are none, or says nothing. The client leaves it, and its memory is bounded.
func TestClient_LeavesAnEvilServer(t *testing.T) {
	cert, err := OwnCertificate(filepath.Join(t.TempDir(), "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pin, err := PinOf(cert)
	if err != nil {
		t.Fatal(err)
	}
	flood := appendFrame(nil, frameSaid, make([]byte, 16), make([]byte, MaxTell))
	for what, evil := range map[string]func(c net.Conn){
		"that floods": func(c net.Conn) {
			for {
				if _, err := c.Write(flood); err != nil {
					return
				}
			}
		},
		"with frames that are none": func(c net.Conn) { _, _ = c.Write([]byte{200, 0, 1, 1}) },
		"with a frame too large":    func(c net.Conn) { _, _ = c.Write([]byte{frameSaid, 0xFF, 0xFF}) },
	} {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{alpn}})
		if err != nil {
			t.Fatal(err)
		}
		left := make(chan struct{}, 100)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					evil(c)
					_, _ = io.Copy(io.Discard, c)
					left <- struct{}{}
				}()
			}
		}()
		n := 0
		c := NewClient(ClientOptions{Server: Server{l.Addr().String(), pin}, Said: func(Slot, []byte) { n++ }})
		select {
		case <-left:
		case <-time.After(20 * time.Second):
			t.Errorf("a server %s is not left", what)
		}
		_ = c.Close()
		_ = l.Close()
		if n > 20*saidRate {
			t.Errorf("of a server %s %d messages were taken", what, n)
		}
	}
}

// The vectors of RFC 5769, 2.2 and 2.3: what others' servers answer.
func TestSTUN_ReadsTheVectorsOfTheRFC(t *testing.T) {
	four := []byte("\x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\x80\x28\x00\x04\xc0\x7d\x4c\x96")
	six := []byte("\x01\x01\x00\x48\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9\x00\x08\x00\x14\xa3\x82\x95\x4e\x4b\xe6\x7b\xf1\x17\x84\xc9\x7c\x82\x92\xc2\x75\xbf\xe3\xed\x41\x80\x28\x00\x04\xc8\xfb\x0b\x4c")
	for want, p := range map[string][]byte{"192.0.2.1:32853": four, "[2001:db8:1234:5678:11:2233:4455:6677]:32853": six} {
		tx, at, ok := ParseBinding(p)
		if !ok || at.String() != want {
			t.Errorf("got %v %v, want %s", at, ok, want)
		}
		if _, again, ok := ParseBinding(bindingSuccess(tx, at)); !ok || again != at {
			t.Errorf("what is answered reads %v, want %v", again, at)
		}
	}
}

func TestHub_SaysFromWhereAPacketComes(t *testing.T) {
	h, s := newHub(t, nil)
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s.Addr))
	tx := Transaction{1, 2, 3}
	answers := 0
	for range 100 { // more than one address gets in a second
		if _, err := c.WriteTo(BindingRequest(tx), to); err != nil {
			t.Fatal(err)
		}
		_, _ = c.WriteTo([]byte("no STUN"), to)
	}
	p := make([]byte, 1000)
	for {
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		n, _, err := c.ReadFrom(p)
		if err != nil {
			break
		}
		if got, at, ok := ParseBinding(p[:n]); !ok || got != tx || at.String() != c.LocalAddr().String() {
			t.Fatalf("got %v %v %v, want %v", got, at, ok, c.LocalAddr())
		}
		answers++
	}
	if answers == 0 || answers > 2*bindings { // two seconds at most
		t.Errorf("%d answers", answers)
	}
	_ = h
}

func TestParseServer(t *testing.T) {
	_, s := newHub(t, nil)
	for _, x := range []Server{s, {Addr: "meet.example.org:7436"}} {
		got, err := ParseServer(x.String())
		if err != nil || got.Addr != x.Addr || (got.Pin == nil) != (x.Pin == nil) || x.Pin != nil && *got.Pin != *x.Pin {
			t.Errorf("%s reads %v: %v", x, got, err)
		}
	}
	for _, bad := range []string{"", "host", ":7436", "host:7436~", "host:7436~abc", "host:7436~" + string(bytes.Repeat([]byte("a"), 53))} {
		if _, err := ParseServer(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(nil, frameHold, make([]byte, 32)))
	f.Add(appendFrame(nil, frameTell, make([]byte, 40)))
	f.Fuzz(func(t *testing.T, p []byte) {
		buf := make([]byte, maxFrame)
		r := bytes.NewReader(p)
		for {
			kind, body, err := readFrame(r, buf)
			if err != nil {
				return
			}
			if claims, err := parseClaims(body); err == nil && len(claims) > maxClaims {
				t.Error("too many claims")
			}
			if _, _, text, err := parseTell(body); err == nil && len(text) > MaxTell {
				t.Error("too long a text")
			}
			if got := appendFrame(nil, kind, body); len(got) != 3+len(body) {
				t.Error("a frame is not written as it was read")
			}
		}
	})
}

func FuzzSTUN(f *testing.F) {
	f.Add(BindingRequest(Transaction{1}))
	f.Add(bindingSuccess(Transaction{1}, netip.MustParseAddrPort("192.0.2.1:1")))
	f.Fuzz(func(t *testing.T, p []byte) {
		_, _ = parseBindingRequest(p)
		if _, at, ok := ParseBinding(p); ok && !at.Addr().IsValid() {
			t.Error("an address that is none")
		}
	})
}

package invite

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gtank/ristretto255"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vectors of draft-irtf-cfrg-cpace-21, appendix B.3.
func TestCPace_Vectors(t *testing.T) {
	sid := unhex(t, "7e4b4791d6a8ef019b936c79fb7f2c57")
	ci := unhex(t, "0b415f696e69746961746f720b425f726573706f6e646572")
	g := generator([]byte("Password"), ci, sid)
	if want := unhex(t, "222b6b195fe84b1652badb6f6a3ae3d24341e7306967f0b8115b40d5698c7e56"); !bytes.Equal(g.Encode(nil), want) {
		t.Fatalf("generator %x", g.Encode(nil))
	}
	scalar := func(s string) *ristretto255.Scalar {
		x := ristretto255.NewScalar()
		if err := x.Decode(unhex(t, s)); err != nil {
			t.Fatal(err)
		}
		return x
	}
	ya := scalar("da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08")
	yb := scalar("d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d")
	a, b := share(ya, g), share(yb, g)
	if want := unhex(t, "d6bac480f2c386c394efc7c47adb9925dcd2630b64f240c50f8d0eec482b9157"); !bytes.Equal(a, want) {
		t.Errorf("share of A %x", a)
	}
	if want := unhex(t, "3ea7e0b19560d7c0b0f5734f63b955286dfa8232b5ebe63324e2d9e7433f7258"); !bytes.Equal(b, want) {
		t.Errorf("share of B %x", b)
	}
	want := unhex(t, "80b69a8a76457ab6a4d7f887a4bf6b55a2f80ac19c333f917a05fc9887c8b40f")
	for _, x := range []struct {
		y *ristretto255.Scalar
		p []byte
	}{{ya, b}, {yb, a}} {
		if k, err := secret(x.y, x.p); err != nil || !bytes.Equal(k, want) {
			t.Errorf("secret point %x, %v", k, err)
		}
	}
	isk := sessionKey(sid, want, a, []byte("ADa"), b, []byte("ADb"))
	if want := unhex(t, `b69effbf61b51d56401c0f65601abe428de8206feaaf0e32198896dcae7b35cd2b38950a39dfd5d4a79164614c2984f7daa460b588c1e80c3fa2068af7900447`); !bytes.Equal(isk[:], want) {
		t.Errorf("session key %x", isk)
	}
	// What is no point, and the point that gives away the key, are refused.
	for _, p := range [][]byte{nil, make([]byte, 32), bytes.Repeat([]byte{0xff}, 32), make([]byte, 31)} {
		if _, err := secret(ya, p); err == nil {
			t.Errorf("%x was taken for a point", p)
		}
	}
}

type invited struct {
	*Invitation
	addr  string
	given int
	check []byte
}

func invite(t *testing.T, code string, expires time.Time) *invited {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &invited{addr: l.Addr().String()}
	v.Invitation, err = Invite(t.Context(), l, Options{
		Code: []byte(code), Offer: Offer("inviter"), Expires: expires,
		Met: func(_ Offer, check []byte) { v.check = check },
		Give: func(_ context.Context, theirs Offer) ([]byte, error) {
			v.given++
			return []byte("for " + string(theirs)), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

func soon() time.Time { return time.Now().Add(time.Minute) }

func TestPair(t *testing.T) {
	v := invite(t, "a-b-c", soon())
	j, err := Join(t.Context(), v.addr, []byte("a-b-c"), Offer("joiner"))
	if err != nil {
		t.Fatal(err)
	}
	if string(j.Theirs) != "inviter" {
		t.Errorf("the inviter is %q", j.Theirs)
	}
	got, err := j.Accept()
	if err != nil || string(got) != "for joiner" {
		t.Fatalf("given %q, %v", got, err)
	}
	if err := j.Kept(); err != nil {
		t.Error(err)
	}
	if err := v.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(v.check, j.Check) {
		t.Error("both sides show other check words")
	}
	// A code is good for one device.
	if _, err := Join(t.Context(), v.addr, []byte("a-b-c"), Offer("second")); err == nil || v.given != 1 {
		t.Errorf("a second device got in: %v", err)
	}
}

func TestPair_AWrongCodeHasThreeGuesses(t *testing.T) {
	v := invite(t, "right", soon())
	for range maxGuesses {
		if _, err := Join(t.Context(), v.addr, []byte("wrong"), nil); !errors.Is(err, ErrCode) {
			t.Fatalf("got %v, want ErrCode", err)
		}
	}
	if err := v.Wait(t.Context()); !errors.Is(err, ErrUsed) {
		t.Errorf("got %v, want ErrUsed", err)
	}
	if _, err := Join(t.Context(), v.addr, []byte("right"), nil); err == nil || v.given != 0 {
		t.Errorf("the right code after three wrong ones: %v", err)
	}
}

// Who begins a run and leaves it, to find out more, has used up a guess, too.
func TestPair_ARunThatIsLeftIsAGuess(t *testing.T) {
	v := invite(t, "right", soon())
	for range maxGuesses {
		conf, err := config()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tls.Dial("tcp", v.addr, conf)
		if err != nil {
			t.Fatal(err)
		}
		c, err := shake(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.agree([]byte("guess"), nil); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			v.mu.Lock()
			busy := v.busy
			v.mu.Unlock()
			if !busy || time.Now().After(end) {
				break
			}
		}
	}
	if err := v.Wait(t.Context()); !errors.Is(err, ErrUsed) {
		t.Errorf("got %v, want ErrUsed", err)
	}
}

func TestPair_ExpiresAndNo(t *testing.T) {
	v := invite(t, "code", time.Now().Add(30*time.Millisecond))
	if err := v.Wait(t.Context()); !errors.Is(err, ErrExpired) {
		t.Errorf("got %v, want ErrExpired", err)
	}
	v = invite(t, "code", soon())
	j, err := Join(t.Context(), v.addr, []byte("code"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	if j, err = Join(t.Context(), v.addr, []byte("code"), nil); err != nil { // one no is no end
		t.Fatal(err)
	}
	_ = j.Close()
	if v.given != 0 {
		t.Error("something was given to who said no")
	}
}

// A relay that ends TLS on both sides, with keys of its own, and hands on all that the two say, is caught: what they say is bound to their
// connection. It knows everything but the code.
func TestPair_ARelayThatSwapsKeysIsCaught(t *testing.T) {
	v := invite(t, "code", soon())
	conf, err := config()
	if err != nil {
		t.Fatal(err)
	}
	relay, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	go func() {
		in, err := relay.Accept()
		if err != nil {
			return
		}
		out, err := tls.Dial("tcp", v.addr, conf)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
		_, _ = io.Copy(in, out)
		_ = in.Close()
	}()
	if _, err := Join(t.Context(), relay.Addr().String(), []byte("code"), Offer("joiner")); !errors.Is(err, ErrCode) {
		t.Errorf("got %v, want ErrCode", err)
	}
	if v.given != 0 || v.check != nil {
		t.Error("the inviter took the relay for the joiner")
	}
	// One that only hands on bytes is none: it learns nothing and is not in the way.
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	go func() {
		in, err := plain.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", v.addr)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
		_, _ = io.Copy(in, out)
		_ = in.Close()
	}()
	j, err := Join(t.Context(), plain.Addr().String(), []byte("code"), Offer("joiner"))
	if err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
}

package peering

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
	"github.com/sheaf-drive/sheaf/sync/find"
	"github.com/sheaf-drive/sheaf/sync/find/meeting"
	"github.com/sheaf-drive/sheaf/sync/invite"
)

// The words of a code, and those that both sides show.
const (
	codeWords  = 6
	checkWords = 3
)

// linkScheme and what follows begin a link.
const linkPrefix = "sheaf://join/"

// PairPort is where an invitation listens, if that is free.
const PairPort = 7435

// An offer is what one side of a pairing says of itself.
type offer struct {
	public keys.DevicePublic
	name   string
	addrs  []string // where it listens for peers
	// Where it is met, and under which secret by one who has no other yet; of an inviting device that is met at all.
	servers []string
	secret  find.Secret
}

func (o *offer) encode() []byte {
	pairs := 3
	if len(o.servers) > 0 {
		pairs = 5
	}
	b := cbor.AppendMap(nil, pairs)
	b = o.public.Append(cbor.AppendUint(b, 1))
	b = cbor.AppendText(cbor.AppendUint(b, 2), o.name)
	b = cbor.AppendArray(cbor.AppendUint(b, 3), len(o.addrs))
	for _, a := range o.addrs {
		b = cbor.AppendText(b, a)
	}
	if pairs == 5 {
		b = cbor.AppendArray(cbor.AppendUint(b, 4), len(o.servers))
		for _, a := range o.servers {
			b = cbor.AppendText(b, a)
		}
		b = cbor.AppendBytes(cbor.AppendUint(b, 5), o.secret[:])
	}
	return b
}

func decodeOffer(b []byte) (o offer, err error) {
	r := cbor.NewReader(b)
	last := int64(-1)
	pairs := r.Map()
	if pairs != 3 && pairs != 5 {
		r.Fail("%d pairs", pairs)
	}
	want := func(k uint64) {
		if got := r.Key(&last); got != k {
			r.Fail("key %d", got)
		}
	}
	want(1)
	o.public = keys.ReadPublic(r)
	want(2)
	if o.name = r.Text(); len(o.name) > keys.MaxDeviceName {
		r.Fail("a name of %d bytes", len(o.name))
	}
	want(3)
	n := r.Array()
	if n > maxAddrs {
		r.Fail("%d addresses", n)
	}
	for i := 0; i < n && r.Err() == nil; i++ {
		a := r.Text()
		if _, _, err := net.SplitHostPort(a); err != nil || len(a) > 300 {
			r.Fail("an address that is none")
		}
		o.addrs = append(o.addrs, a)
	}
	if pairs == 5 {
		want(4)
		n := r.Array()
		if n > find.MaxServers {
			r.Fail("%d servers", n)
		}
		for i := 0; i < n && r.Err() == nil; i++ {
			a := r.Text()
			if _, err := meeting.ParseServer(a); err != nil || len(a) > 400 {
				r.Fail("a server that is none")
			}
			o.servers = append(o.servers, a)
		}
		want(5)
		r.Fixed(o.secret[:])
	}
	if err := r.Close(); err != nil {
		return offer{}, fmt.Errorf("read offer: %w", err)
	}
	return o, nil
}

func (o *offer) device() sheaf.PeerDevice {
	return sheaf.PeerDevice{Key: o.public.Sign, ID: o.public.Fingerprint().String(), Name: o.name}
}

// An Invited is a code that waits for a device.
type Invited struct {
	Code    string
	Link    string
	Addrs   []string
	Expires time.Time

	inv     *invite.Invitation
	came    chan Came
	release func() // of what is held at servers
}

// Came is a device that came by a code.
type Came struct{ Name, Check string }

// A Host is a drive that lets new devices in. *sheaf.Drive is one.
type Host interface {
	Welcome(ctx context.Context, p keys.DevicePublic, name string) ([]byte, error)
	Public() keys.DevicePublic
}

// Invite makes a code, good until a moment. The Peering has to listen. The caller closes it.
func (p *Peering) Invite(ctx context.Context, host Host, expires time.Time) (*Invited, error) {
	addrs := p.Addresses()
	if len(addrs) == 0 {
		return nil, errors.New("invite: this device does not listen for peers")
	}
	var secret [9]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, err
	}
	code := keys.CodeWords(secret[:], codeWords)
	l, err := p.listenPair(ctx)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	v := &Invited{Code: code, Expires: expires, came: make(chan Came, 1)}
	for _, a := range addrs {
		h, _, _ := net.SplitHostPort(a)
		v.Addrs = append(v.Addrs, net.JoinHostPort(h, port))
	}
	mine := offer{public: host.Public(), name: p.o.Name, addrs: addrs[:min(len(addrs), maxAddrs)]}
	places, held, err := p.meetingPlaces(&mine)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	v.Addrs = append(v.Addrs, places...)
	v.Link = linkPrefix + strings.Join(v.Addrs, ",") + "#" + code
	var came Came
	v.inv, err = invite.Invite(ctx, l, invite.Options{
		Code: []byte(code), Offer: mine.encode(), Expires: expires,
		Met: func(theirs invite.Offer, check []byte) {
			if o, err := decodeOffer(theirs); err == nil {
				came = Came{o.name, words(check)}
			}
		},
		Give: func(ctx context.Context, theirs invite.Offer) ([]byte, error) {
			o, err := decodeOffer(theirs)
			if err != nil {
				return nil, err
			}
			gift, err := host.Welcome(ctx, o.public, o.name)
			if err == nil && len(o.addrs) > 0 {
				err = p.Know(o.public.Sign, o.addrs...)
			}
			if err == nil && len(mine.servers) > 0 {
				p.expect(mine.secret)
			}
			if err == nil {
				p.letIn(o.public.Sign)
			}
			return gift, err
		},
	})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	v.release = p.holdInvitation(v.inv, held)
	p.all.Go(func() {
		defer v.release()
		if v.inv.Wait(p.life) == nil {
			v.came <- came
		}
		close(v.came)
	})
	return v, nil
}

// listenPair listens for a pairing, on the same host as for peers.
func (p *Peering) listenPair(ctx context.Context) (net.Listener, error) {
	host, _, err := net.SplitHostPort(p.Listening())
	if err != nil {
		return nil, fmt.Errorf("invite: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(PairPort)))
	if err != nil {
		l, err = lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return nil, fmt.Errorf("invite: %w", err)
	}
	return l, nil
}

// Wait returns who came, when that device has all that it needs.
func (v *Invited) Wait(ctx context.Context) (Came, error) {
	if err := v.inv.Wait(ctx); err != nil {
		return Came{}, err
	}
	c, ok := <-v.came
	if !ok {
		return Came{}, invite.ErrUsed // somebody else has been told
	}
	return c, nil
}

// Close ends it.
func (v *Invited) Close() error {
	v.release()
	return v.inv.Close()
}

// words are check bytes as people compare them.
func words(check []byte) string {
	return strings.ReplaceAll(keys.CodeWords(check, checkWords), "-", " ")
}

// ParseInvite takes a code or a link apart. The error wraps keys.ErrWords if the words are none.
func ParseInvite(text string) (code string, addrs []string, err error) {
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, linkPrefix); ok {
		at, c, ok := strings.Cut(rest, "#")
		if at, err = url.PathUnescape(at); err != nil || !ok {
			return "", nil, fmt.Errorf("%w: the link is cut off", keys.ErrWords)
		}
		addrs, text = strings.Split(at, ","), c
		if len(addrs) > maxAddrs {
			return "", nil, fmt.Errorf("%w: the link has %d addresses", keys.ErrWords, len(addrs))
		}
	}
	code, err = keys.ParseCode(text, codeWords)
	return code, addrs, err
}

// A Joining is a device that was reached by a code, and this device that may become one of its drive.
type Joining struct {
	Name, ID, Check string // of the inviting device

	j    *invite.Joining
	n    *keys.Newcomer
	them offer
	name string
}

// Join reaches the device that gave a code, at one of its addresses. The caller says Accept or Close. The error wraps invite.ErrCode if the code does not fit, and blob.ErrTemporary
// if nobody is there.
func Join(ctx context.Context, code string, addrs []string, name string) (*Joining, error) {
	n, err := keys.NewNewcomer(nil)
	if err != nil {
		return nil, err
	}
	mine := offer{public: n.Device().Public(), name: name}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("join: no address of the inviting device is known: %w", blob.ErrTemporary)
	}
	var errs []error
	slices.SortStableFunc(addrs, func(a, b string) int { return strings.Count(a, "~") - strings.Count(b, "~") }) // servers come last
	for _, addr := range addrs {
		dctx, cancel := context.WithTimeout(ctx, joinWait(addrs, addr))
		var j *invite.Joining
		var err error
		if strings.Contains(addr, "~") {
			j, err = joinBy(dctx, addr, []byte(code), mine.encode())
		} else {
			j, err = invite.Join(dctx, addr, []byte(code), mine.encode())
		}
		cancel()
		if errors.Is(err, invite.ErrCode) {
			return nil, err // another address of the same device would cost another guess
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		them, err := decodeOffer(j.Theirs)
		if err != nil {
			return nil, errors.Join(err, j.Close())
		}
		// The host by which it was reached is the first to be tried for everything else.
		if host, _, err := net.SplitHostPort(addr); err == nil && len(them.addrs) > 0 && !strings.Contains(addr, "~") {
			if _, port, err := net.SplitHostPort(them.addrs[0]); err == nil {
				them.addrs = slices.Insert(them.addrs, 0, net.JoinHostPort(host, port))
			}
		}
		return &Joining{Name: them.name, ID: them.public.Fingerprint().String(), Check: words(j.Check), j: j, n: n, them: them, name: name}, nil
	}
	return nil, fmt.Errorf("%w: %v", blob.ErrTemporary, errors.Join(errs...)) //nolint:errorlint // what it wraps means something else here
}

// Close says no.
func (j *Joining) Close() error { return j.j.Close() }

// An Arrival is what it takes to open a drive on a device that was let in.
type Arrival struct {
	Drive   keys.DriveID
	Tips    keys.Tips
	Device  *keys.Device
	Name    string // of this device
	Inviter sheaf.PeerDevice
	Addrs   []string // of the inviter
	// Where the inviter is met, and under which secret, if it is met at all.
	Servers []string
	Secret  find.Secret
}

// Accept says yes, and makes the device file in dir of what is given.
func (j *Joining) Accept(dir string) (*Arrival, error) {
	gift, err := j.j.Accept()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("join: the inviting device gave nothing: %w", err), j.j.Close())
	}
	a := &Arrival{Device: j.n.Device(), Name: j.name, Inviter: j.them.device(), Addrs: j.them.addrs, Servers: j.them.servers, Secret: j.them.secret}
	if a.Drive, a.Tips, err = j.n.Accept(dir, gift); err != nil {
		return nil, errors.Join(err, j.j.Close())
	}
	_ = j.j.Kept() // it is kept, whether the other side hears of it or not
	return a, nil
}

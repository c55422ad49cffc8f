// Package invite brings a new device together with one that is a member, by a code that a person carries from one to the other. It knows neither drives nor keys of these: it
// gives both sides a channel of which each is certain that the other end knows the code, and carries what is theirs over it.
//
// # What is done
//
// The inviting side listens, the joining side dials. They speak TLS 1.3, at first with nobody in particular. Then they run CPace with the code as the password, and with what TLS exports of
// this connection (RFC 9266) as its context: whoever stands in between has two connections, which export two things, and so two keys come of it. The joining side proves first that it knows the
// key, then the inviting one. What of the drive is given away is sent after that, and after a person at the joining side has said yes.
//
//	1  joining   its share
//	2  inviting  its share
//	3  joining   proof, and what it wants to be: Offer
//	4  inviting  proof, and who it is: Offer
//	5  joining   yes
//	6  inviting  what is given: at most 64 KiB
//	7  joining   it is kept
//
// A code is good for one device. Each run that is begun counts as a guess, whether it comes to an end or not, and after three a code is worth nothing: of 2^44 that it may be, an attacker has
// tried three. Both sides show the same check words of the key.
package invite

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"time"
)

// The errors of pairing.
var (
	ErrCode    = errors.New("the code is wrong, or somebody is in between")
	ErrUsed    = errors.New("the code is used up: ask for a new one")
	ErrExpired = errors.New("the code has expired: ask for a new one")
	ErrRefused = errors.New("the other side said no")
	errFrame   = errors.New("what came is no message of a pairing")
)

// The bounds of a pairing.
const (
	maxGuesses = 3
	maxFrame   = 64 << 10
	stepWait   = 20 * time.Second
	answerWait = 5 * time.Minute // for a person
	maxOffer   = 4 << 10
	checkBytes = 8
)

const alpn = "sheaf-pair/1"

// An Offer is what one side says of itself to the other, in bytes that mean something to the caller.
type Offer []byte

// An Invitation is a code that waits for a device. New makes one; it ends by Close.
type Invitation struct {
	o      Options
	tls    *tls.Config
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup
	l      net.Listener
	result chan error

	mu      sync.Mutex
	guesses int
	busy    bool
	done    bool
}

// Options say what an Invitation gives. All are needed.
type Options struct {
	Code    []byte // the password
	Offer   Offer  // of this side
	Expires time.Time
	// Met is told who has come, and the check bytes that both sides show.
	Met func(theirs Offer, check []byte)
	// Give returns what the new device is given. It is called once, when that side has said yes.
	Give func(ctx context.Context, theirs Offer) ([]byte, error)
}

// Invite waits for a device at a listener, which it closes at its end.
func Invite(ctx context.Context, l net.Listener, o Options) (*Invitation, error) {
	conf, err := config()
	if err != nil {
		return nil, err
	}
	i := &Invitation{o: o, tls: conf, l: l, result: make(chan error, 1)}
	i.ctx, i.cancel = context.WithDeadlineCause(context.WithoutCancel(ctx), o.Expires, ErrExpired)
	context.AfterFunc(i.ctx, func() {
		_ = l.Close()
		i.end(context.Cause(i.ctx))
	})
	i.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			i.all.Go(func() { i.serve(c) })
		}
	})
	return i, nil
}

// Wait returns when a device has what it was given, or the code is worth nothing any more.
func (i *Invitation) Wait(ctx context.Context) error {
	select {
	case err := <-i.result:
		i.result <- err
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends it.
func (i *Invitation) Close() error {
	i.cancel()
	i.all.Wait()
	return nil
}

func (i *Invitation) end(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.done {
		i.done = true
		i.result <- err
	}
}

// begin takes a guess. One run is under way at a time.
func (i *Invitation) begin() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.done || i.busy || i.guesses >= maxGuesses {
		return false
	}
	i.busy = true
	i.guesses++
	return true
}

// Serve takes a connection that came another way than by the listener, and returns when it is over.
func (i *Invitation) Serve(conn net.Conn) { i.serve(conn) }

func (i *Invitation) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(i.ctx, func() { _ = conn.Close() })()
	c, err := shake(i.ctx, tls.Server(conn, i.tls))
	if err != nil {
		return
	}
	ya, err := c.read(32)
	if err != nil || !i.begin() {
		return
	}
	err = i.run(c, ya)
	i.mu.Lock()
	i.busy = false
	over := i.guesses >= maxGuesses
	i.mu.Unlock()
	switch {
	case err == nil:
		i.end(nil)
	case over:
		i.end(ErrUsed)
	}
	if err == nil || over {
		i.cancel()
	}
}

func (i *Invitation) run(c *channel, ya []byte) error {
	k, err := c.agree(i.o.Code, ya)
	if err != nil {
		return err
	}
	p, err := c.read(sha512.Size + maxOffer)
	if err != nil {
		return err
	}
	theirs, err := k.check(joining, p)
	if err != nil {
		return err
	}
	if err := c.write(k.prove(inviting, i.o.Offer)); err != nil {
		return err
	}
	i.o.Met(theirs, k.words())
	c.patience = answerWait
	yes, err := c.read(1)
	if err != nil || len(yes) != 1 || yes[0] != 1 {
		return errors.Join(ErrRefused, err)
	}
	c.patience = stepWait
	gift, err := i.o.Give(i.ctx, theirs)
	if err != nil {
		i.end(err) // what was begun must not be begun once more
		return err
	}
	if err := c.write(gift); err != nil {
		i.end(err)
		return err
	}
	if _, err := c.read(1); err != nil {
		err = fmt.Errorf("the new device did not say that it has what it was given: %w", err)
		i.end(err)
		return err
	}
	return nil
}

// A Joining is a run from the side of the new device, between knowing who is there and saying yes.
type Joining struct {
	c      *channel
	Theirs Offer
	Check  []byte // what both sides show
}

// Join dials an invitation. The caller says Accept or Close.
func Join(ctx context.Context, addr string, code []byte, o Offer) (*Joining, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("reach the inviting device: %w", err)
	}
	return JoinOver(ctx, conn, code, o)
}

// JoinOver is Join over a connection that others may carry. It takes the connection, also if it fails.
func JoinOver(ctx context.Context, conn net.Conn, code []byte, o Offer) (*Joining, error) {
	conf, err := config()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	j, err := join(ctx, conn, conf, code, o)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("join: %w", err)
	}
	return j, nil
}

func join(ctx context.Context, conn net.Conn, conf *tls.Config, code []byte, o Offer) (*Joining, error) {
	c, err := shake(ctx, tls.Client(conn, conf))
	if err != nil {
		return nil, err
	}
	k, err := c.agree(code, nil)
	if err != nil {
		return nil, err
	}
	if err := c.write(k.prove(joining, o)); err != nil {
		return nil, err
	}
	p, err := c.read(sha512.Size + maxOffer)
	if err != nil {
		return nil, errors.Join(ErrCode, err) // that is how an inviting side says that it does not fit
	}
	theirs, err := k.check(inviting, p)
	if err != nil {
		return nil, err
	}
	return &Joining{c: c, Theirs: theirs, Check: k.words()}, nil
}

// Accept says yes, and returns what is given. The caller keeps it durably and says Kept.
func (j *Joining) Accept() ([]byte, error) {
	if err := j.c.write([]byte{1}); err != nil {
		return nil, err
	}
	return j.c.read(maxFrame)
}

// Kept says that what was given is kept, and ends it.
func (j *Joining) Kept() error { return errors.Join(j.c.write([]byte{1}), j.c.conn.Close()) }

// Close says no.
func (j *Joining) Close() error { return errors.Join(j.c.write([]byte{0}), j.c.conn.Close()) }

// The roles, as they are in proofs.
const (
	joining  = "joining"
	inviting = "inviting"
)

// channel is a connection with frames: the length in 32 bits, and that many bytes.
type channel struct {
	conn     *tls.Conn
	bound    []byte // what TLS exports of it
	patience time.Duration
}

func shake(ctx context.Context, conn *tls.Conn) (*channel, error) {
	ctx, cancel := context.WithTimeout(ctx, stepWait)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	cs := conn.ConnectionState()
	if cs.NegotiatedProtocol != alpn {
		return nil, errFrame
	}
	bound, err := cs.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	return &channel{conn: conn, bound: bound, patience: stepWait}, err
}

func (c *channel) read(limit int) ([]byte, error) {
	_ = c.conn.SetDeadline(time.Now().Add(c.patience))
	var head [4]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > uint32(limit) {
		return nil, errFrame
	}
	p := make([]byte, n)
	_, err := io.ReadFull(c.conn, p)
	return p, err
}

func (c *channel) write(p []byte) error {
	if len(p) > maxFrame {
		return errFrame
	}
	_ = c.conn.SetDeadline(time.Now().Add(c.patience))
	_, err := c.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...))
	return err
}

// agree runs CPace. ya is the share of the joining side, if this is the inviting one, or nil.
func (c *channel) agree(code, ya []byte) (*agreed, error) {
	g := generator(code, []byte(alpn), c.bound)
	y, err := drawScalar()
	if err != nil {
		return nil, err
	}
	mine := share(y, g)
	if err := c.write(mine); err != nil {
		return nil, err
	}
	theirs := ya
	if ya == nil {
		if theirs, err = c.read(32); err != nil {
			return nil, err
		}
	}
	point, err := secret(y, theirs)
	if err != nil {
		return nil, err
	}
	if ya == nil {
		return &agreed{sessionKey(c.bound, point, mine, []byte(joining), theirs, []byte(inviting))}, nil
	}
	return &agreed{sessionKey(c.bound, point, ya, []byte(joining), mine, []byte(inviting))}, nil
}

// agreed is the key of a run.
type agreed struct{ key [64]byte }

func (a *agreed) mac(what string, p []byte) []byte {
	h := hmac.New(sha512.New, a.key[:])
	_, _ = h.Write(lv(nil, []byte(what), p)) // never fails
	return h.Sum(nil)
}

// prove returns an offer with a proof that its side knows the key.
func (a *agreed) prove(role string, o Offer) []byte { return append(a.mac(role, o), o...) }

func (a *agreed) check(role string, p []byte) (Offer, error) {
	if len(p) < sha512.Size {
		return nil, errFrame
	}
	o := Offer(p[sha512.Size:])
	if !hmac.Equal(p[:sha512.Size], a.mac(role, o)) {
		return nil, ErrCode
	}
	return o, nil
}

func (a *agreed) words() []byte { return a.mac("check words", nil)[:checkBytes] }

// config makes the configuration of TLS with somebody who is not known yet: each end has a key for this one time.
func config() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(1577836800, 0), NotAfter: time.Unix(253370764800, 0)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, SessionTicketsDisabled: true,
		Certificates:       []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		InsecureSkipVerify: true, //nolint:gosec // who is there is found out by CPace, bound to this connection
	}, nil
}

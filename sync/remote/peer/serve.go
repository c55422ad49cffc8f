package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// The times of calls.
const (
	frameWait = 60 * time.Second // for the next frame
	stallWait = 5 * time.Minute  // for a far side that reads a blob as slowly as it can use it
)

// maxCalls is how many calls of one session are served at a time, and made.
const maxCalls = 32

// serve answers the calls of the far side until the link ends.
func (s *session) serve() {
	defer s.close("ended")
	slots := make(chan struct{}, maxCalls)
	defer func() {
		s.close("ended")
		for range maxCalls { // all that are under way
			slots <- struct{}{}
		}
	}()
	defer close(s.over)
	for {
		st, err := s.l.accept(context.WithoutCancel(s.life)) // it ends with the link, which says why
		if err != nil {
			s.why = err
			return
		}
		select {
		case slots <- struct{}{}:
		case <-s.life.Done():
			st.Drop()
			continue
		case <-s.l.done():
			st.Drop()
			continue
		}
		s.n.wg.Go(func() {
			defer func() { <-slots }()
			s.answer(st)
		})
	}
}

// answer answers one call.
func (s *session) answer(st Stream) {
	ctx, cancel := context.WithCancel(s.life)
	defer cancel()
	stop := context.AfterFunc(ctx, st.Drop) // when the session is cut, and at the end
	a := &answering{s: s, st: st, ctx: ctx, cancel: cancel}
	err := a.call()
	if err != nil {
		_ = st.SetWriteDeadline(time.Now().Add(frameWait))
		_, _ = st.Write(appendFrame(nil, frameFail, encodeFail(err)))
	}
	if stop() {
		_ = st.CloseWrite()
		if q, ok := st.(quicStream); ok {
			q.CancelRead(0)
		}
	}
	if errors.Is(err, ErrProtocol) {
		s.n.log.Warn("a peer does not keep to the protocol", "peer", fmt.Sprintf("%x", s.key[:4]), "err", err)
		time.Sleep(20 * time.Millisecond) // so that it may hear why
		s.close("protocol")
	}
}

// answering is a call of the far side.
type answering struct {
	s      *session
	st     Stream
	ctx    context.Context
	cancel context.CancelFunc
}

func (a *answering) call() error {
	_ = a.st.SetReadDeadline(time.Now().Add(frameWait))
	kind, payload, err := readFrame(a.st, nil)
	if err != nil {
		return err
	}
	if kind != frameCall {
		return fmt.Errorf("%w: a stream begins with a frame of kind %d", ErrProtocol, kind)
	}
	c, err := decodeCall(payload)
	if err != nil {
		return err
	}
	if a.s.guest.Load() {
		select {
		case <-a.s.heard:
		case <-a.ctx.Done():
			return a.ctx.Err()
		}
	}
	// What was admitted at the handshake may be so no more.
	grant, err := a.s.n.admit(a.ctx, a.s.key)
	if err != nil {
		return fmt.Errorf("%w: %w", blob.ErrUnauthorized, err)
	}
	writes := c.op == opPut || c.op == opRemove || c.op == opOffer
	reads := c.op == opGet || c.op == opTree || c.op == opList
	switch {
	case (writes || reads) && a.s.n.o.Bucket == nil:
		return errors.ErrUnsupported
	case writes && !a.s.n.o.Takes:
		return fmt.Errorf("this device keeps no copies for others: %w", errors.ErrUnsupported)
	case writes && !grant.Write, reads && !grant.Read:
		return blob.ErrUnauthorized
	}
	switch c.op {
	case opHello:
		h := hello{version: protocolVersion, drive: a.s.n.o.Drive, takes: a.s.n.o.Takes && grant.Write, name: a.s.n.o.Name}
		return a.send(frameAnswer, h.encode())
	case opGet:
		return a.get(c)
	case opTree:
		return a.tree(c)
	case opList:
		return a.list(c)
	case opPut:
		return a.put(c)
	case opOffer:
		return a.offer(c)
	case opRemove:
		if err := a.s.n.o.Bucket.Remove(a.ctx, c.names...); err != nil {
			return err
		}
		return a.send(frameEnd, nil)
	case opNudge:
		if a.s.n.o.Nudged != nil {
			a.s.n.o.Nudged(a.s.key)
		}
		return a.send(frameEnd, nil)
	}
	return fmt.Errorf("%w: call %d", ErrProtocol, c.op)
}

func (a *answering) send(kind frameKind, payload []byte) error {
	wait := frameWait
	if kind == frameData {
		wait = stallWait
	}
	_ = a.st.SetWriteDeadline(time.Now().Add(wait))
	_, err := a.st.Write(appendFrame(nil, kind, payload))
	return err
}

// hangsUp cancels the call when the far side ends the stream: it wants no more.
func (a *answering) hangsUp() {
	_ = a.st.SetReadDeadline(time.Time{})
	a.s.n.wg.Go(func() {
		var one [1]byte
		_, _ = a.st.Read(one[:])
		a.cancel()
	})
}

func (a *answering) get(c call) error {
	r, err := a.s.n.o.Bucket.Get(a.ctx, c.name, c.off, c.n)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if c.n < 0 || c.n > maxData { // else it is in the window before anybody could hang up
		a.hangsUp()
	}
	frame := make([]byte, frameHead+maxData)
	for {
		n, rerr := io.ReadFull(r, frame[frameHead:frameHead+a.s.rate.part(maxData)])
		if n > 0 {
			if err := a.s.rate.send(a.ctx, n); err != nil {
				return err
			}
			_ = a.st.SetWriteDeadline(time.Now().Add(stallWait))
			b := appendFrame(frame[:0], frameData, frame[frameHead:frameHead+n])
			if _, err := a.st.Write(b); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(rerr, io.EOF), errors.Is(rerr, io.ErrUnexpectedEOF):
			return a.send(frameEnd, nil)
		case rerr != nil:
			return rerr
		}
	}
}

// tree sends the tree of a pack, which is made at the first call for it, by reading it whole. A pack that is damaged here has none.
func (a *answering) tree(c call) error {
	hash, ok := catalog.PackHash(c.name)
	if !ok {
		return fmt.Errorf("%q is no pack: %w", string(c.name), blob.ErrName)
	}
	tree := a.s.n.trees.get(hash)
	if tree == nil {
		size := int64(-1)
		for info, err := range a.s.n.o.Bucket.List(a.ctx, c.name) {
			if err != nil {
				return err
			}
			if info.Name == c.name {
				size = info.Size
			}
		}
		r, err := a.s.n.o.Bucket.Get(a.ctx, c.name, 0, -1)
		if err != nil {
			return err
		}
		tree, err = makeTree(r, size, hash)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		a.s.n.trees.put(hash, tree)
	}
	return a.send(frameAnswer, tree)
}

func (a *answering) list(c call) error {
	a.hangsUp()
	var some []blob.Info
	flush := func() error {
		if len(some) == 0 {
			return nil
		}
		b := encodeInfos(some)
		some = some[:0]
		return a.send(frameAnswer, b)
	}
	size := 0
	for info, err := range a.s.n.o.Bucket.List(a.ctx, c.name) {
		if err != nil {
			return errors.Join(err, flush())
		}
		if some = append(some, info); len(some) == maxListed || size > maxHeader-1024 {
			if err := flush(); err != nil {
				return err
			}
			size = 0
		}
		size += len(info.Name) + 24
	}
	if err := flush(); err != nil {
		return err
	}
	return a.send(frameEnd, nil)
}

func (a *answering) put(c call) error {
	if err := c.name.Check(); err != nil {
		return err
	}
	if c.size > maxBlob {
		return fmt.Errorf("%w: a blob of %d bytes", ErrProtocol, c.size)
	}
	if _, ok := catalog.PackHash(c.name); ok && c.size == 0 {
		return ErrWrongBytes // there is no byte that the proof could hold back
	}
	defer a.s.n.arrivals.begin(a.s.key, c.name)()
	body := &arriving{st: a.st, left: c.size, rate: a.s.rate, ctx: a.ctx}
	if err := a.s.n.o.Bucket.Put(a.ctx, c.name, proven(c.name, body, c.size), c.size); err != nil {
		return err
	}
	if !body.ended {
		return fmt.Errorf("%w: a blob without an end", ErrProtocol)
	}
	return a.send(frameEnd, nil)
}

// arriving reads the data of frames: exactly so many bytes, or it fails.
type arriving struct {
	st    Stream
	ctx   context.Context // of the call
	rate  *Rate
	left  int64
	buf   []byte
	data  []byte
	ended bool
	err   error
}

func (r *arriving) Read(p []byte) (int, error) {
	for len(r.data) == 0 && r.err == nil {
		r.next()
	}
	if len(r.data) > 0 {
		n := copy(p, r.data)
		r.data = r.data[n:]
		return n, nil
	}
	return 0, r.err
}

func (r *arriving) next() {
	if r.ended {
		r.err = io.EOF
		return
	}
	_ = r.st.SetReadDeadline(time.Now().Add(frameWait))
	kind, payload, err := readFrame(r.st, r.buf)
	switch {
	case err != nil:
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		r.err = err
	case kind == frameEnd && r.left == 0:
		r.ended, r.err = true, io.EOF
	case kind != frameData:
		r.err = fmt.Errorf("%w: a frame of kind %d in a blob", ErrProtocol, kind)
	case len(payload) == 0 || int64(len(payload)) > r.left:
		r.err = fmt.Errorf("%w: a blob is longer than was said", ErrProtocol)
	default:
		r.err = r.rate.receive(r.ctx, len(payload))
		r.buf, r.data = payload[:cap(payload)], payload
		r.left -= int64(len(payload))
	}
}

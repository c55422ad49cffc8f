package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// A Bucket is another device, as a [blob.Bucket]. It is reached when it is used, and again when the session has ended. What it cannot do because
// the device is away is blob.ErrTemporary. It is safe for concurrent use.
type Bucket struct {
	n     *Node
	key   Key
	addrs func() []string
	only  *session // nil: any
}

var _ blob.Bucket = (*Bucket)(nil)

// Bucket returns a device as a Bucket. addrs says where it may be dialled, each time that there is no session; nil: it has to come by itself.
func (n *Node) Bucket(key Key, addrs func() []string) *Bucket {
	if addrs == nil {
		addrs = func() []string { return nil }
	}
	return &Bucket{n: n, key: key, addrs: addrs}
}

// Takes reports whether the device keeps copies for this one, so that Put and Remove can be used.
func (b *Bucket) Takes(ctx context.Context) (bool, error) {
	s, h, err := b.greeted(ctx)
	if err == nil && !h.takes { // it may know more of this device by now than when it was asked
		if h, err = s.askHello(ctx); err == nil {
			s.hello.Store(h)
		}
	}
	return err == nil && h.takes, err
}

// greeted returns a session with the device, in which it has answered. Where one ends that another call has begun, before there was an answer, it says
// nothing of whether this device is admitted there: that is asked once more.
func (b *Bucket) greeted(ctx context.Context) (*session, *hello, error) {
	if b.only != nil {
		return b.only, nil, nil
	}
	for again := false; ; again = true {
		s, err := b.n.session(ctx, b.key, b.addrs())
		if err != nil {
			return nil, nil, err
		}
		h, err := s.greet(ctx)
		if err == nil || again || ctx.Err() != nil || s.life.Err() == nil {
			return s, h, err
		}
	}
}

// greet asks who is there, once in a session.
func (s *session) greet(ctx context.Context) (*hello, error) {
	select {
	case s.asked <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.asked }()
	if h := s.hello.Load(); h != nil {
		return h, nil
	}
	h, err := s.askHello(ctx)
	if err == nil {
		s.hello.Store(h)
	}
	return h, err
}

// probe asks whether anybody is at the other end still, and ends the session if there is no answer in time.
func (s *session) probe() {
	ctx, cancel := context.WithTimeout(s.life, probeWait)
	defer cancel()
	if _, err := s.askHello(ctx); err != nil {
		s.close("no answer, and another session has begun")
	}
}

func (s *session) askHello(ctx context.Context) (*hello, error) {
	c, err := s.begin(ctx, call{op: opHello, n: -1})
	if err != nil {
		return nil, err
	}
	payload, err := c.last(frameAnswer)
	if err != nil {
		return nil, c.end(err)
	}
	h, err := decodeHello(payload)
	switch {
	case err != nil:
	case h.version != protocolVersion:
		err = fmt.Errorf("the peer speaks version %d of the protocol, this device %d: the older sheaf of the two has to be updated: %w", h.version, protocolVersion, blob.ErrTemporary)
	case h.drive != s.n.o.Drive:
		err = fmt.Errorf("the peer is of another drive: %w", blob.ErrUnauthorized)
	}
	if err = c.end(err); err != nil {
		return nil, err
	}
	return &h, nil
}

// calling is a call of this side.
type calling struct {
	s    *session
	st   Stream
	ctx  context.Context
	stop func() bool
	buf  []byte
	done bool
}

// begin makes a call. The caller ends it.
func (s *session) begin(ctx context.Context, c call) (*calling, error) {
	select {
	case s.calls <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.life.Done():
		return nil, &lost{s.ended()}
	}
	st, err := s.l.open(ctx)
	if err != nil {
		<-s.calls
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.close("no stream") // nothing can be called on it any more
		return nil, &lost{err}
	}
	k := &calling{s: s, st: st, ctx: ctx}
	life, cancel := context.WithCancel(ctx)
	both := context.AfterFunc(s.life, cancel)
	one := context.AfterFunc(life, st.Drop)
	k.stop = func() bool { defer cancel(); both(); return one() }
	if err := k.send(frameCall, c.encode()); err != nil {
		return nil, k.end(err)
	}
	return k, nil
}

func (c *calling) send(kind frameKind, payload []byte) error {
	_ = c.st.SetWriteDeadline(time.Now().Add(frameWait))
	_, err := c.st.Write(appendFrame(nil, kind, payload))
	return err
}

// next reads a frame. A failure of the far side is an error.
func (c *calling) next() (frameKind, []byte, error) {
	_ = c.st.SetReadDeadline(time.Now().Add(frameWait))
	kind, payload, err := readFrame(c.st, c.buf)
	if err != nil {
		return 0, nil, err
	}
	c.buf = payload[:cap(payload)]
	if kind == frameFail {
		return 0, nil, &failed{decodeFail(payload)}
	}
	return kind, payload, nil
}

// failed is an error that the far side told: the session is well.
type failed struct{ error }

func (f *failed) Unwrap() error { return f.error }

// last reads a frame that has to be of a kind.
func (c *calling) last(kind frameKind) ([]byte, error) {
	got, payload, err := c.next()
	if err == nil && got != kind {
		err = fmt.Errorf("%w: a frame of kind %d, not %d", ErrProtocol, got, kind)
	}
	return payload, err
}

// end ends the call, and says what err means to a caller. It may be called once more.
func (c *calling) end(err error) error {
	if !c.done {
		c.done = true
		if c.stop() && err == nil {
			_ = c.st.CloseWrite()
			if q, ok := c.st.(quicStream); ok {
				q.CancelRead(0)
			}
		} else {
			c.st.Drop()
		}
		<-c.s.calls
	}
	var f *failed
	switch {
	case err == nil, errors.As(err, &f), errors.Is(err, errStopped):
		return err
	case c.ctx.Err() != nil:
		return c.ctx.Err()
	case errors.Is(err, ErrProtocol):
		c.s.n.log.Warn("a peer does not keep to the protocol", "peer", fmt.Sprintf("%x", c.s.key[:4]), "err", err)
		c.s.close("protocol")
		return fmt.Errorf("%w: %w", blob.ErrTemporary, err)
	}
	return &lost{err}
}

// lost is an error of the connection. What it is beneath means something else to a caller, so it wraps blob.ErrTemporary only.
type lost struct{ err error }

func (l *lost) Error() string { return fmt.Sprintf("call the peer: %v", l.err) }
func (l *lost) Unwrap() error { return blob.ErrTemporary }

// errStopped ends a call that the caller wants no more of.
var errStopped = errors.New("stopped")

// ask makes a call that has no body and is answered by one frame.
func (b *Bucket) ask(ctx context.Context, c call, kind frameKind) ([]byte, error) {
	k, err := b.start(ctx, c)
	if err != nil {
		return nil, err
	}
	payload, err := k.last(kind)
	return payload, k.end(err)
}

func (b *Bucket) start(ctx context.Context, c call) (*calling, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, _, err := b.greeted(ctx)
	if err != nil {
		return nil, err
	}
	return s.begin(ctx, c)
}

// Put implements [blob.Bucket].
func (b *Bucket) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	if err := name.Check(); err != nil {
		return err
	}
	if size < 0 {
		return fmt.Errorf("put blob %s: %w: size %d", name, blob.ErrSize, size)
	}
	if size > maxBlob {
		if _, err := io.CopyN(io.Discard, blob.Body(ctx, r, size), maxBlob+1); err != nil { // it says more than it has
			return fmt.Errorf("put blob %s: %w", name, err)
		}
		return fmt.Errorf("put blob %s: a peer takes blobs of at most %d bytes: %w", name, maxBlob, errors.ErrUnsupported)
	}
	k, err := b.start(ctx, call{op: opPut, name: name, n: -1, size: size})
	if err != nil {
		return fmt.Errorf("put blob %s: %w", name, err)
	}
	if err := k.end(k.put(blob.Body(ctx, r, size))); err != nil {
		return fmt.Errorf("put blob %s: %w", name, err)
	}
	return nil
}

// put sends a body, and listens for a no meanwhile.
func (c *calling) put(r io.Reader) error {
	reply := make(chan error, 1)
	_ = c.st.SetReadDeadline(time.Now().Add(frameWait))
	go func() { // it ends with the stream
		kind, payload, err := readFrame(c.st, nil)
		switch {
		case err != nil:
		case kind == frameFail:
			err = &failed{decodeFail(payload)}
		case kind != frameEnd:
			err = fmt.Errorf("%w: a frame of kind %d, not %d", ErrProtocol, kind, frameEnd)
		}
		reply <- err
		_ = c.st.SetWriteDeadline(time.Unix(1, 0)) // whoever sends still need not
	}()
	frame := make([]byte, frameHead+maxData)
	for {
		n, rerr := io.ReadFull(r, frame[frameHead:frameHead+c.s.rate.part(maxData)])
		if rerr != nil && !errors.Is(rerr, io.EOF) && !errors.Is(rerr, io.ErrUnexpectedEOF) {
			c.st.Drop()
			<-reply //nolint:errcheck // it is over, however it was
			return &failed{rerr}
		}
		if n > 0 {
			if err := c.s.rate.send(c.ctx, n); err != nil {
				c.st.Drop()
				<-reply //nolint:errcheck // the same
				return err
			}
			if err := c.piece(appendFrame(frame[:0], frameData, frame[frameHead:frameHead+n]), reply); err != nil {
				return err
			}
		}
		if rerr != nil {
			break
		}
	}
	if err := c.piece(appendFrame(nil, frameEnd, nil), reply); err != nil {
		return err
	}
	_ = c.st.SetReadDeadline(time.Now().Add(stallWait)) // it is made durable there
	return <-reply
}

// piece sends a frame of a body. If that fails, what the far side said is the error.
func (c *calling) piece(frame []byte, reply chan error) error {
	_ = c.st.SetReadDeadline(time.Now().Add(stallWait))
	select {
	case err := <-reply:
		reply <- err
		if err == nil {
			err = fmt.Errorf("%w: an answer before the end", ErrProtocol)
		}
		return err
	default:
	}
	_ = c.st.SetWriteDeadline(time.Now().Add(stallWait))
	_, err := c.st.Write(frame)
	if err == nil {
		return nil
	}
	select {
	case said := <-reply:
		reply <- said
		if said != nil {
			return said
		}
	case <-time.After(time.Second):
	}
	return err
}

// Get implements [blob.Bucket]. Of a pack, no byte is given out that is not verified.
func (b *Bucket) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	if err := name.Check(); err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, fmt.Errorf("get blob %s: offset %d", name, off)
	}
	r, err := b.get(ctx, name, off, n)
	if err != nil {
		return nil, fmt.Errorf("get blob %s: %w", name, err)
	}
	return r, nil
}

func (b *Bucket) get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	hash, isPack := catalog.PackHash(name)
	if !isPack {
		k, err := b.start(ctx, call{op: opGet, name: name, off: off, n: max(n, -1)})
		if err != nil {
			return nil, err
		}
		left := int64(maxBlob)
		if n >= 0 {
			left = min(n, left)
		}
		return newReading(k, left)
	}
	tree, err := b.tree(ctx, name, hash)
	if err != nil {
		return nil, err
	}
	size := sizeOf(tree)
	until := size
	if n >= 0 && off < size {
		until = min(size, off+min(n, size))
	}
	if off >= size || until <= off {
		return io.NopCloser(&io.LimitedReader{}), nil
	}
	from := off - off%group
	to := min(size, (until+group-1)/group*group)
	k, err := b.start(ctx, call{op: opGet, name: name, off: from, n: to - from})
	if err != nil {
		return nil, err
	}
	r, err := newReading(k, to-from)
	if err != nil {
		return nil, err
	}
	return &verified{r: r, trees: &b.n.trees, tree: tree, hash: hash, at: from, size: size, skip: off - from, left: until - off}, nil
}

// tree returns the tree of a pack.
func (b *Bucket) tree(ctx context.Context, name blob.Name, hash [32]byte) ([]byte, error) {
	if tree := b.n.trees.get(hash); tree != nil {
		return tree, nil
	}
	tree, err := b.ask(ctx, call{op: opTree, name: name, n: -1}, frameAnswer)
	if err != nil {
		return nil, err
	}
	if sizeOf(tree) < 0 {
		return nil, fmt.Errorf("%w: %w", blob.ErrTemporary, ErrWrongBytes)
	}
	b.n.trees.put(hash, tree)
	return tree, nil
}

// List implements [blob.Bucket].
func (b *Bucket) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		if len(prefix) > blob.MaxName {
			if err := ctx.Err(); err != nil {
				yield(blob.Info{}, err)
			}
			return // no name is as long
		}
		if err := b.list(ctx, prefix, yield); err != nil && !errors.Is(err, errStopped) {
			yield(blob.Info{}, fmt.Errorf("list blobs: %w", err))
		}
	}
}

func (b *Bucket) list(ctx context.Context, prefix blob.Name, yield func(blob.Info, error) bool) error {
	k, err := b.start(ctx, call{op: opList, name: prefix, n: -1})
	if err != nil {
		return err
	}
	last := blob.Name("")
	for {
		kind, payload, err := k.next()
		if err == nil && kind == frameEnd {
			return k.end(nil)
		}
		if err == nil && kind != frameAnswer {
			err = fmt.Errorf("%w: a frame of kind %d in a listing", ErrProtocol, kind)
		}
		var some []blob.Info
		if err == nil {
			some, err = decodeInfos(payload, prefix, last)
		}
		if err == nil && len(some) == 0 {
			err = fmt.Errorf("%w: a part of a listing without blobs", ErrProtocol)
		}
		if err != nil {
			return k.end(err)
		}
		last = some[len(some)-1].Name
		for _, info := range some {
			if !yield(info, nil) {
				return k.end(errStopped)
			}
		}
		if err := ctx.Err(); err != nil {
			return k.end(err)
		}
	}
}

// Remove implements [blob.Bucket].
func (b *Bucket) Remove(ctx context.Context, names ...blob.Name) error {
	for _, name := range names {
		if err := name.Check(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("remove blobs: %w", err)
	}
	for len(names) > 0 {
		some := names[:min(len(names), maxNames)]
		if _, err := b.ask(ctx, call{op: opRemove, n: -1, names: some}, frameEnd); err != nil {
			return fmt.Errorf("remove blobs: %w", err)
		}
		names = names[len(some):]
	}
	return nil
}

// nudge says that there is news here. While one is on its way, one more is enough for all that follow.
func (s *session) nudge() {
	select {
	case s.said <- struct{}{}:
	default:
		s.again.Store(true)
		return
	}
	s.n.wg.Go(func() {
		for {
			s.again.Store(false)
			ctx, cancel := context.WithTimeout(s.life, frameWait)
			k, err := s.begin(ctx, call{op: opNudge, n: -1})
			if err == nil {
				_, err = k.last(frameEnd)
				err = k.end(err)
			}
			cancel()
			<-s.said
			if err != nil || !s.again.Load() {
				return
			}
			select {
			case s.said <- struct{}{}:
			default:
				return // somebody else does it
			}
		}
	})
}

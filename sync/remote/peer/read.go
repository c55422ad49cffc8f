package peer

import (
	"errors"
	"fmt"
	"io"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// reading is the body of a blob on its way.
type reading struct {
	k    *calling
	left int64
	data []byte
	err  error
}

// newReading waits for the first frame: it says whether there is anything.
func newReading(k *calling, left int64) (*reading, error) {
	r := &reading{k: k, left: left}
	r.next()
	if r.err != nil && !errors.Is(r.err, io.EOF) {
		return nil, r.err
	}
	return r, nil
}

func (r *reading) next() {
	kind, payload, err := r.k.next()
	switch {
	case err != nil:
	case kind == frameEnd:
		r.err = r.k.end(nil)
		if r.err == nil {
			r.err = io.EOF
		}
		return
	case kind != frameData:
		err = fmt.Errorf("%w: a frame of kind %d in a blob", ErrProtocol, kind)
	case len(payload) == 0 || int64(len(payload)) > r.left:
		err = fmt.Errorf("%w: more bytes than were asked for", ErrProtocol)
	default:
		err = r.k.s.rate.receive(r.k.ctx, len(payload))
	}
	if err != nil {
		r.err = r.k.end(err)
		return
	}
	r.data = payload
	r.left -= int64(len(payload))
}

func (r *reading) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.data) == 0 && r.err == nil {
		r.next()
	}
	if len(r.data) > 0 {
		n := copy(p, r.data)
		r.data = r.data[n:]
		return n, nil
	}
	return 0, r.err
}

// Close ends it, also before its end.
func (r *reading) Close() error {
	if r.err == nil {
		r.err = errors.New("read blob: it is closed")
		_ = r.k.end(errStopped)
	}
	return nil
}

// verified gives out groups of a pack that fit its name.
type verified struct {
	r     *reading
	trees *trees
	tree  []byte
	hash  [32]byte
	size  int64
	at    int64 // of the next group
	skip  int64 // bytes of it that are not wanted
	left  int64 // that are, in all
	buf   []byte
	data  []byte
	err   error
}

func (v *verified) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(v.data) == 0 && v.err == nil {
		v.err = v.next()
	}
	if v.err != nil {
		return 0, v.err
	}
	n := copy(p, v.data)
	v.data = v.data[n:]
	return n, nil
}

func (v *verified) next() error {
	if v.left == 0 {
		return io.EOF
	}
	n := min(group, v.size-v.at)
	if v.buf == nil {
		v.buf = make([]byte, n)
	}
	b := v.buf[:n]
	if _, err := io.ReadFull(v.r, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: %w", blob.ErrTemporary, ErrWrongBytes)
		}
		return err
	}
	if !fits(v.tree, v.hash, v.at, b) {
		v.trees.forget(v.hash)
		_ = v.r.Close()
		v.r.k.s.n.log.Warn("a peer gave wrong bytes of a pack", "peer", fmt.Sprintf("%x", v.r.k.s.key[:4]))
		return fmt.Errorf("%w: %w", blob.ErrTemporary, ErrWrongBytes)
	}
	v.at += n
	b = b[v.skip:]
	v.skip = 0
	b = b[:min(int64(len(b)), v.left)]
	v.left -= int64(len(b))
	v.data = b
	return nil
}

func (v *verified) Close() error { return v.r.Close() }

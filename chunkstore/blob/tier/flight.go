package tier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// pack is a pack of remotes, with the size that it is said to have.
type pack struct {
	name blob.Name
	hash [32]byte
	size int64
}

func (p *pack) pieces() int { return int((p.size + Grid - 1) / Grid) }

// piece is one of a pack.
type piece struct {
	hash [32]byte
	no   int
}

// flight is a piece on its way. What follows done may be read when that is closed.
type flight struct {
	done chan struct{}
	body []byte
	err  error
}

// fetch returns a piece that is not cached, or was not a moment ago: from whoever is fetching it already, or else from the remotes, with the ahead
// pieces behind it in the same request. What another one's request failed with is no answer: that may have begun when no remote could be reached.
func (t *Tier) fetch(ctx context.Context, p pack, no, ahead int) ([]byte, error) {
	for asked := false; ; {
		f, own := t.start(p, no, ahead)
		if f == nil {
			if body, ok := t.cache.read(p.hash, p.size, no, 0, pieceLen(p.size, no)); ok {
				return body, nil
			}
			continue // it was damaged, or has gone again
		}
		select {
		case <-f.done:
			if f.err != nil && !own && !asked && t.life.Err() == nil {
				asked = true
				continue
			}
			return f.body, f.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// start starts the flight of a piece and of those behind it, as far as they are neither cached nor on their way. It returns nil
// if the first is cached: whoever was fetching it is done. own says that it was not on its way before.
func (t *Tier) start(p pack, no, ahead int) (f *flight, own bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.flights[piece{p.hash, no}]; f != nil {
		return f, false
	}
	have := t.cache.has(p.hash, p.size) // under the lock, as a piece is cached before its flight ends
	if have&(1<<no) != 0 {
		return nil, false
	}
	var run []*flight
	for i := no; i < min(no+1+ahead, p.pieces(), no+maxAhead); i++ {
		if i > no && (have&(1<<i) != 0 || t.flights[piece{p.hash, i}] != nil) {
			break
		}
		f := &flight{done: make(chan struct{})}
		t.flights[piece{p.hash, i}] = f
		run = append(run, f)
	}
	if t.life.Err() != nil {
		t.land(p, no, run, fmt.Errorf("tier: %w", fs.ErrClosed))
	} else {
		t.wg.Go(func() { t.fly(p, no, run) })
	}
	return run[0], true
}

// land ends flights that bring nothing. It needs the lock.
func (t *Tier) land(p pack, no int, run []*flight, err error) {
	for i, f := range run {
		f.err = err
		delete(t.flights, piece{p.hash, no + i})
		close(f.done)
	}
}

// fly brings pieces from the first remote that has them; where one fails half-way, the next goes on.
func (t *Tier) fly(p pack, no int, run []*flight) {
	weight := int64(len(run))
	if err := t.space.Acquire(t.life, weight); err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.land(p, no, run, fmt.Errorf("tier: %w", fs.ErrClosed))
		return
	}
	defer t.space.Release(weight)
	sources, _ := t.sources(p.name)
	f := failure{name: p.name}
	for _, s := range sources {
		n, err := t.bring(s, p, no, run)
		if n > 0 {
			t.note(p.hash, s.Name)
		}
		no, run = no+n, run[n:]
		if len(run) == 0 {
			return
		}
		f.add(s.Name, err)
	}
	err := t.err(&f)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.land(p, no, run, err)
}

// note remembers who gave bytes of a pack.
func (t *Tier) note(hash [32]byte, remote string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.served) >= maxSuspects {
		clear(t.served)
	}
	if !slices.Contains(t.served[hash], remote) {
		t.served[hash] = append(t.served[hash], remote)
	}
}

// bring asks one remote for pieces, hands out each that is whole, and returns how many these are.
func (t *Tier) bring(s source, p pack, no int, run []*flight) (n int, err error) {
	r, err := t.ask(t.life, s, p.name, int64(no)<<20, int64(len(run))<<20)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }()
	for i, f := range run {
		body := make([]byte, pieceLen(p.size, no+i))
		if _, err := io.ReadFull(r, body); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errShort
				if s.size == p.size && !t.mends(s, p) { // it is the one that has listed so much
					t.suspects(p.hash, s.Name)
				}
			}
			return i, err
		}
		t.cache.write(p.hash, p.size, no+i, body)
		f.body = body
		t.mu.Lock()
		delete(t.flights, piece{p.hash, no + i})
		t.mu.Unlock()
		close(f.done)
	}
	return len(run), nil
}

// A listed is the size of a pack as the catalog of a remote has it.
type listed struct {
	remote string
	hash   [32]byte
	size   int64
}

// mends asks a remote that sent less of a pack than its catalog says how long it is, and reports whether it says something else now: a
// listing may have been wrong, and the next one comes when the remote has a turn, for which a drive has to be open. It is believed until the
// catalog has another size.
func (t *Tier) mends(s source, p pack) bool {
	ctx, cancel := context.WithTimeout(t.life, t.o.Patience)
	defer cancel()
	size := int64(-1)
	for info, err := range s.Bucket.List(ctx, p.name) {
		if err != nil {
			return false
		}
		if info.Name == p.name && (size < 0 || size == p.size) { // one that is listed twice: what it was not listed with before
			size = info.Size
		}
	}
	if size == p.size {
		return false
	}
	table, _ := t.known.of(s.Name)
	was, ok := table.Size(p.name)
	if !ok {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.mended) >= maxSuspects {
		clear(t.mended)
	}
	t.mended[listed{s.Name, p.hash, was}] = size
	return true
}

// mendedSize returns what a remote has of a blob of which its catalog says that it has size bytes.
func (t *Tier) mendedSize(remote string, name blob.Name, size int64) int64 {
	hash, ok := catalog.PackHash(name)
	if !ok {
		return size
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, ok := t.mended[listed{remote, hash, size}]; ok {
		return n
	}
	return size
}

// habits remembers of the packs read last how they are read, to know how far ahead to ask.
type habits struct {
	mu    sync.Mutex
	packs map[[32]byte]habit
}

type habit struct{ next, ahead int }

// maxHabits is of how many packs that is remembered.
const maxHabits = 1024

// near is how many pieces a read may be away from where a pack was read to without ending that it is read in order: several read parts of
// one file at once, and what they read comes out of order. It is no reason to ask for more ahead, either: who looks here and there reads so, too.
const near = 4

// read notes that a piece is read, and returns how many behind it are worth asking for: 0 at first, and one more
// each time that it goes on from what was read before: so what nobody reads in the end is not more than what was read. Twice as many each time
// brought 8 MiB to who had asked for one, by what the system reads ahead itself.
func (h *habits) read(hash [32]byte, no int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.packs == nil || len(h.packs) >= maxHabits {
		h.packs = map[[32]byte]habit{}
	}
	was, ok := h.packs[hash]
	switch {
	case ok && no == was.next:
		was.ahead = min(was.ahead+1, maxAhead-1)
		was.next = no + 1
	case ok && no > was.next && no-was.next < near: // some are passed over
		was.next = no + 1
	case ok && no < was.next && was.next-no <= near: // the same piece again, or one that was passed over
	default:
		was = habit{next: no + 1}
	}
	h.packs[hash] = was
	return was.ahead
}

// reader yields a range of a pack, piece by piece. It is used by one goroutine at a time.
type reader struct {
	t        *Tier
	ctx      context.Context // a reader has no other way to stop with its context
	pack     pack
	off, end int64
	buf      []byte // of the piece that off is in
	err      error
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if err := r.ctx.Err(); err != nil {
		return 0, fmt.Errorf("read blob %s: %w", r.pack.name, err)
	}
	if r.off >= r.end {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.buf) == 0 {
		if err := r.fill(); err != nil {
			r.err = fmt.Errorf("read blob %s: %w", r.pack.name, err)
			return 0, r.err
		}
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	r.off += int64(n)
	return n, nil
}

// fill gets the bytes of the piece that off is in, as far as they are wanted.
func (r *reader) fill() error {
	no := int(r.off / Grid)
	at := int64(no) << 20
	end := min(r.end, at+Grid)
	ahead := r.t.habits.read(r.pack.hash, no)
	ahead = max(ahead, int((r.end-1)/Grid)-no) // what is asked for anyway
	if p, ok := r.t.cache.read(r.pack.hash, r.pack.size, no, r.off-at, end-r.off); ok {
		r.buf = p
		r.t.readAhead(r.pack, no, ahead)
		return nil
	}
	p, err := r.t.fetch(r.ctx, r.pack, no, ahead)
	if err != nil {
		return err
	}
	r.buf = p[r.off-at : end-at]
	return nil
}

// readAhead starts to fetch what comes next, once less than half of it is here.
func (t *Tier) readAhead(p pack, no, ahead int) {
	if ahead < 2 {
		return
	}
	have := t.cache.has(p.hash, p.size)
	for i := no + 1; i <= min(no+ahead/2, p.pieces()-1); i++ {
		t.mu.Lock()
		flying := t.flights[piece{p.hash, i}] != nil
		t.mu.Unlock()
		if have&(1<<i) == 0 && !flying {
			t.start(p, i, ahead-(i-no))
			return
		}
	}
}

func (r *reader) Close() error {
	r.buf, r.err = nil, fmt.Errorf("read blob %s: %w", r.pack.name, fs.ErrClosed)
	return nil
}

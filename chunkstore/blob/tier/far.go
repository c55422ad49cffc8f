package tier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/blob/catalog"
)

// getFar opens a pack or an index blob that is not in Local.
func (t *Tier) getFar(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get blob %s: %w", name, err)
	}
	if off < 0 {
		return nil, fmt.Errorf("get blob %s: offset %d: %w", name, off, fs.ErrInvalid)
	}
	sources, size := t.sources(name)
	if len(sources) > 0 && sources[0].Near && sources[0].size >= 0 {
		r, err := sources[0].Bucket.Get(ctx, name, off, n)
		if err == nil {
			if hash, ok := catalog.PackHash(name); ok {
				t.note(hash, sources[0].Name)
			}
			return r, nil
		}
		t.log.Debug("a place of this device does not have what it listed", "blob", string(name), "remote", sources[0].Name, "err", err)
	}
	for try := 0; ; try++ {
		hash, ok := catalog.PackHash(name)
		if !ok || size <= 0 || size > maxPieces*Grid {
			return t.through(ctx, name, sources, off, n)
		}
		from := min(off, size)
		end := size
		if n >= 0 && n < size-from {
			end = from + n
		}
		r := &reader{t: t, ctx: ctx, pack: pack{name, hash, size}, off: from, end: end}
		if from == end {
			return r, nil
		}
		// The first piece tells whether the pack is there at all.
		err := r.fill()
		if err == nil {
			return r, nil
		}
		// It may be that a remote is not believed any more which had listed another size. Each is believed once.
		before := size
		if sources, size = t.sources(name); size == before || try == len(sources) || ctx.Err() != nil {
			return nil, fmt.Errorf("get blob %s: %w", name, err)
		}
	}
}

// A source is a remote in the order in which it is asked for one blob.
type source struct {
	Remote
	size int64 // that its catalog has for the blob; -1: it does not have it
}

// sources returns the remotes that may have a blob, and its size as the first says whose catalog has it; -1 if none has. Those that list
// another size come after those that do not know the blob, and those that gave damaged bytes of it last, the
// one of which that was found out just now at the end.
func (t *Tier) sources(name blob.Name) (sources []source, size int64) {
	t.mu.Lock()
	remotes := t.remotes
	var suspect []string
	if hash, ok := catalog.PackHash(name); ok {
		suspect = t.suspect[hash]
	}
	t.mu.Unlock()
	size = -1
	for _, r := range remotes {
		s := source{r, -1}
		table, _ := t.known.of(r.Name)
		if n, ok := table.Size(name); ok {
			s.size = t.mendedSize(r.Name, name, n)
		}
		sources = append(sources, s)
	}
	trusted := func(s source) bool { return !slices.Contains(suspect, s.Name) }
	rank := func(s source) int {
		switch {
		case !trusted(s):
			return 3 + slices.Index(suspect, s.Name)
		case s.size < 0:
			return 1
		case size >= 0 && s.size != size:
			return 2
		}
		return 0
	}
	byRank := func(a, b source) int { return rank(a) - rank(b) }
	slices.SortStableFunc(sources, byRank)
	for _, s := range sources {
		if size = s.size; size >= 0 {
			break
		}
	}
	slices.SortStableFunc(sources, byRank)
	if size < 0 { // a remote that is not set may have it, and some of it may be cached
		for _, remote := range t.known.names() {
			table, _ := t.known.of(remote)
			n, ok := table.Size(name)
			if n = t.mendedSize(remote, name, n); ok && n >= 0 {
				return sources, n
			}
		}
	}
	return sources, size
}

func has(table *catalog.Table, name blob.Name) bool {
	_, ok := table.Size(name)
	return ok
}

// failure collects why no remote gave a blob.
type failure struct {
	name   blob.Name
	faults []error
	absent int
}

// add takes the answer of a remote that did not give the blob.
func (f *failure) add(remote string, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		f.absent++
		return
	}
	f.faults = append(f.faults, fmt.Errorf("remote %s: %w", remote, err))
}

// err says that the blob is not there, if all remotes of which something is known said so, or else that it cannot be known now.
func (t *Tier) err(f *failure) error {
	set := map[string]bool{}
	t.mu.Lock()
	for _, r := range t.remotes {
		set[r.Name] = true
	}
	t.mu.Unlock()
	for _, name := range t.known.names() {
		if table, _ := t.known.of(name); !set[name] && has(table, f.name) {
			f.faults = append(f.faults, fmt.Errorf("remote %s is not connected", name))
		}
	}
	if len(f.faults) == 0 {
		return fs.ErrNotExist
	}
	// The reasons are told as text: a deadline of ours is none of the caller's, and that one remote does not have it is no answer.
	return fmt.Errorf("%w: no remote could give it: %s", blob.ErrTemporary, errors.Join(f.faults...).Error())
}

// The faults of a remote that has used up its patience, and of one that is let alone because of that.
var (
	errImpatient = errors.New("it does not answer in time")
	errResting   = errors.New("it did not answer a short while ago")
	errShort     = errors.New("it sent less than it has listed")
)

// rests reports whether a remote did not answer a short while ago.
func (t *Tier) rests(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	until, ok := t.resting[name]
	if ok && time.Now().After(until) {
		delete(t.resting, name)
		return false
	}
	return ok
}

// rest lets a remote alone for a while: longer than it takes to find out the same of all others.
func (t *Tier) rest(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.resting[name] = time.Now().Add(2 * t.o.Patience * time.Duration(len(t.remotes)+1))
}

// patient is a body of a remote that is given up when a piece takes too long.
type patient struct {
	t      *Tier
	remote string
	r      io.ReadCloser
	end    context.CancelFunc
	timer  *time.Timer
	late   chan struct{} // closed when patience is used up
	got    int64         // bytes since the timer was set
}

// ask opens a range of a blob at a remote, within its patience.
func (t *Tier) ask(ctx context.Context, s source, name blob.Name, off, n int64) (*patient, error) {
	if t.rests(s.Name) {
		return nil, errResting
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.life, cancel)
	p := &patient{t: t, remote: s.Name, late: make(chan struct{})}
	p.end = func() { stop(); cancel() }
	p.timer = time.AfterFunc(t.o.Patience, func() { close(p.late); cancel() })
	r, err := s.Bucket.Get(ctx, name, off, n)
	if err != nil {
		return nil, p.fail(err)
	}
	p.r = r
	return p, nil
}

// fail ends p and returns what was wrong.
func (p *patient) fail(err error) error {
	p.timer.Stop()
	p.end()
	select {
	case <-p.late:
		p.t.rest(p.remote)
		return errImpatient
	default:
		return err
	}
}

func (p *patient) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, p.fail(err)
	}
	if p.got += int64(n); p.got >= Grid && p.timer.Stop() {
		p.got %= Grid
		p.timer.Reset(p.t.o.Patience)
	}
	return n, err
}

func (p *patient) Close() error {
	p.timer.Stop()
	err := p.r.Close()
	p.end()
	return err
}

// through opens a blob that is not cached: an index blob, or a pack of which nobody knows the size. The range that is asked for lies on the grid.
func (t *Tier) through(ctx context.Context, name blob.Name, sources []source, off, n int64) (io.ReadCloser, error) {
	from := off &^ (Grid - 1)
	ask := int64(-1)
	if to := off + n; n >= 0 && to >= 0 && to <= 1<<62 {
		ask = (to+Grid-1)&^(Grid-1) - from
	}
	f := failure{name: name}
	for _, s := range sources {
		r, err := t.skip(ctx, s, name, from, ask, off-from)
		if err == nil {
			return &limited{r, n}, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("get blob %s: %w", name, ctx.Err())
		}
		f.add(s.Name, err)
	}
	return nil, fmt.Errorf("get blob %s: %w", name, t.err(&f))
}

// skip asks a remote for a range, and reads what comes before the part that is wanted.
func (t *Tier) skip(ctx context.Context, s source, name blob.Name, off, n, skip int64) (io.ReadCloser, error) {
	r, err := t.ask(ctx, s, name, off, n)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, r, skip); err != nil && !errors.Is(err, io.EOF) {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

// limited ends after n bytes, if n is not negative. Faults of the remote are temporary: only the opening can go to another one.
type limited struct {
	io.ReadCloser
	n int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.n == 0 {
		return 0, io.EOF
	}
	if l.n > 0 && int64(len(p)) > l.n {
		p = p[:l.n]
	}
	n, err := l.ReadCloser.Read(p)
	if l.n > 0 {
		l.n -= int64(n)
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %s", blob.ErrTemporary, err.Error()) // as text: see Tier.err
	}
	return n, err
}

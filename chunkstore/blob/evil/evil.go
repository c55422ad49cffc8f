// Package evil is a place for blobs that lies: the evilstore of the attack table, and a
// recorder of all that was sent. It is for tests only, and no product code imports it.
//
// A Store wraps any Bucket. Rules say which lies it tells about which blobs, always
// or as a seed has it; one seed gives one run, as long as the calls come in the same
// order. What the caller of a lying Bucket may see is data that is right, or an error that
// says what is wrong: never other data, and never a panic.
package evil

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
)

// A Lie is one way in which a place does not do what it says.
type Lie int

// The lies. Those about bytes are told by Get; a blob keeps its false bytes for as long as
// the rule stands, so that two ranges of it agree.
const (
	FlipBit   Lie = iota + 1 // one bit of the blob is another
	Truncate                 // the blob ends early
	Extend                   // bytes follow the blob's end
	Swap                     // the bytes are those of another blob in the same folder
	Replay                   // the bytes are those of the version before
	HTML                     // a web page says that something is wrong
	Endless                  // the body never ends
	Slow                     // the body comes byte by byte
	Withhold                 // the blob is not there, nor in a listing
	Fail                     // the call fails and does nothing
	Forget                   // Put and Remove say that they succeed and do nothing
	Deny                     // Put and Remove do it and say that they failed
	Partial                  // a listing ends half-way, as if that were all
	Stale                    // a listing is that of when the rule was made
	Reorder                  // a listing is in no order
	Duplicate                // a listing has each blob twice
	WrongSize                // a listing has false sizes
)

// Bytes, Calls and Listings are the lies by what they are about.
var (
	Bytes    = []Lie{FlipBit, Truncate, Extend, Swap, Replay, HTML, Endless, Slow, Withhold}
	Calls    = []Lie{Fail, Forget, Deny}
	Listings = []Lie{Withhold, Partial, Stale, Reorder, Duplicate, WrongSize}
)

// String names the lie.
func (l Lie) String() string {
	names := []string{
		"", "flip bit", "truncate", "extend", "swap", "replay", "html", "endless", "slow", "withhold", "fail", "forget", "deny",
		"partial", "stale", "reorder", "duplicate", "wrong size",
	}
	if l < 1 || int(l) >= len(names) {
		return fmt.Sprintf("lie(%d)", int(l))
	}
	return names[l]
}

// ErrFault is the error of Fail and Deny.
var ErrFault = errors.New("the place reports an error")

// rule says what to lie about.
type rule struct {
	lie   Lie
	match func(blob.Name) bool
	seed  uint64 // of the false bytes, together with the name
	stale []blob.Info
}

// A Store is a Bucket that lies about another one. It is safe for concurrent use.
type Store struct {
	inner blob.Bucket

	mu     sync.Mutex
	r      *rand.Rand
	rules  []rule
	edits  map[blob.Name]func([]byte) []byte
	chance float64
	random []Lie
	before map[blob.Name][]byte // the version before the present one
	deeds  []Deed
}

var _ blob.Bucket = (*Store)(nil)

// A Deed is a lie that was told.
type Deed struct {
	Lie  Lie
	Name blob.Name // the prefix, of a listing
}

// New returns a Store over inner that is honest until it is told to lie. For Replay it must have
// seen the versions go by.
func New(inner blob.Bucket, seed int64) *Store {
	return &Store{
		inner: inner, r: rand.New(rand.NewPCG(uint64(seed), 0xe711)),
		before: map[blob.Name][]byte{}, edits: map[blob.Name]func([]byte) []byte{},
	}
}

// Set makes the Store tell a lie about every blob that match accepts (nil: all of them), from now
// on. A lie about listings takes match for the prefix of the listing, but for Withhold.
func (s *Store) Set(lie Lie, match func(blob.Name) bool) {
	if match == nil {
		match = func(blob.Name) bool { return true }
	}
	var now []blob.Info
	if lie == Stale {
		for info, err := range s.inner.List(context.Background(), "") {
			if err != nil {
				break // as far as it goes
			}
			now = append(now, info)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, rule{lie: lie, match: match, seed: s.r.Uint64(), stale: now})
}

// Edit makes Get hand out f of a blob's bytes; f gets bytes of its own. A nil f ends that.
func (s *Store) Edit(name blob.Name, f func([]byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil {
		delete(s.edits, name)
		return
	}
	s.edits[name] = f
}

// Chance makes each call tell one of the lies with probability p, as the seed has it.
func (s *Store) Chance(p float64, lies ...Lie) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chance, s.random = p, lies
}

// Heal makes the Store honest again. What it has forgotten stays forgotten.
func (s *Store) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules, s.random, s.chance = nil, nil, 0
	clear(s.edits)
}

// Deeds returns the lies told so far: a test without any shows nothing.
func (s *Store) Deeds() []Deed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.deeds)
}

// pick returns the rules for a call about name, of those lies that it can tell, and notes them.
func (s *Store) pick(name blob.Name, can []Lie) []rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	var picked []rule
	for _, r := range s.rules {
		if slices.Contains(can, r.lie) && r.match(name) {
			picked = append(picked, r)
		}
	}
	if s.chance > 0 && s.r.Float64() < s.chance {
		if lie := s.random[s.r.IntN(len(s.random))]; slices.Contains(can, lie) && lie != Stale {
			picked = append(picked, rule{lie: lie, seed: s.r.Uint64()})
		}
	}
	for _, r := range picked {
		s.deeds = append(s.deeds, Deed{r.lie, name})
	}
	return picked
}

// Put implements [blob.Bucket].
func (s *Store) Put(ctx context.Context, name blob.Name, r io.Reader, size int64) error {
	lies := s.pick(name, Calls)
	if has(lies, Fail) {
		return fmt.Errorf("put blob %s: %w", name, ErrFault)
	}
	if has(lies, Forget) {
		_, err := io.Copy(io.Discard, blob.Body(ctx, r, size))
		return err
	}
	old, oldErr := blob.ReadAll(ctx, s.inner, name, 1<<30)
	if err := s.inner.Put(ctx, name, r, size); err != nil {
		return err
	}
	if oldErr == nil {
		s.mu.Lock()
		s.before[name] = old
		s.mu.Unlock()
	}
	if has(lies, Deny) {
		return fmt.Errorf("put blob %s: %w", name, ErrFault)
	}
	return nil
}

// Remove implements [blob.Bucket].
func (s *Store) Remove(ctx context.Context, names ...blob.Name) error {
	var denied bool
	var honest []blob.Name
	for _, name := range names {
		lies := s.pick(name, Calls)
		if has(lies, Fail) {
			return fmt.Errorf("remove blob %s: %w", name, ErrFault)
		}
		denied = denied || has(lies, Deny)
		if !has(lies, Forget) {
			honest = append(honest, name)
		}
	}
	if err := s.inner.Remove(ctx, honest...); err != nil {
		return err
	}
	if denied {
		return fmt.Errorf("remove blobs: %w", ErrFault)
	}
	return nil
}

func has(rules []rule, lie Lie) bool {
	return slices.ContainsFunc(rules, func(r rule) bool { return r.lie == lie })
}

// Get implements [blob.Bucket].
func (s *Store) Get(ctx context.Context, name blob.Name, off, n int64) (io.ReadCloser, error) {
	s.mu.Lock()
	edit := s.edits[name]
	s.mu.Unlock()
	lies := s.pick(name, append(slices.Clone(Bytes), Fail))
	if len(lies) == 0 && edit == nil {
		return s.inner.Get(ctx, name, off, n)
	}
	switch {
	case has(lies, Fail):
		return nil, fmt.Errorf("get blob %s: %w", name, ErrFault)
	case has(lies, Withhold):
		return nil, fmt.Errorf("get blob %s: %w", name, fs.ErrNotExist)
	}
	body, err := blob.ReadAll(ctx, s.inner, name, 1<<30)
	if err != nil {
		return nil, err
	}
	if edit != nil {
		body = edit(body)
	}
	for _, l := range lies {
		if body, err = s.falsify(ctx, name, body, l); err != nil {
			return nil, err
		}
	}
	if off < 0 {
		return nil, fmt.Errorf("get blob %s: offset %d: %w", name, off, fs.ErrInvalid)
	}
	body = body[min(off, int64(len(body))):]
	if n >= 0 && n < int64(len(body)) && !has(lies, Extend) && !has(lies, HTML) {
		body = body[:n] // who extends, and who sends a page, does not care for what was asked
	}
	return &reader{ctx: ctx, body: body, endless: has(lies, Endless), slow: has(lies, Slow)}, nil
}

const page = "<!DOCTYPE html><html><head><title>503</title></head><body>Service unavailable. Please sign in.</body></html>\n"

// falsify returns the bytes that lie l makes of body.
func (s *Store) falsify(ctx context.Context, name blob.Name, body []byte, l rule) ([]byte, error) {
	r := rand.New(rand.NewPCG(l.seed, hash(name)))
	switch l.lie {
	case FlipBit:
		if len(body) > 0 {
			bit := r.IntN(8 * len(body))
			body[bit/8] ^= 1 << (bit % 8)
		}
	case Truncate:
		if len(body) > 0 {
			body = body[:r.IntN(len(body))]
		}
	case Extend:
		for range 1 + r.IntN(5000) {
			body = append(body, byte(r.Uint32()))
		}
	case HTML:
		body = []byte(page)
	case Replay:
		s.mu.Lock()
		old, ok := s.before[name]
		s.mu.Unlock()
		if ok {
			body = bytes.Clone(old)
		}
	case Swap:
		return s.swapped(ctx, name, body, r)
	}
	return body, nil
}

// swapped returns the bytes of another blob of the same folder, if there is one.
func (s *Store) swapped(ctx context.Context, name blob.Name, body []byte, r *rand.Rand) ([]byte, error) {
	folder, _, _ := strings.Cut(string(name), "/")
	var others []blob.Name
	for info, err := range s.inner.List(ctx, blob.Name(folder)) {
		if err != nil {
			return nil, err
		}
		if info.Name != name {
			others = append(others, info.Name)
		}
	}
	if len(others) == 0 {
		return body, nil
	}
	return blob.ReadAll(ctx, s.inner, others[r.IntN(len(others))], 1<<30)
}

func hash(name blob.Name) (h uint64) {
	h = 14695981039346656037 // FNV-1a
	for _, c := range []byte(name) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// List implements [blob.Bucket].
func (s *Store) List(ctx context.Context, prefix blob.Name) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		lies := s.pick(prefix, append(slices.DeleteFunc(slices.Clone(Listings), func(l Lie) bool { return l == Withhold }), Fail))
		all, err := s.all(ctx, prefix)
		if err != nil {
			yield(blob.Info{}, err)
			return
		}
		for _, l := range lies {
			r := rand.New(rand.NewPCG(l.seed, hash(prefix)))
			switch l.lie {
			case Partial:
				all = all[:len(all)/2]
			case Stale:
				all = slices.DeleteFunc(slices.Clone(l.stale), func(i blob.Info) bool { return !strings.HasPrefix(string(i.Name), string(prefix)) })
			case Reorder:
				r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			case Duplicate:
				all = append(all, all...)
			case WrongSize:
				for i := range all {
					all[i].Size += int64(r.IntN(1000)) - 500
				}
			}
		}
		for i, info := range all {
			if has(lies, Fail) && i == len(all)/2 {
				break
			}
			if err := ctx.Err(); err != nil {
				yield(blob.Info{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
		if has(lies, Fail) {
			yield(blob.Info{}, fmt.Errorf("list blobs %q: %w", string(prefix), ErrFault))
		}
	}
}

// all returns the honest listing without what is withheld.
func (s *Store) all(ctx context.Context, prefix blob.Name) ([]blob.Info, error) {
	var all []blob.Info
	for info, err := range s.inner.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		if !s.withheld(info.Name) {
			all = append(all, info)
		}
	}
	return all, nil
}

// withheld reports whether a rule, not chance, withholds the blob.
func (s *Store) withheld(name blob.Name) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rules {
		if r.lie == Withhold && r.match(name) {
			s.deeds = append(s.deeds, Deed{Withhold, name})
			return true
		}
	}
	return false
}

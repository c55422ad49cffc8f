package pair

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// HistoryDir is where each side keeps what was replaced or removed there, and PlainHistoryDir where a side does so that has no names which begin with a dot.
const (
	HistoryDir      = ".sheaf-history"
	PlainHistoryDir = "_sheaf-history"
)

// InHistory reports whether a path is in a history, of either name: no plan sees it, on neither side.
func InHistory(path string) bool {
	top, _, _ := strings.Cut(path, "/")
	return top == HistoryDir || top == PlainHistoryDir
}

// The errors of a Pair.
var (
	// ErrSwapped says that a side is another place than it was: an empty folder where a disk was, another account, a server that was set up
	// anew. Nothing is done until the old one is back, or the pair is told to take the new one ([Pair.Accept]).
	ErrSwapped = errors.New("this is not the place that it was")
	// ErrBraked says that a turn would delete so much that somebody has to agree first ([RunOptions].AllowFiles). It wraps a *merge.Braked.
	ErrBraked = errors.New("too much would be deleted")
	// ErrSome says that some steps failed. The rest was done, and what failed is tried in the next turn.
	ErrSome = errors.New("some things could not be made alike")
	// ErrDamaged says that a place has other bytes than it was given. They were taken away there again.
	ErrDamaged = errors.New("the place has other bytes than it was given")
)

// Options say what is kept alike, and how.
type Options struct {
	// KV remembers, under keys that begin with Prefix and that nobody else uses.
	KV     kv.DB
	Prefix string
	// Tree are the two places.
	Tree [2]remote.Tree
	// Rule is how they are to be alike. Names.Fold, Names.Normal and Can are taken from the places; the rest of Names is the caller's, and so is
	// Can.CheapRead.
	Rule merge.Options
	// Out, if not nil, says what is left out besides what the ignore files at both places say, by its path in the names of the pair. What is in a directory that is left
	// out is left out, too.
	Out func(path string, dir bool, size int64) bool
	// Limits leave files out by size and age, besides.
	Limits Limits
	// Parallel is how many steps go at once; 0 means as many as the place that bears less calls does: 4 to 32. With 1, steps go in the order of the plan.
	Parallel int
	// Now is the clock: for names in the history and of conflicts, and for how old things are. nil means time.Now.
	Now func() time.Time
	// Told, if not nil, is called for each step that was done or failed. It must be quick, and may be called by several goroutines.
	Told func(Event)
	// Planned, if not nil, is called before steps are carried out, with how many there are and the bytes of the files that they copy. A turn may plan more than once.
	Planned func(steps int, bytes int64)
	// Log takes what is odd; nil discards it.
	Log *slog.Logger
}

// parallel is how many steps go at once with such a place. Each step makes one call after the other. Where one waits for a disk, which is where a place is Exact, the
// disk does the work of many at a time.
func parallel(can remote.TreeCan) int {
	switch {
	case can.Exact:
		return 32
	case can.Rate == remote.Fast:
		return 16
	case can.Rate == remote.Steady:
		return 8
	}
	return 4
}

// An Event is what became of one step.
type Event struct {
	Time time.Time
	// Step is as merge.Step.String has it, Why what led to it.
	Step, Why string
	Op        merge.Op
	Side      merge.Side
	Path      string
	Bytes     int64
	Err       error // nil: it was done
}

// A Pair keeps two places alike. Its methods are safe for concurrent use; turns go one after the other, and what waits for one stops when its context is done.
type Pair struct {
	o    Options
	turn chan struct{} // is full while one is under way
	told func(Event)   // of the turn that is under way
	// planned is as well.
	planned func(steps int, bytes int64)
	// as is of the preview that is under way.
	as PreviewOptions
	// filter is what was last read of the ignore files; nil: nothing. Whoever has the turn uses it.
	filter *filter

	notes *group // of what steps have done

	mu      sync.Mutex // guards moves
	nextN   uint64     // of settlements, which go one after the other
	began   time.Time  // the turn
	moves   int
	orphans [2][]string     // directories that are files now, since the last look
	tried   map[string]bool // steps of this turn that failed, and were not done since
}

// Open opens the pair. What was under way when it was last closed, or killed, is looked at by the next turn.
func Open(ctx context.Context, o Options) (*Pair, error) {
	if o.Parallel <= 0 {
		o.Parallel = min(parallel(o.Tree[0].Can()), parallel(o.Tree[1].Can()))
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for s := range 2 {
		can := o.Tree[s].Can()
		o.Rule.Names[s].Fold, o.Rule.Names[s].Normal = can.Fold, can.Normal
		cheap := o.Rule.Can[s].CheapRead
		o.Rule.Can[s] = merge.Can{
			EmptyDirs: can.EmptyDirs, Symlinks: can.Symlinks, Modes: can.Modes, Touch: can.Touch, Times: can.MTime > 0 && can.MTime <= time.Second, CheapRead: cheap,
		}
	}
	p := &Pair{o: o, turn: make(chan struct{}, 1), notes: &group{db: o.KV}}
	v, err := o.KV.Get(ctx, p.key('m', "n"))
	switch {
	case err == nil && len(v) == 8:
		p.nextN = binary.BigEndian.Uint64(v)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open pair: %w", err)
	}
	return p, nil
}

// begin waits until no turn is under way, and begins one; end ends it.
func (p *Pair) begin(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Pair) end() { <-p.turn }

// Accept takes the places that are there now for those of the pair. What it agreed on with others is forgotten: the two meet as if for the first time.
func (p *Pair) Accept(ctx context.Context) error {
	if err := p.begin(ctx); err != nil {
		return err
	}
	defer p.end()
	for _, table := range []byte("bnlrcigjtf") {
		if err := forget(ctx, p.o.KV, p.key(table, ""), p.key(table+1, "")); err != nil {
			return fmt.Errorf("forget what was agreed on: %w", err)
		}
	}
	return nil
}

// Forget forgets durably all that a Pair remembered in db under prefix, which ends with a slash. It is not open.
func Forget(ctx context.Context, db kv.DB, prefix string) error {
	if err := forget(ctx, db, []byte(prefix), []byte(strings.TrimSuffix(prefix, "/")+"0")); err != nil {
		return fmt.Errorf("forget what was agreed on: %w", err)
	}
	return db.Sync(ctx)
}

// forget deletes the keys from one to another, some at a time.
func forget(ctx context.Context, db kv.DB, from, to []byte) error {
	for {
		var keys [][]byte
		for kvp, err := range db.Scan(ctx, from, to) {
			if err != nil {
				return err
			}
			if keys = append(keys, kvp.Key); len(keys) == batch {
				break
			}
		}
		if len(keys) == 0 {
			return nil
		}
		if err := db.Update(ctx, func(tx kv.Tx) error { return deleteAll(tx, keys) }); err != nil {
			return err
		}
		from = keys[len(keys)-1]
	}
}

func deleteAll(tx kv.Tx, keys [][]byte) error {
	for _, k := range keys {
		if err := tx.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// A Report is what a turn did, or would do.
type Report struct {
	// Steps are the steps that change a place, in the order of the plan; of a Run, those that were done.
	Steps []string
	// Problems are what cannot be made alike.
	Problems []merge.Problem
	// Failed are the steps that failed, with the reason.
	Failed []Failure
	// Conflicts are those that came up.
	Conflicts []Conflict
	Bytes     int64
	// Agreed is how many things were alike before.
	Agreed int
}

// A Failure is a step that could not be done.
type Failure struct {
	Step string
	Path string
	Err  error
}

// A Conflict is two contents that claimed one name. It is kept until it is dismissed.
type Conflict struct {
	ID         string
	Time       time.Time
	Path, Copy string
	Side       merge.Side
}

// Conflicts returns what nobody has dismissed yet.
func (p *Pair) Conflicts(ctx context.Context) (all []Conflict, err error) {
	for kvp, err := range p.o.KV.Scan(ctx, p.key('x', ""), p.key('x'+1, "")) {
		var c Conflict
		if err == nil {
			err = json.Unmarshal(kvp.Value, &c)
		}
		if err != nil {
			return all, fmt.Errorf("read conflicts: %w", err)
		}
		all = append(all, c)
	}
	return all, nil
}

// Dismiss forgets a conflict. Both contents stay where they are.
func (p *Pair) Dismiss(ctx context.Context, id string) error {
	if _, err := p.o.KV.Get(ctx, p.key('x', id)); err != nil {
		return fmt.Errorf("dismiss conflict %s: %w", id, err)
	}
	return p.o.KV.Update(ctx, func(tx kv.Tx) error { return tx.Delete(p.key('x', id)) })
}

// key returns a key of a table.
func (p *Pair) key(table byte, rest string) []byte {
	k := make([]byte, 0, len(p.o.Prefix)+1+len(rest))
	return append(append(append(k, p.o.Prefix...), table), rest...)
}

var tables = [2]byte{'l', 'r'}

// shadowKey is where the item of a path is. Two paths may be one name of the pair.
func (p *Pair) shadowKey(s merge.Side, path string) []byte {
	k := p.o.Rule.Key(s, path)
	if p.o.Rule.Names[s].DecodePath(path) != path {
		k += "\x00\x00" + path
	}
	return p.key(tables[s], k)
}

// below are the bounds of the keys of all that is in a directory.
func (p *Pair) below(table byte, s merge.Side, dir string) (from, to []byte) {
	k := p.group(s, dir)
	return p.key(table, k+"\x00"), p.key(table, k+"\x01")
}

// group is the part of the Key of a path that all have that a side may take for it.
func (p *Pair) group(s merge.Side, path string) string {
	k, _, _ := strings.Cut(p.o.Rule.Key(s, path), "\x00\x00")
	return k
}

// baseKey is where a pair of items is.
func (p *Pair) baseKey(b *merge.Pair) []byte {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], b.N)
	return p.key('b', p.o.Rule.Key(merge.Left, b.Item[0].Path)+string(n[:]))
}

func (p *Pair) numberKey(n uint64) []byte {
	return p.key('n', string(binary.BigEndian.AppendUint64(nil, n)))
}

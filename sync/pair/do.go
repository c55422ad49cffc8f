package pair

import (
	"context"
	"crypto/md5"  //nolint:gosec // places tell it, and it is compared with nothing else
	"crypto/sha1" //nolint:gosec // the same
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// ends reports whether an error is a reason to end the turn: the next step would fail, too.
func ends(err error) bool {
	return errors.Is(err, blob.ErrUnauthorized) || errors.Is(err, blob.ErrNoSpace) || errors.Is(err, context.Canceled) || errors.Is(err, kv.ErrClosed)
}

// A begun is a step in the journal.
type begun struct {
	Op         string
	Side       merge.Side
	From, Path string
	At         [2]string
}

// do carries out one step, between a note in the journal and one in all tables.
func (p *Pair) do(ctx context.Context, st *merge.Step) (n int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if st.Op > merge.Hash {
		return 0, p.settle(ctx, st, nil, merge.Item{})
	}
	note, err := json.Marshal(begun{st.Op.String(), st.Side, st.From, st.Path, st.At})
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	p.moves++
	name := fmt.Sprintf("%s-%08d", p.began.Format(stampForm), p.moves)
	p.mu.Unlock()
	entry := p.key('j', name)
	if err := p.notes.update(ctx, false, func(tx kv.Tx) error { return tx.Put(entry, note) }); err != nil {
		return 0, err
	}
	before := st.Thing.Now[st.Side]
	switch st.Op {
	case merge.Move:
		err = p.move(ctx, st)
	case merge.Mkdir:
		err = p.mkdir(ctx, st)
	case merge.Copy:
		n, err = p.copy(ctx, st, name)
	case merge.Touch:
		err = p.touch(ctx, st)
	case merge.Remove:
		err = p.remove(ctx, st, name)
	case merge.Hash:
		err = p.hash(ctx, st)
	}
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, errCut) {
			err = errors.Join(err, p.notes.update(ctx, false, func(tx kv.Tx) error { return tx.Delete(entry) }))
		}
		return n, err
	}
	return n, p.settle(context.WithoutCancel(ctx), st, entry, before)
}

// errCut is of a step that may have been done or not: its note stays in the journal until somebody has looked.
var errCut = errors.New("it is not known whether it was done")

// known is the version that the place has to have still; "" where nothing is to be.
func known(st *merge.Step, s merge.Side) remote.Version {
	if !st.Thing.Has[s] || st.Thing.Kind == merge.Dir {
		return ""
	}
	return remote.Version(st.Thing.Now[s].Version)
}

// took notes what a place says a thing is now.
func took(st *merge.Step, s merge.Side, it remote.Item) {
	m := seen(it)
	if m.Sums == "" || m.Kind == merge.File && st.Op != merge.Copy {
		m.Sums = union(m.Sums, st.Thing.Now[s].Sums)
	}
	st.Thing.Now[s] = m
}

func (p *Pair) move(ctx context.Context, st *merge.Step) error {
	t := p.o.Tree[st.Side]
	if st.Thing.Kind == merge.Dir && !t.Can().DirMove {
		return p.moveAll(ctx, st)
	}
	it, err := t.Move(ctx, st.From, st.Path, known(st, st.Side))
	if errors.Is(err, fs.ErrNotExist) && st.Thing.Kind == merge.Dir && !t.Can().EmptyDirs {
		st.Thing.Now[st.Side].Path = st.Path // it was empty, and so was never there
		return nil
	}
	if err != nil {
		return err
	}
	took(st, st.Side, it)
	return nil
}

// moveAll moves a directory where that is no single step: what is in it, one by one, and then what is left of it.
func (p *Pair) moveAll(ctx context.Context, st *merge.Step) error {
	t := p.o.Tree[st.Side]
	all, err := p.within(ctx, st.Side, st.From)
	if err != nil {
		return err
	}
	if p.o.Rule.Names[st.Side].One(st.From, st.Path) { // what folds cannot go straight to another case of its name
		away := st.Path + merge.Moving + "0"
		if err := moveEach(ctx, t, all, st.From, away); err != nil {
			return err
		}
		err = moveEach(ctx, t, all, away, st.Path)
	} else {
		err = moveEach(ctx, t, all, st.From, st.Path)
	}
	st.Thing.Now[st.Side].Path = st.Path
	return err
}

// moveEach moves all from one directory to another, and then removes what directories are left. It keeps paths and versions true.
func moveEach(ctx context.Context, t remote.Tree, all []merge.Item, from, to string) error {
	dirs := t.Can().EmptyDirs
	old := make([]string, len(all))
	for i := range all {
		it := &all[i]
		old[i] = it.Path
		target := to + it.Path[len(from):]
		switch {
		case it.Kind != merge.Dir:
			done, err := t.Move(ctx, it.Path, target, remote.Version(it.Version))
			if err != nil {
				return fmt.Errorf("move %s: %w", it.Path, err)
			}
			it.Version = string(done.Version)
		case dirs:
			if _, err := t.Mkdir(ctx, target, fs.FileMode(it.Mode)); err != nil {
				return err
			}
		}
		it.Path = target
	}
	for i := len(all) - 1; i >= 0 && dirs; i-- {
		if all[i].Kind == merge.Dir {
			if err := t.Remove(ctx, old[i], ""); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Pair) mkdir(ctx context.Context, st *merge.Step) error {
	it, err := p.o.Tree[st.Side].Mkdir(ctx, st.Path, fs.FileMode(st.Thing.Now[st.Side.Other()].Mode))
	if err != nil {
		return err
	}
	took(st, st.Side, it)
	return nil
}

func (p *Pair) touch(ctx context.Context, st *merge.Step) error {
	t, ok := p.o.Tree[st.Side].(remote.Toucher)
	if !ok {
		return nil
	}
	from := st.Thing.Now[st.Side.Other()]
	it, err := t.Touch(ctx, remote.Item{Path: st.Path, MTime: timeOf(from.MTime), Mode: fs.FileMode(from.Mode)}, known(st, st.Side))
	if err != nil {
		return err
	}
	took(st, st.Side, it)
	return nil
}

// remove removes a directory or link; a file goes to the history.
func (p *Pair) remove(ctx context.Context, st *merge.Step, name string) error {
	t := p.o.Tree[st.Side]
	if st.Thing.Kind == merge.Dir && !t.Can().EmptyDirs {
		return nil // it goes with what was in it
	}
	if st.Thing.Kind != merge.File {
		return t.Remove(ctx, st.Path, known(st, st.Side))
	}
	to, err := p.historyPath(ctx, st.Side, st.Path, name)
	if err != nil {
		return err
	}
	_, err = t.Move(ctx, st.Path, to, known(st, st.Side))
	if errors.Is(err, errors.ErrUnsupported) {
		if err = p.keepCopy(ctx, st, to); err == nil {
			err = t.Remove(ctx, st.Path, known(st, st.Side))
		}
	}
	return err
}

// hashers are of the algorithms by which two places are compared, and always SHA-256. What is written goes to all.
func (p *Pair) hashers() (hs map[string]hash.Hash, all io.Writer) {
	hs = map[string]hash.Hash{"sha256": sha256.New()}
	for s := range 2 {
		for _, alg := range p.o.Tree[s].Can().Hashes {
			switch alg {
			case "md5":
				hs[alg] = md5.New() //nolint:gosec // see above
			case "sha1":
				hs[alg] = sha1.New() //nolint:gosec // see above
			}
		}
	}
	ws := make([]io.Writer, 0, len(hs))
	for _, h := range hs {
		ws = append(ws, h)
	}
	return hs, io.MultiWriter(ws...)
}

func sumsOf(hs map[string]hash.Hash) string {
	all := make(map[string]string, len(hs))
	for alg, h := range hs {
		all[alg] = hex.EncodeToString(h.Sum(nil))
	}
	return merge.Sums(all)
}

// copy brings the content of a file or link from the other side.
func (p *Pair) copy(ctx context.Context, st *merge.Step, name string) (int64, error) {
	s, o := st.Side, st.Side.Other()
	from, to := p.o.Tree[o], p.o.Tree[s]
	src := st.Thing.Now[o]
	it := remote.Item{Path: st.Path, Kind: remote.ItemKind(src.Kind), Size: src.Size, MTime: timeOf(src.MTime), Mode: fs.FileMode(src.Mode), Target: src.Target}
	if st.Thing.Has[s] && st.Thing.Kind == merge.File {
		old, err := p.historyPath(ctx, s, st.Path, name)
		if err != nil {
			return 0, err
		}
		if err := p.keepCopy(ctx, st, old); err != nil {
			return 0, fmt.Errorf("keep what was there: %w", err)
		}
	}
	if src.Kind == merge.Symlink {
		done, err := to.Put(ctx, it, nil, known(st, s))
		if err == nil {
			took(st, s, done)
		}
		return 0, err
	}
	r, err := from.Open(ctx, st.From, 0, -1, known(st, o))
	if err != nil {
		return 0, err
	}
	hs, all := p.hashers()
	body := &counter{r: io.TeeReader(r, all)}
	done, err := to.Put(ctx, it, body, known(st, s))
	if cerr := r.Close(); err == nil && body.err == nil {
		err = cerr
	}
	if body.err != nil {
		return body.n, body.err // the reader's word is the reason
	}
	if err != nil {
		if stale(err) || errors.Is(err, remote.ErrIllegal) || errors.Is(err, blob.ErrUnauthorized) || errors.Is(err, blob.ErrNoSpace) {
			return body.n, err
		}
		return body.n, fmt.Errorf("%w: %w", err, errCut)
	}
	sums := sumsOf(hs)
	got := seen(done)
	if eq, ok := merge.Equal(got.Sums, sums); ok && !eq || got.Size >= 0 && got.Size != body.n || src.Size >= 0 && src.Size != body.n {
		err := fmt.Errorf("%s has %d bytes, of %d that it was given: %w", st.Path, got.Size, body.n, ErrDamaged)
		if rerr := to.Remove(ctx, done.Path, done.Version); rerr != nil {
			err = fmt.Errorf("%w: %w: %w", err, rerr, errCut)
		}
		// That it is not there is this package's doing, and nobody's wish.
		return body.n, errors.Join(err, p.o.KV.Update(ctx, func(tx kv.Tx) error {
			return errors.Join(tx.Put(p.key('g', s.String()+st.Path), nil), tx.Delete(p.shadowKey(s, st.Path)))
		}))
	}
	took(st, s, done)
	st.Thing.Now[s].Sums = union(got.Sums, sums)
	st.Thing.Now[o].Sums = union(st.Thing.Now[o].Sums, sums)
	return body.n, nil
}

// counter counts what passes, and keeps the error of the reader apart from that of the writer.
type counter struct {
	r   io.Reader
	n   int64
	err error
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// hash reads the file on each side that has not told a hash that the other one can be given, too. If each has told another kind, both are read.
func (p *Pair) hash(ctx context.Context, st *merge.Step) error {
	var told [2]bool
	for s := range told {
		hs, _ := p.hashers()
		for sum := range strings.SplitSeq(st.Thing.Now[s].Sums, " ") {
			alg, _, _ := strings.Cut(sum, ":")
			told[s] = told[s] || hs[alg] != nil
		}
	}
	for s := range merge.Side(2) {
		if told[s] && !told[s.Other()] {
			continue
		}
		now := &st.Thing.Now[s]
		r, err := p.o.Tree[s].Open(ctx, now.Path, 0, -1, remote.Version(now.Version))
		if err != nil {
			return err
		}
		hs, all := p.hashers()
		total, err := io.Copy(all, r)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		if err == nil && now.Size >= 0 && total != now.Size {
			err = fmt.Errorf("%d of the %d bytes of %s came: %w", total, now.Size, now.Path, blob.ErrTemporary)
		}
		if err != nil {
			return err
		}
		now.Sums = union(now.Sums, sumsOf(hs))
	}
	return nil
}

// keepCopy copies what a step is to replace into the history.
func (p *Pair) keepCopy(ctx context.Context, st *merge.Step, to string) error {
	t := p.o.Tree[st.Side]
	if c, ok := t.(remote.Copier); ok && t.Can().ServerCopy {
		_, err := c.Copy(ctx, st.Path, to, known(st, st.Side))
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	now := st.Thing.Now[st.Side]
	r, err := t.Open(ctx, st.Path, 0, -1, known(st, st.Side))
	if err != nil {
		return err
	}
	_, err = t.Put(ctx, remote.Item{Path: to, Size: now.Size, MTime: timeOf(now.MTime), Mode: fs.FileMode(now.Mode)}, r, "")
	return errors.Join(err, r.Close())
}

// settleJournal looks at the paths of steps that were under way when the pair was last closed. It asks nobody before it is known that both places are those that
// they were: another one has none of these paths, and nobody has deleted them.
func (p *Pair) settleJournal(ctx context.Context) error {
	var all []kv.Pair
	for kvp, err := range p.o.KV.Scan(ctx, p.key('j', ""), p.key('j'+1, "")) {
		if err != nil {
			return err
		}
		all = append(all, kvp)
	}
	if len(all) == 0 {
		return nil
	}
	for s := range merge.Side(2) {
		if err := p.identify(ctx, s); err != nil {
			return fmt.Errorf("look at the %s side: %w", s, err)
		}
	}
	for _, kvp := range all {
		var b begun
		if err := json.Unmarshal(kvp.Value, &b); err == nil { // what cannot be read names no path: the places tell what was done
			for _, path := range [...]string{b.Path, b.From} {
				for s := range merge.Side(2) {
					if path == "" {
						continue
					}
					if err := p.ask(ctx, s, path); err != nil && !errors.Is(err, remote.ErrIllegal) {
						return err
					}
				}
			}
			if b.Op == merge.Move.String() { // of a directory only a listing tells all
				if err := p.o.KV.Update(ctx, func(tx kv.Tx) error { return tx.Delete(p.key('c', b.Side.String())) }); err != nil {
					return err
				}
			}
		}
		if err := p.o.KV.Update(ctx, func(tx kv.Tx) error { return tx.Delete(kvp.Key) }); err != nil {
			return err
		}
	}
	return nil
}

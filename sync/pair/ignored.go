package pair

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/merge/ignore"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// ErrIgnore says that an ignore file of a place cannot be read, so that it is not known what is left out. Nothing is done until it can.
var ErrIgnore = errors.New("it is not known what is left out")

// The limits of ignore files.
const (
	maxIgnoreFile  = 256 << 10 // bytes of one
	maxIgnoreFiles = 1000      // on a side
	maxIgnoreAll   = 4 << 20   // bytes of all, on both sides, with what they include
)

// isIgnoreFile reports whether the lines of a file say what is left out. Of two that both sides have made the one that gave way counts, too, until somebody
// has settled that: else what it leaves out would go to the other side.
func isIgnoreFile(it *merge.Item) bool {
	rest, ok := strings.CutPrefix(path.Base(it.Path), ignore.Name) // first of all, for it is asked of everything
	return ok && (rest == "" || strings.HasPrefix(rest, " (conflict")) && it.Kind == merge.File && !InHistory(it.Path)
}

// A textOf names what an ignore file, or one that is included, had in it.
type textOf struct {
	side          merge.Side
	path, version string
}

// A layer is the ignore files of one side, or one that gave way in a conflict. What any layer leaves out is left out.
type layer struct {
	side merge.Side
	set  ignore.Set
}

// filter is what the ignore files of both sides say.
type filter struct {
	layers []*layer
	texts  map[textOf]string // what was read for it, so that it is not read again
}

// shadowPut notes what a side has, and where ignore files may be.
func (p *Pair) shadowPut(tx kv.Tx, s merge.Side, it *merge.Item, flags byte) error {
	if isIgnoreFile(it) {
		if err := tx.Put(p.key('f', s.String()+"\x00"+it.Path), nil); err != nil {
			return err
		}
	}
	return tx.Put(p.shadowKey(s, it.Path), encodeItem(it, flags))
}

// shadowAt returns what the shadow has at a path.
func (p *Pair) shadowAt(ctx context.Context, s merge.Side, path string) (it merge.Item, ok bool, err error) {
	v, err := p.o.KV.Get(ctx, p.shadowKey(s, path))
	if errors.Is(err, fs.ErrNotExist) {
		return it, false, nil
	}
	if err == nil {
		it, _, err = decodeItem(v)
	}
	return it, err == nil && it.Path == path, err
}

// ignoreFiles returns the ignore files that a side was last seen to have.
func (p *Pair) ignoreFiles(ctx context.Context, s merge.Side) (all []merge.Item, err error) {
	// A database that an older program has written has no list of them: it is made once.
	known := p.key('m', "ignore "+s.String())
	if _, err := p.o.KV.Get(ctx, known); errors.Is(err, fs.ErrNotExist) {
		var keys [][]byte
		for it, err := range p.shadow(ctx, s, "") {
			if err != nil {
				return nil, err
			}
			if isIgnoreFile(&it) {
				keys = append(keys, p.key('f', s.String()+"\x00"+it.Path))
			}
		}
		if err := p.o.KV.Update(ctx, func(tx kv.Tx) error {
			for _, k := range keys {
				if err := tx.Put(k, nil); err != nil {
					return err
				}
			}
			return tx.Put(known, nil)
		}); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	var stale [][]byte
	from := p.key('f', s.String()+"\x00")
	for kvp, err := range p.o.KV.Scan(ctx, from, p.key('f', s.String()+"\x01")) {
		if err != nil {
			return nil, err
		}
		it, ok, err := p.shadowAt(ctx, s, string(kvp.Key[len(from):]))
		switch {
		case err != nil:
			return nil, err
		case !ok || !isIgnoreFile(&it):
			stale = append(stale, kvp.Key)
		default:
			all = append(all, it)
		}
	}
	if len(all) > maxIgnoreFiles {
		return nil, fmt.Errorf("%w: the %s side has %d ignore files, and %d at most are read", ErrIgnore, s, len(all), maxIgnoreFiles)
	}
	if len(stale) > 0 {
		err = p.o.KV.Update(ctx, func(tx kv.Tx) error { return deleteAll(tx, stale) })
	}
	return all, err
}

// readFilter reads what the ignore files of both sides say. One that is another by now, or gone, has been looked at anew: it is tried again. A turn is under way.
func (p *Pair) readFilter(ctx context.Context) (f *filter, err error) {
	for range 3 {
		if f, err = p.readFilterOnce(ctx); err == nil || !stale(err) {
			break
		}
	}
	return f, err
}

// readFilterOnce reads what is not known from the last time.
func (p *Pair) readFilterOnce(ctx context.Context) (*filter, error) {
	was := p.filter
	f := &filter{texts: map[textOf]string{}}
	total := 0
	for s := range merge.Side(2) {
		files, err := p.ignoreFiles(ctx, s)
		if err != nil {
			return nil, err
		}
		own := &layer{side: s}
		text := func(s merge.Side, it *merge.Item) (string, error) {
			body, err := p.ignoreText(ctx, s, it, was, f)
			if total += len(body); err == nil && total > maxIgnoreAll {
				err = fmt.Errorf("the ignore files of both sides have more than %d bytes", maxIgnoreAll)
			}
			return body, err
		}
		for i := range files {
			it := &files[i]
			l := own
			if path.Base(it.Path) != ignore.Name {
				l = &layer{side: s}
				f.layers = append(f.layers, l)
			}
			body, err := text(s, it)
			if err == nil {
				err = l.set.Add(p.o.Rule.Names[s].DecodePath(parent(it.Path)), it.Path, body, func(name string) (string, error) {
					return p.included(ctx, s, it.Path, name, text)
				})
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %s on the %s side: %w", ErrIgnore, it.Path, s, err)
			}
		}
		if len(files) > 0 {
			f.layers = append(f.layers, own)
		}
	}
	p.filter = f
	return f, nil
}

// included returns the text of a file that an ignore file brings in: beside it, or from the top of the place if its name begins with a slash. If this side does not have
// it, but the other one, it is only on its way.
func (p *Pair) included(ctx context.Context, s merge.Side, by, name string, text func(merge.Side, *merge.Item) (string, error)) (string, error) {
	at := path.Clean(strings.TrimPrefix(name, "/"))
	if !strings.HasPrefix(name, "/") {
		at = path.Join(parent(by), name)
	}
	if at == "." || at == ".." || strings.HasPrefix(at, "../") {
		return "", fmt.Errorf("it is not in the place: %w", fs.ErrInvalid)
	}
	it, ok, err := p.shadowAt(ctx, s, at)
	if err != nil {
		return "", err
	}
	if ok && it.Kind == merge.File {
		return text(s, &it)
	}
	if it, ok, err = p.shadowAt(ctx, s.Other(), at); err != nil {
		return "", err
	}
	if !ok || it.Kind != merge.File {
		return "", fs.ErrNotExist
	}
	return text(s.Other(), &it)
}

// ignoreText returns what an ignore file has in it, of the last filter if it was in that.
func (p *Pair) ignoreText(ctx context.Context, s merge.Side, it *merge.Item, was, f *filter) (body string, err error) {
	key := textOf{s, it.Path, it.Version}
	known := false
	if was != nil {
		body, known = was.texts[key]
	}
	if !known {
		if body, err = p.readText(ctx, s, it); err != nil {
			return "", err
		}
	}
	f.texts[key] = body
	return body, nil
}

func (p *Pair) readText(ctx context.Context, s merge.Side, it *merge.Item) (string, error) {
	r, err := p.o.Tree[s].Open(ctx, it.Path, 0, -1, remote.Version(it.Version))
	if err != nil {
		if stale(err) { // the next round sees what is there now
			err = errors.Join(err, p.ask(ctx, s, it.Path))
		}
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxIgnoreFile+1))
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	switch {
	case err != nil:
		return "", err
	case len(b) > maxIgnoreFile:
		return "", fmt.Errorf("it has more than %d bytes", maxIgnoreFile)
	case it.Size >= 0 && int64(len(b)) != it.Size:
		return "", fmt.Errorf("%d of its %d bytes came", len(b), it.Size)
	}
	return string(b), nil
}

// matchIn is what the filter says of something that is in no directory that is left out, in the names of the pair.
func (f *filter) matchIn(name string, dir bool) (out bool, by *ignore.Line, side merge.Side) {
	for _, l := range f.layers {
		o, line := l.set.MatchIn(name, dir)
		if o {
			return true, line, l.side
		}
		if line != nil {
			by, side = line, l.side
		}
	}
	return false, by, side
}

// A sieve says what is left out while one plan is made.
type sieve struct {
	p    *Pair
	f    *filter
	out  func(path string, dir bool, size int64) bool
	lim  Limits
	now  time.Time
	dirs map[string]bool // what was said of directories
}

func (p *Pair) sieve(f *filter) *sieve {
	return &sieve{p: p, f: f, out: p.out(), lim: p.limits(), now: p.o.Now(), dirs: map[string]bool{}}
}

// filtered yields what a side was last seen to have, with what is left out marked.
func (p *Pair) filtered(ctx context.Context, s merge.Side, f *filter, from string) iter.Seq2[merge.Item, error] {
	v := p.sieve(f)
	if v.out == nil && len(f.layers) == 0 && v.lim == (Limits{}) {
		return p.shadow(ctx, s, from)
	}
	return func(yield func(merge.Item, error) bool) {
		for it, err := range p.shadow(ctx, s, from) {
			if err == nil {
				it.Out = v.isOut(s, &it)
				it.Skip = !it.Out && v.lim.Why(&it, v.now) != ""
			}
			if !yield(it, err) {
				return
			}
		}
	}
}

func (v *sieve) one(name string, dir bool, size int64) bool {
	if v.out != nil && v.out(name, dir, size) {
		return true
	}
	out, _, _ := v.f.matchIn(name, dir)
	return out
}

// isOut asks for it and for what it is in.
func (v *sieve) isOut(s merge.Side, it *merge.Item) bool {
	name := v.p.o.Rule.Names[s].DecodePath(it.Path)
	for i := 0; i < len(name); i++ {
		if name[i] != '/' {
			continue
		}
		out, ok := v.dirs[name[:i]]
		if !ok {
			out = v.one(name[:i], true, 0)
			v.dirs[name[:i]] = out
		}
		if out {
			return true
		}
	}
	return v.one(name, it.Kind == merge.Dir, it.Size)
}

// why says why something is left out; "" if it is not.
func (v *sieve) why(s merge.Side, it *merge.Item) string {
	if v.isOut(s, it) {
		return "its name is left out"
	}
	return v.lim.Why(it, v.now)
}

// parent returns the folder of a path.
func parent(name string) string { return name[:max(strings.LastIndexByte(name, '/'), 0)] }

// A Verdict says whether ignore files leave something out.
type Verdict struct {
	Out bool
	// By is the line that decides it, "!" lines too; nil if none says anything. It is of a file on Side.
	By   *ignore.Line
	Side merge.Side
	// Name is the path in the names of the pair, and Dir says that it is a directory, as far as the place knows it.
	Name string
	Dir  bool
}

// Ignored says what the ignore files of both sides say of a path of side s, as they are now. dir is taken from the caller if there is nothing at path.
func (p *Pair) Ignored(ctx context.Context, s merge.Side, path string, dir bool) (v Verdict, err error) {
	if err := p.begin(ctx); err != nil {
		return v, err
	}
	defer p.end()
	v = Verdict{Name: p.o.Rule.Names[s].DecodePath(path), Dir: dir}
	for t := range merge.Side(2) {
		if err := p.identify(ctx, t); err != nil {
			return v, fmt.Errorf("look at the %s side: %w", t, err)
		}
		for up := path; up != ""; {
			up = parent(up)
			if err := p.ask(ctx, t, strings.TrimPrefix(up+"/"+ignore.Name, "/")); err != nil && !errors.Is(err, remote.ErrIllegal) {
				return v, err
			}
		}
	}
	if err := p.ask(ctx, s, path); err != nil && !errors.Is(err, remote.ErrIllegal) {
		return v, err
	}
	if it, ok, err := p.shadowAt(ctx, s, path); err != nil {
		return v, err
	} else if ok {
		v.Dir = it.Kind == merge.Dir
	}
	f, err := p.readFilter(ctx)
	if err != nil {
		return v, err
	}
	for i := 0; i <= len(v.Name); i++ {
		if i < len(v.Name) && v.Name[i] != '/' {
			continue
		}
		if v.Out, v.By, v.Side = f.matchIn(v.Name[:i], i < len(v.Name) || v.Dir); v.Out {
			return v, nil
		}
	}
	return v, nil
}

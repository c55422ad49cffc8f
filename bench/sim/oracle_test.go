package sim

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/vfs"
)

// A word is a piece of text that is written once. It is in one file, and in whatever comes of that.
type word struct {
	text    string
	life    former // who wrote it
	due     bool   // it was durable on its device
	free    bool   // somebody who saw it replaced or removed it, or it may be lost with its device: it need not be there
	killed  bool   // somebody did who saw it
	carried bool   // more was done with its file than to make it and to end it
	// sure are the lives of devices of which a place knows that they ended it.
	sure map[int]bool
	// hidden are the devices that were revoked before it was written, as who wrote it knew.
	hidden map[*device]bool
}

// A former is a device of before.
type former struct {
	id   string
	life int
}

var wordForm = regexp.MustCompile(`<[a-z]:[0-9]+>`)

// newWord returns a word that nobody wrote before.
func (d *device) newWord() *word {
	w := d.w
	x := &word{text: fmt.Sprintf("<%s:%d>", d.name, len(w.words)), life: former{d.id, d.life}, sure: map[int]bool{}, free: d.ghost, hidden: map[*device]bool{}}
	for _, g := range w.ghosts {
		x.hidden[g] = g != d && d.knowsRevoked(g)
	}
	w.words[x.text] = x
	return x
}

// wrote notes that a word is in a file now.
func (d *device) wrote(x *word) {
	d.loose = append(d.loose, x)
	d.unpushed = append(d.unpushed, x)
}

// ends notes that the words in some bytes are about to be replaced or removed by a device that saw them.
func (d *device) ends(content string) {
	for _, s := range wordForm.FindAllString(content, -1) {
		x := d.w.words[s]
		x.free, x.killed = true, true
		d.ending = append(d.ending, x)
	}
}

// carries notes that more is done with a file.
func (d *device) carries(content string) {
	for _, s := range wordForm.FindAllString(content, -1) {
		d.w.words[s].carried = true
	}
}

// A tree is what a drive shows: of each path what there is.
type tree map[string]string

// look reads all that a drive shows. Bytes that nobody wrote are an error.
func (w *world) look(fsys vfs.FS) (tree, error) {
	top, err := fsys.Root(w.ctx)
	if err != nil {
		return nil, err
	}
	all := tree{}
	for e, err := range vfs.Tree(w.ctx, top) {
		if err != nil {
			return nil, err
		}
		what := fmt.Sprintf("%d %o ", e.Attr.Kind, e.Attr.Mode)
		switch n := e.Node.(type) {
		case vfs.File:
			b, err := readNode(w.ctx, n)
			if err != nil {
				return nil, fmt.Errorf("read %q: %w", e.Path, err)
			}
			if !w.known[b] {
				return nil, fmt.Errorf("%w: %q has %d bytes: %.80q", errWrong, e.Path, len(b), b)
			}
			what += fmt.Sprintf("%d %d %s", e.Attr.MTime.UnixNano(), e.Attr.Nlink, b)
		case vfs.Link:
			to, err := n.Target(w.ctx)
			if err != nil {
				return nil, fmt.Errorf("read %q: %w", e.Path, err)
			}
			what += to
		}
		all[e.Path] = what
	}
	return all, nil
}

func readNode(ctx context.Context, f vfs.File) (string, error) {
	h, err := f.Open(ctx, vfs.OpenRead)
	if err != nil {
		return "", err
	}
	b, err := readHandle(ctx, f, h)
	if cerr := h.Close(ctx); err == nil {
		err = cerr
	}
	return b, err
}

func readHandle(ctx context.Context, f vfs.File, h vfs.Handle) (string, error) {
	a, err := f.Attr(ctx)
	if err != nil || a.Size == 0 {
		return "", err
	}
	p := make([]byte, a.Size)
	n, err := h.ReadAt(ctx, p, 0)
	if n == len(p) {
		err = nil
	}
	return string(p[:n]), err
}

// differs tells where a tree differs from another, or "".
func (a tree) differs(b tree) string {
	var all []string
	for _, path := range slices.Sorted(maps.Keys(a)) {
		if a[path] != b[path] {
			all = append(all, fmt.Sprintf("%q is %.100q, and %.100q there", path, a[path], b[path]))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[path]; !ok {
			all = append(all, fmt.Sprintf("%q is only there: %.100q", path, b[path]))
		}
	}
	return strings.Join(all[:min(len(all), 8)], "\n")
}

// judge holds what all devices show in the end against what was done.
func (w *world) judge(all tree) {
	found := map[string]string{}
	for path, what := range all {
		for _, s := range wordForm.FindAllString(what, -1) {
			found[s] = path
		}
	}
	for _, s := range slices.Sorted(maps.Keys(w.words)) {
		x := w.words[s]
		path, ok := found[s]
		switch {
		case x.due && !x.free:
			w.count["due"]++
			if !ok {
				w.failf("%s was synced, nobody who saw it ended it, and it is nowhere", s)
			}
		case ok && len(x.sure) > 0 && !x.carried:
			w.failf("%s was ended by who saw it, nobody else did anything with it, and it is in %q", s, path)
		case x.killed && !ok:
			w.count["ended"]++
		}
	}
	for path := range all {
		if strings.Contains(path, "(conflict") {
			w.count["conflicts"]++
		}
	}
}

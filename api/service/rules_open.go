package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/sync/merge"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/memtree"
	"github.com/sheaf-drive/sheaf/sync/remote/treefs"
)

// mergeModes are the modes as package merge has them.
var mergeModes = map[sheafv1.RuleMode]merge.Mode{
	sheafv1.RuleMode_RULE_MODE_TWO_WAY: merge.TwoWay, sheafv1.RuleMode_RULE_MODE_COPY: merge.CopyOnly, sheafv1.RuleMode_RULE_MODE_MIRROR: merge.Mirror,
	sheafv1.RuleMode_RULE_MODE_SEND: merge.Send,
}

// A side is one place of a rule, open.
type side struct {
	tree  remote.Tree
	cheap bool        // to read a file there costs little
	names merge.Names // that it can have
	close func()
}

// side opens a place of a rule. With mk, a folder that is not there is made.
func (s *Service) side(ctx context.Context, d Drive, at string, mk bool) (side, error) {
	p, err := ParsePlace(at)
	if err != nil {
		return side{}, err
	}
	if p.Name == remote.Self {
		below, err := clean(wirepath.Encode(p.Path))
		if err == nil && mk && below != "" {
			_, err = s.Mkdir(ctx, &sheafv1.MkdirRequest{Path: wirepath.Encode(below), Parents: true})
		}
		if err != nil {
			return side{}, err
		}
		t := treefs.NewTree(d.FS(), treefs.TreeOptions{Identity: "drive " + d.Info().Drive, Below: below, UID: s.o.UID, GID: s.o.GID, Exact: true, Feed: d.Feed})
		return side{tree: t, cheap: true, close: func() {}}, nil
	}
	r, err := s.remotes()
	if err != nil {
		return side{}, err
	}
	t, err := r.Kinds.OpenTree(ctx, p, r.Book, remote.Options{Make: mk, Getenv: r.Getenv})
	if err != nil {
		return side{}, fmt.Errorf("open %s: %w", s.shown(at), err)
	}
	sd := side{tree: t.Tree, cheap: t.Kind.Name == remote.Local, close: func() {
		if err := t.Close(); err != nil {
			s.o.Log.Warn("a place was not closed well", "error", err)
		}
	}}
	sd.names.Windows = sd.cheap && runtime.GOOS == "windows"
	return sd, nil
}

// A ground is where a place is: two with one space are in each other if one path is in the other.
type ground struct{ space, path string }

func (g ground) overlaps(o ground) bool {
	a, b := strings.Trim(g.path, "/")+"/", strings.Trim(o.path, "/")+"/"
	if g.space == "local" && runtime.GOOS != "linux" { // where names that differ in case only may be one
		a, b = strings.ToLower(a), strings.ToLower(b)
	}
	return g.space == o.space && (a == "/" || b == "/" || strings.HasPrefix(a, b) || strings.HasPrefix(b, a))
}

// ground returns where a place is.
func (s *Service) ground(at string) (ground, error) {
	p, err := ParsePlace(at)
	if err != nil {
		return ground{}, err
	}
	if p.Name == remote.Self {
		below, err := clean(wirepath.Encode(p.Path))
		return ground{"drive", below}, err
	}
	r, err := s.remotes()
	if err != nil {
		return ground{}, err
	}
	if err := r.Kinds.CheckPlain(p, r.Book); err != nil {
		return ground{}, errorf(sheafv1.Code_CODE_USAGE, "sheaf remote add NAME KIND …, and then NAME:path", "%w", err)
	}
	kind, c, err := r.Kinds.Resolve(p, r.Book, remote.Options{Getenv: r.Getenv})
	if errors.Is(err, fs.ErrNotExist) {
		return ground{}, errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf remote list", "%w", err)
	}
	if err != nil {
		return ground{}, err
	}
	if kind.Name == remote.Local {
		dir := c.Path
		if root := c.Options["root"]; root != "" {
			dir = filepath.Join(root, filepath.FromSlash(path.Clean("/"+filepath.ToSlash(c.Path))))
		}
		dir, err = folder(dir)
		return ground{"local", filepath.ToSlash(dir)}, err
	}
	below := path.Clean("/" + filepath.ToSlash(p.Path))
	p.Path = ""
	return ground{kind.Name + " " + p.String(), below}, nil
}

// checkSides refuses two places of which one is in the other, what holds the store of the drive, and what is a mount of it.
func (s *Service) checkSides(i *sheafv1.Rule) error {
	var g [2]ground
	for n, at := range [...]string{i.GetLeft(), i.GetRight()} {
		var err error
		if g[n], err = s.ground(at); err != nil {
			return err
		}
		if g[n].space != "local" {
			continue
		}
		if s.o.Store != "" {
			if dir, err := folder(s.o.Store); err == nil && g[n].overlaps(ground{"local", filepath.ToSlash(dir)}) {
				return errorf(sheafv1.Code_CODE_USAGE, "sheaf replica add keeps a copy of the store", "%s and the store of the drive, %s, are in each other", s.shown(at), dir)
			}
		}
		s.mu.Lock()
		mounts := s.mountList()
		s.mu.Unlock()
		for _, m := range mounts {
			dir := ground{"local", filepath.ToSlash(m.GetDir())}
			if dir.overlaps(g[n]) && len(dir.path) <= len(g[n].path) {
				return errorf(sheafv1.Code_CODE_USAGE, "name it as sheaf:/path, or as the place that is mounted", "%s is in a mount", s.shown(at))
			}
		}
	}
	if g[0].overlaps(g[1]) {
		return errorf(sheafv1.Code_CODE_USAGE, "", "%s and %s are in each other", s.shown(i.GetLeft()), s.shown(i.GetRight()))
	}
	return nil
}

// label is how conflict copies call a place; "" if it has no short name.
func label(at string) string {
	p, err := ParsePlace(at)
	if err != nil {
		return ""
	}
	name := p.Name
	switch {
	case p.Name == remote.Self:
		name = "drive"
	case p.Local:
		name = filepath.Base(p.Path)
	case p.Name == "":
		name = p.Kind
	}
	if name == "." || len(name) > 40 || strings.ContainsFunc(name, func(r rune) bool { return !ruleRune(r) }) {
		return ""
	}
	return name
}

// openPair opens a rule. r.open is held for writing.
func (s *Service) openPair(ctx context.Context, d Drive, r *rule) error {
	i := r.show()
	if r.gone {
		return errorf(sheafv1.Code_CODE_NOT_FOUND, "sheaf sync list", "rule %q was removed", i.GetName())
	}
	if err := s.checkSides(i); err != nil {
		return err
	}
	out, err := outOf(i)
	if err != nil {
		return err
	}
	o := pair.Options{Rule: merge.Options{Mode: mergeModes[i.GetMode()], Label: [2]string{label(i.GetLeft()), label(i.GetRight())}}, Log: s.o.Log, Now: s.o.Now}
	if o.Rule.Label[0] == o.Rule.Label[1] {
		o.Rule.Label = [2]string{}
	}
	o.Out, o.Limits = out, limitsOf(i.GetFilter())
	var opened []side
	shut := func() {
		for _, sd := range opened {
			sd.close()
		}
	}
	for n, at := range [...]string{i.GetLeft(), i.GetRight()} {
		sd, err := s.side(ctx, d, at, false)
		if n == 1 && r.draft && errors.Is(err, fs.ErrNotExist) {
			sd, err = side{tree: memtree.New(memtree.Options{Name: at}), cheap: true, close: func() {}}, nil
		}
		if err != nil {
			shut()
			return err
		}
		opened = append(opened, sd)
		o.Tree[n], o.Rule.Names[n], o.Rule.Can[n].CheapRead = sd.tree, sd.names, sd.cheap
	}
	o.Told = func(e pair.Event) {
		if e.Err != nil {
			return
		}
		r.mu.Lock()
		r.steps++
		r.mu.Unlock()
	}
	o.Planned = func(steps int, _ int64) {
		r.mu.Lock()
		r.planned += int64(steps)
		r.mu.Unlock()
	}
	p, err := d.Pair(ctx, i.GetId(), o)
	if err != nil {
		shut()
		return err
	}
	life, end := context.WithCancel(s.life)
	r.pair, r.life, r.close = p, life, shut
	r.mu.Lock()
	r.end = end
	r.mu.Unlock()
	return nil
}

// cut has the turns that are under way end between two steps, and waits for nobody.
func (r *rule) cut() {
	r.mu.Lock()
	end := r.end
	r.mu.Unlock()
	if end != nil {
		end()
	}
}

// shut closes the rule, once nobody uses it. With cut, turns that are under way end between two steps.
func (r *rule) shut(cut bool) {
	if cut {
		r.cut()
	}
	r.open.Lock()
	defer r.open.Unlock()
	r.closeLocked()
}

// closeLocked gives back what is open. r.open is held for writing.
func (r *rule) closeLocked() {
	if r.pair == nil {
		return
	}
	r.cut()
	r.close()
	r.pair, r.close = nil, nil
}

// remove closes the rule for good.
func (r *rule) remove() {
	r.shut(true)
	r.open.Lock()
	defer r.open.Unlock()
	r.closeLocked() // somebody may have opened it meanwhile
	r.gone = true
}

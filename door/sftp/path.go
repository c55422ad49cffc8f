package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sheaf-drive/sheaf/vfs"
)

// maxLinks is how many symbolic links one path may lead through, as on Linux.
const maxLinks = 40

// errLoop says that links lead to each other.
var errLoop = errors.New("too many levels of symbolic links")

// A spot is where a path leads.
type spot struct {
	dir  vfs.Dir  // what it lies in; nil for the root
	name string   // in dir
	node vfs.Node // nil: nothing is there, and dir is
}

// walk follows a path from the root that is shown. A link in the midst of it is followed, one at its end with follow only. What is
// absolute in a link begins at the root that is shown, too, and nothing leads above it. That nothing is at the end is no error.
func walk(ctx context.Context, root vfs.Dir, path string, follow bool) (spot, error) {
	// The folders on the way, so that ".." leads back the way it came.
	way := []spot{{node: root}}
	names := strings.Split(path, "/")
	for links := 0; len(names) > 0; {
		name := names[0]
		names = names[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			way = way[:max(1, len(way)-1)]
			continue
		}
		d, ok := way[len(way)-1].node.(vfs.Dir)
		if !ok {
			return spot{}, fmt.Errorf("walk to %q: %w", path, vfs.ErrNotDir)
		}
		n, err := d.Lookup(ctx, name)
		if errors.Is(err, fs.ErrNotExist) && last(names) {
			return spot{dir: d, name: name}, nil
		}
		if err != nil {
			return spot{}, fmt.Errorf("walk to %q: %w", path, err)
		}
		if l, ok := n.(vfs.Link); ok && (follow || !last(names)) {
			if links++; links > maxLinks {
				return spot{}, fmt.Errorf("walk to %q: %w", path, errLoop)
			}
			target, err := l.Target(ctx)
			if err != nil {
				return spot{}, fmt.Errorf("walk to %q: %w", path, err)
			}
			if strings.HasPrefix(target, "/") {
				way = way[:1]
			}
			names = append(strings.Split(target, "/"), names...)
			continue
		}
		way = append(way, spot{dir: d, name: name, node: n})
	}
	return way[len(way)-1], nil
}

// last reports whether nothing comes after these names.
func last(names []string) bool {
	for _, n := range names {
		if n != "" && n != "." {
			return false
		}
	}
	return true
}

// there is walk to what has to be there.
func there(ctx context.Context, root vfs.Dir, path string, follow bool) (spot, error) {
	s, err := walk(ctx, root, path, follow)
	if err == nil && s.node == nil {
		err = fmt.Errorf("walk to %q: %w", path, fs.ErrNotExist)
	}
	return s, err
}

// named is there to what has a name, which the root has not.
func named(ctx context.Context, root vfs.Dir, path string) (spot, error) {
	s, err := there(ctx, root, path, false)
	if err == nil && s.dir == nil {
		err = fmt.Errorf("the root: %w", fs.ErrPermission)
	}
	return s, err
}

// free is walk to where nothing is yet.
func free(ctx context.Context, root vfs.Dir, path string) (spot, error) {
	s, err := walk(ctx, root, path, false)
	if err == nil && s.node != nil {
		err = fmt.Errorf("%q: %w", path, fs.ErrExist)
	}
	return s, err
}

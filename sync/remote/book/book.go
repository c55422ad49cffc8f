// Package book is the remotes of this device: their names, options and secrets, in one sealed
// file. It opens no remote, and it is no part of a drive.
//
// While no passphrase guards the drive of this device, or there is none, the file is sealed under a key in a file beside it,
// readable by its owner only: it keeps secrets out of copies of the one file, and whoever can read both can read all. Where a passphrase guards
// the drive, the file is sealed under a key that the open drive gives, and is closed while the drive is. The form follows the drive:
// each time the drive is opened or its passphrase changes, the file is written anew if it has the other form.
package book

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// The errors of a Book, besides those of io/fs and package remote.
var (
	// ErrClosed: the book is closed while the drive is.
	ErrClosed = errors.New("the remotes are closed as long as the drive is")
	// ErrDamaged: the file is damaged, or its key is another one.
	ErrDamaged = errors.New("the file of remotes does not open")
	// ErrFormat: a newer program wrote the file.
	ErrFormat = errors.New("a newer sheaf wrote the file of remotes")
)

// The limits of a book.
const (
	maxRemotes = 1000
	maxFile    = 8 << 20 // bytes
)

// A Remote is one entry. Its secrets are not shown by any verb of fmt.
type Remote struct {
	Name, Kind string
	Options    map[string]string
	Secrets    Secrets
}

// Secrets are values that print as their names only.
type Secrets map[string]string

// Format prints the names of the secrets.
func (s Secrets) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "[secrets %v]", slices.Sorted(maps.Keys(s)))
}

func (r Remote) clone() Remote {
	r.Options, r.Secrets = maps.Clone(r.Options), maps.Clone(r.Secrets)
	if r.Options == nil {
		r.Options = map[string]string{}
	}
	if r.Secrets == nil {
		r.Secrets = Secrets{}
	}
	return r
}

// Options are what a Book is made of. Both are needed.
type Options struct {
	// Dir is the private folder in which the file lies. It is made when the first remote is.
	Dir string
	// Guarded reports whether a passphrase guards the drive of this device: a book is not written in the open
	// form then.
	Guarded func() (bool, error)
}

// A Book is the remotes of one device. It is safe for concurrent use; of one folder one process has a Book at a time.
type Book struct {
	o Options

	mu     sync.Mutex
	drive  *[32]byte // the key that the open drive gave; nil while it is closed
	loaded bool
	form   form // of the file that is there
	all    map[string]Remote
	turns  map[string]*remote.Turn // by name, of those that were asked for
}

// Open returns the Book of a folder. It reads nothing yet.
func Open(o Options) *Book { return &Book{o: o} }

func (b *Book) path() string { return filepath.Join(b.o.Dir, fileName) }

// Unlock gives the book the key of the open drive, derived for kdf.Remotes, and brings the file into the form that it
// is to have. It is called when a drive is opened or made, and when its passphrase has changed.
func (b *Book) Unlock(key [32]byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drive = &key
	guarded, err := b.o.Guarded()
	if err != nil {
		return fmt.Errorf("unlock remotes: %w", err)
	}
	err = b.load()
	switch {
	case errors.Is(err, ErrDamaged) && b.form == formDrive && !b.loaded:
		return nil // of another drive; who asks for a remote is told
	case err != nil:
		return fmt.Errorf("unlock remotes: %w", err)
	case b.form == formNone || b.form == formOf(guarded):
		if guarded {
			return b.dropKey()
		}
		return nil
	}
	return b.save(b.all)
}

// Lock forgets the key of the drive, and what was read with it.
func (b *Book) Lock() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drive = nil
	if b.form == formDrive {
		b.loaded, b.all = false, nil
	}
}

// List returns the remotes, by name.
func (b *Book) List() ([]Remote, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.load(); err != nil {
		return nil, fmt.Errorf("list remotes: %w", err)
	}
	var out []Remote
	for _, name := range slices.Sorted(maps.Keys(b.all)) {
		out = append(out, b.all[name].clone())
	}
	return out, nil
}

// Get returns one remote. The error wraps fs.ErrNotExist if there is none of that name.
func (b *Book) Get(name string) (Remote, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.load(); err != nil {
		return Remote{}, fmt.Errorf("remote %s: %w", name, err)
	}
	r, ok := b.all[name]
	if !ok {
		return Remote{}, fmt.Errorf("remote %s: %w", name, fs.ErrNotExist)
	}
	return r.clone(), nil
}

// Add adds a remote, durably. The error wraps fs.ErrExist if there is one of that name, or one that would answer to the same
// variables of the environment.
func (b *Book) Add(r Remote) error {
	if err := remote.CheckName(r.Name); err != nil {
		return err
	}
	return b.change(r.Name, func(all map[string]Remote) error {
		for name := range all {
			if remote.EnvName(name) == remote.EnvName(r.Name) {
				return fmt.Errorf("%w: %s", fs.ErrExist, name)
			}
		}
		if len(all) >= maxRemotes {
			return fmt.Errorf("%w: more than %d remotes", remote.ErrOption, maxRemotes)
		}
		all[r.Name] = r.clone()
		return nil
	})
}

// Edit changes a remote, durably. The function gets it as it is and returns it as it is to be; its name stays.
func (b *Book) Edit(name string, f func(Remote) (Remote, error)) error {
	return b.change(name, func(all map[string]Remote) error {
		r, ok := all[name]
		if !ok {
			return fs.ErrNotExist
		}
		r, err := f(r.clone())
		if err != nil {
			return err
		}
		r.Name = name
		all[name] = r.clone()
		return nil
	})
}

// Remove removes a remote, durably. What lies there stays. The error wraps fs.ErrNotExist if there is none of that name.
func (b *Book) Remove(name string) error {
	return b.change(name, func(all map[string]Remote) error {
		if _, ok := all[name]; !ok {
			return fs.ErrNotExist
		}
		delete(all, name)
		return nil
	})
}

// change does one change and makes it durable, or changes nothing.
func (b *Book) change(name string, f func(all map[string]Remote) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.load(); err != nil {
		return fmt.Errorf("remote %s: %w", name, err)
	}
	all := maps.Clone(b.all)
	if err := f(all); err != nil {
		return fmt.Errorf("remote %s: %w", name, err)
	}
	if err := b.save(all); err != nil {
		return fmt.Errorf("remote %s: %w", name, err)
	}
	return nil
}

// Config returns a remote as it is to be opened, with a path below it. Its secrets are those of the book: one that is set
// is durable in it.
func (b *Book) Config(name, path string) (kind string, c remote.Config, err error) {
	r, err := b.Get(name)
	if err != nil {
		return "", remote.Config{}, err
	}
	return r.Kind, remote.Config{Name: name, Path: path, Options: r.Options, Secrets: secretsOf{b, name}}, nil
}

// secretsOf are the secrets of one remote.
type secretsOf struct {
	b    *Book
	name string
}

// Get implements remote.Secrets.
func (s secretsOf) Get(_ context.Context, name string) (string, error) {
	r, err := s.b.Get(s.name)
	if err != nil {
		return "", err
	}
	return r.Secrets[name], nil
}

// Set implements remote.Secrets.
func (s secretsOf) Set(_ context.Context, name, value string) error {
	return s.b.Edit(s.name, func(r Remote) (Remote, error) {
		r.Secrets[name] = value
		return r, nil
	})
}

// Lock implements remote.Secrets.
func (s secretsOf) Lock(ctx context.Context) (func(), error) {
	s.b.mu.Lock()
	if s.b.turns == nil {
		s.b.turns = map[string]*remote.Turn{}
	}
	t := s.b.turns[s.name]
	if t == nil {
		t = new(remote.Turn)
		s.b.turns[s.name] = t
	}
	s.b.mu.Unlock()
	return t.Lock(ctx)
}

// deriveOpen returns the key of the open form from the bytes of the key file.
func deriveOpen(file []byte) *[32]byte {
	k := kdf.Key(kdf.RemotesFile, file)
	return &k
}

// Package provider is rclone's backends as kinds of remotes: each of them as a blob.Bucket, and as a place of plain files. It is the
// only place that knows rclone, and it never sees what is in a blob.
//
// Nothing of rclone is global here: no configuration file is read or written, no environment is looked at, and each
// Bucket has a configuration of its own. What rclone's backends keep in variables all the same is
// listed in docs/adr/0018-providers.md.
package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	rclone "github.com/rclone/rclone/fs"
	"golang.org/x/sync/semaphore"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// Kinds returns a kind for each backend, in the order of their names.
func Kinds() remote.Kinds {
	kinds := make(remote.Kinds, 0, len(backends))
	for _, b := range backends {
		info, err := rclone.Find(b.rclone)
		if err != nil {
			panic("provider: a backend is listed that is not built in: " + b.rclone)
		}
		k := remote.Kind{Name: b.name, Title: b.title, Options: options(&b, info), OAuth: b.oauth, Can: b.can}
		k.Bucket = func(ctx context.Context, c remote.Config) (blob.Bucket, error) { return open(ctx, &k, &b, info, c) }
		k.Tree = func(ctx context.Context, c remote.Config) (remote.Tree, error) { return openTree(ctx, &k, &b, info, c) }
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(a, b remote.Kind) int { return strings.Compare(a.Name, b.Name) })
	return kinds
}

// The times that a place has to answer, and to go on with what it began. Some put a file together from
// parts before they answer, which takes its time.
const (
	connectTime = 20 * time.Second
	idleTime    = 2 * time.Minute
)

// configure gives ctx a configuration of rclone that belongs to one Bucket.
func configure(ctx context.Context, rate remote.Rate) context.Context {
	ctx, ci := rclone.AddConfig(ctx)
	ci.LowLevelRetries = 1 // what fails is tried again above, where it is known what may be done twice
	ci.ConnectTimeout = rclone.Duration(connectTime)
	ci.Timeout = rclone.Duration(idleTime)
	ci.Transfers, ci.Checkers = workers[rate], workers[rate]
	ci.UserAgent = "sheaf"
	ci.UseServerModTime = true // or each name of a listing costs a call
	ci.AskPassword = false
	ci.Cookie = false // rclone's jar is one for all
	return ctx
}

// workers is how many calls one listing or removal makes at a time.
var workers = map[remote.Rate]int{remote.Fast: 8, remote.Steady: 4, remote.Slow: 2}

// A bucket is a [blob.Bucket] over one rclone Fs.
type bucket struct {
	f      rclone.Fs
	b      *backend
	info   *rclone.RegInfo
	m      *mapper
	conf   context.Context // has the configuration of f, and ends with Close
	close  context.CancelFunc
	room   *semaphore.Weighted // of bodies that are kept in memory
	sights sights

	// replaces says that a blob which is there is better put over it than moved to it: the server keeps the old one
	// until it has the new one, and takes it away before a move.
	replaces bool

	mu      sync.Mutex
	checked time.Time // when the place was last seen to be there
	swept   bool      // of what others have left unfinished
}

// open opens the place. The Bucket outlives ctx.
func open(ctx context.Context, k *remote.Kind, b *backend, info *rclone.RegInfo, c remote.Config) (blob.Bucket, error) {
	return openAs(ctx, k, b, info, c, (*bucket).enter)
}

// openBare opens a place of objects without looking whether anything is in it.
func openBare(ctx context.Context, k *remote.Kind, b *backend, info *rclone.RegInfo, c remote.Config) (blob.Bucket, error) {
	return openAs(ctx, k, b, info, c, func(*bucket, context.Context, bool) error { return nil })
}

func openAs(ctx context.Context, k *remote.Kind, b *backend, info *rclone.RegInfo, c remote.Config, enter func(*bucket, context.Context, bool) error) (blob.Bucket, error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	life = configure(life, b.can.Rate)
	stop := context.AfterFunc(ctx, end) // until it is open
	name := c.Name
	if name == "" {
		name = b.name
	}
	m, err := newMapper(life, k, info, c)
	bk := &bucket{b: b, info: info, m: m, conf: life, close: end, room: semaphore.NewWeighted(room), replaces: b.replaces != nil && b.replaces(&c)}
	if err == nil {
		bk.f, err = info.NewFs(life, name, strings.TrimSuffix(c.Path, "/"), m)
	}
	if why := m.refused(); err == nil && why != nil { // it would be another place, or as somebody else
		_ = bk.Close() // nothing was done there
		return nil, fmt.Errorf("open %s: %w", name, why)
	}
	if errors.Is(err, rclone.ErrorIsFile) {
		err = fmt.Errorf("%s is a file: %w", c.Path, fs.ErrExist)
	} else if err == nil {
		err = enter(bk, ctx, c.Make)
	}
	if err != nil {
		err = bk.failed(ctx, err)
		_ = bk.Close() // what failed already
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	if !stop() {
		_ = bk.Close()
		return nil, fmt.Errorf("open %s: %w", name, ctx.Err())
	}
	return bk, nil
}

// Close gives back the connections. What is under way fails.
func (b *bucket) Close() error {
	b.close()
	if b.f == nil {
		return nil
	}
	shutdown := b.f.Features().Shutdown
	if shutdown == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.conf), connectTime)
	defer cancel()
	if err := shutdown(ctx); err != nil {
		return fmt.Errorf("close %s: %w", b.f.Name(), err)
	}
	return nil
}

// with returns ctx with the configuration of this Bucket, which ends with it, too.
func (b *bucket) with(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(rclone.CopyConfig(ctx, b.conf))
	stop := context.AfterFunc(b.conf, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// enter sees that the place is there, or makes it. In a place of objects there are no folders: one below a
// container is there if anything is in it, so one that is made gets a mark.
func (b *bucket) enter(ctx context.Context, make bool) error {
	ctx, cancel := b.with(ctx)
	defer cancel()
	entries, err := b.f.List(ctx, "")
	missing := errors.Is(err, rclone.ErrorDirNotFound) || ntStatus(err) == ntNoShare || err == nil && len(entries) == 0 && b.needsMark()
	if err != nil && !missing {
		return err
	}
	if !missing {
		b.seen()
		return nil
	}
	if err != nil {
		if why := b.denied(ctx); why != nil {
			return why
		}
	}
	if !make {
		if root := b.f.Root(); b.objects() && !strings.Contains(root, "/") {
			return fmt.Errorf("the bucket %q is not there, or the keys do not open it: %w", root, fs.ErrNotExist)
		}
		return fmt.Errorf("the place %q is not there: %w", b.f.Root(), fs.ErrNotExist)
	}
	if err := b.f.Mkdir(ctx, ""); err != nil {
		return fmt.Errorf("make %q: %w", b.f.Root(), err)
	}
	if b.needsMark() {
		const text = "A place of sheaf.\n"
		if _, err := b.f.Put(ctx, strings.NewReader(text), source{f: b.f, name: mark, size: int64(len(text))}); err != nil {
			return fmt.Errorf("mark %q: %w", b.f.Root(), err)
		}
	}
	b.seen()
	return nil
}

// denied returns an error that wraps blob.ErrUnauthorized if the keys are the reason why a container is not found, and nil if
// they are not, or nobody can tell. A server may say by the same status that it does not know who asks, and the backend
// keeps nothing but the status then. So the server is asked for its containers, for which there is no such answer. Keys that are
// right may not be allowed to ask that: then it is the container that is not there for them.
func (b *bucket) denied(ctx context.Context) error {
	if !b.objects() {
		return nil
	}
	root, err := b.info.NewFs(ctx, b.f.Name(), "", b.m)
	if err == nil {
		_, err = root.List(ctx, "")
		if shutdown := root.Features().Shutdown; shutdown != nil {
			defer func() { _ = shutdown(ctx) }() // nothing was written
		}
	}
	if err == nil || status(err) != http.StatusUnauthorized && !wrongKeys(err) {
		return nil
	}
	return fmt.Errorf("%w: the keys are not those of the place: %w", blob.ErrUnauthorized, noNotExist{err})
}

// mark is no legal name of a blob.
const mark = "place~"

func (b *bucket) needsMark() bool {
	return b.objects() && strings.Contains(b.f.Root(), "/")
}

// objects reports whether it is a place of objects in containers. SMB has containers, too, which are shares, but what is in them are folders.
func (b *bucket) objects() bool { return b.f.Features().BucketBased && b.b.can.AtomicPut }

func (b *bucket) seen() {
	b.mu.Lock()
	b.checked = time.Now()
	b.mu.Unlock()
}

// fresh is how long a place that was seen is taken to be there.
const fresh = 10 * time.Second

// present returns an error that wraps blob.ErrTemporary if the place itself is not there, so that nothing in it can be
// said to be missing, or be put beside the mountpoint of a disk that is away. If it was seen within the last
// age, it is not asked.
func (b *bucket) present(ctx context.Context, age time.Duration) error {
	b.mu.Lock()
	recent := time.Since(b.checked) < age
	b.mu.Unlock()
	if recent {
		return nil
	}
	entries, err := b.f.List(ctx, "")
	if errors.Is(err, rclone.ErrorDirNotFound) || err == nil && len(entries) == 0 && b.needsMark() {
		if err != nil {
			if why := b.denied(ctx); why != nil {
				return why
			}
		}
		return fmt.Errorf("%w: %q is not there any more", blob.ErrTemporary, b.f.Root())
	}
	if err != nil {
		return err
	}
	b.seen()
	return nil
}

//go:build (windows && !cgo) || (cgofuse && cgo && (linux || darwin))

package winfsp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/winfsp/cgofuse/fuse"

	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
)

// fsType is what programs are told that the file system is.
const fsType = "sheaf"

// How long is waited for the system to show what it said that it mounted, and how often it is looked at.
const (
	showWait  = 15 * time.Second
	showEvery = 5 * time.Millisecond
)

// Door is the mount.Door of cgofuse.
type Door struct{}

// Mount is the function Mount.
func (Door) Mount(ctx context.Context, fsys vfs.FS, dir string, o mount.Options) (mount.Mounted, error) {
	m, err := Mount(ctx, fsys, dir, o)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// A Mounted is a tree that is shown as a folder or a drive. It is safe for concurrent use.
type Mounted struct {
	dir   string // absolute; of a drive its root
	point string // as cgofuse is told it
	log   *slog.Logger
	a     *adapter
	host  *fuse.FileSystemHost

	unmounting sync.Mutex // one Unmount or Abort at a time
	ended      chan struct{}
	failed     error // once ended: why it never was mounted
}

// Mount shows fsys in the folder dir, or on Windows as the drive that dir says (X: or X:\), and returns once it answers. It follows the contract of
// mount.Door. mount.ErrNoFuse says that WinFsp, macFUSE or libfuse is not there, and what to do.
func Mount(ctx context.Context, fsys vfs.FS, dir string, o mount.Options) (*Mounted, error) {
	return mountAs(ctx, fsys, dir, o, onWindows)
}

// mountAs mounts with the names and owners of Windows, or without.
func mountAs(ctx context.Context, fsys vfs.FS, dir string, o mount.Options, windows bool) (*Mounted, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	fail := func(err error) (*Mounted, error) { return nil, fmt.Errorf("mount at %s: %w", dir, err) }
	if err := loaded(); err != nil {
		return fail(fmt.Errorf("%w: %w", mount.ErrNoFuse, err))
	}
	m := &Mounted{log: o.Log, ended: make(chan struct{})}
	restore, err := m.prepare(dir, o)
	if err != nil {
		return fail(err)
	}
	if m.a, err = newAdapter(ctx, fsys, windows, o.Log); err != nil {
		return fail(errors.Join(err, restore()))
	}
	m.a.readOnly = o.ReadOnly
	if err := m.start(ctx, m.options(o)); err != nil {
		return fail(errors.Join(err, restore()))
	}
	return m, nil
}

// Installed returns nil if the system has what this package needs, or an error that says how to install it.
func Installed() error { return loaded() }

// loaded reports why the library of the system cannot be used. cgofuse panics where it is missing, and only when it is first used.
func loaded() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = errors.New(howToInstall)
		}
	}()
	_, err = fuse.OptParse(nil, "")
	return err
}

// start mounts, and starts the goroutines, which Wait waits for.
func (m *Mounted) start(ctx context.Context, options []string) error {
	m.host = fuse.NewFileSystemHost(m.a)
	m.host.SetCapReaddirPlus(true)
	m.host.SetCapCaseInsensitive(m.a.windows)
	m.host.SetCapOpenTrunc(true)
	follow, stop := context.WithCancel(context.Background())
	var followers sync.WaitGroup
	if m.a.windows {
		followers.Go(func() { m.a.follow(follow) })
	}
	go func() {
		defer close(m.ended)
		if !m.serve(options) {
			m.failed = errors.New(whyNot)
		}
		stop()
		followers.Wait()
		m.a.hidden.settleAll()
		for _, o := range m.a.opens.takeAll() {
			if o.h != nil {
				m.a.code("close", o.h.Close(context.Background()))
			}
		}
	}()
	wait := time.NewTimer(showWait)
	defer wait.Stop()
	for shown := false; !shown; {
		select {
		case <-m.ended:
			return m.over()
		case <-ctx.Done():
			return errors.Join(ctx.Err(), m.end(context.Background(), true))
		case <-wait.C:
			return errors.Join(errors.New("the system does not show it"), m.end(context.Background(), true))
		case <-m.a.ready:
		}
		// The system says that it begins a little before the place leads there.
		if shown = m.shown(); !shown {
			time.Sleep(showEvery)
		}
	}
	return nil
}

// serve mounts, serves until the end, and reports whether it was mounted at all.
func (m *Mounted) serve(options []string) (ok bool) {
	defer func() {
		if v := recover(); v != nil {
			m.log.Error("panic in cgofuse", "panic", v)
			ok = false
		}
	}()
	return m.host.Mount(m.point, options)
}

// over returns why a mount that has ended never began, or that it ended at once.
func (m *Mounted) over() error {
	if m.failed != nil {
		return m.failed
	}
	return errors.New("the mount ended at once")
}

// Dir is the absolute path of the folder, or the root of the drive.
func (m *Mounted) Dir() string { return m.dir }

// Unmount ends the mount, as mount.Mounted says.
func (m *Mounted) Unmount(ctx context.Context) error { return m.end(ctx, false) }

// Abort ends the mount even if it is in use, as mount.Mounted says.
func (m *Mounted) Abort(ctx context.Context) error { return m.end(ctx, true) }

func (m *Mounted) end(ctx context.Context, force bool) error {
	m.unmounting.Lock()
	defer m.unmounting.Unlock()
	select {
	case <-m.ended:
		return nil
	default:
	}
	if err := m.unmount(force); err != nil {
		select {
		case <-m.ended:
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", m.dir, err)
		}
	}
	select {
	case <-m.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of the mount at %s: %w", m.dir, ctx.Err())
	}
}

// Wait returns when the mount has ended and all its goroutines are gone.
func (m *Mounted) Wait() error {
	<-m.ended
	return nil
}

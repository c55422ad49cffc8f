//go:build linux || darwin

package fuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
)

const (
	// maxRequest is the most that one READ or WRITE carries, and how far the kernel
	// reads ahead, in bytes.
	maxRequest = 1 << 20
	// maxBackground is how many requests of read-ahead and write-back may be under way.
	maxBackground = 64
)

// Door is the mount.Door of FUSE.
type Door struct{}

// Mount is the function Mount.
func (Door) Mount(ctx context.Context, fsys vfs.FS, dir string, o mount.Options) (mount.Mounted, error) {
	m, err := Mount(ctx, fsys, dir, o)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// A Mounted is a tree that is shown as a folder. It is safe for concurrent use.
type Mounted struct {
	dir    string // absolute, without symbolic links
	info   mountInfo
	direct bool // mounted by mount(2), not by the helper
	log    *slog.Logger
	server *server
	kernel *gofuse.Server

	unmounting sync.Mutex // one Unmount or Abort at a time
	ended      chan struct{}
}

// Mount shows fsys in the folder dir and returns once it answers: as root by
// mount(2), as a plain user by the helper fusermount3. It follows the contract of
// mount.Door. A dead mount of ours (of a process that was killed) is cleared away first.
func Mount(ctx context.Context, fsys vfs.FS, dir string, o mount.Options) (*Mounted, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m := &Mounted{log: o.Log, direct: os.Geteuid() == 0, ended: make(chan struct{})}
	if err := checkSystem(m.direct); err != nil {
		return nil, fmt.Errorf("mount at %s: %w: %w", dir, mount.ErrNoFuse, err)
	}
	var err error
	if m.dir, err = m.prepare(dir, o.NonEmpty); err != nil {
		return nil, fmt.Errorf("mount at %s: %w", dir, err)
	}
	m.server, err = newServer(ctx, fsys, o.Log)
	if err != nil {
		return nil, fmt.Errorf("mount at %s: %w", dir, err)
	}
	if err := m.start(o); err != nil {
		return nil, fmt.Errorf("mount at %s: %w", dir, err)
	}
	return m, nil
}

// prepare returns the path of dir that the kernel uses, and checks that it can be
// mounted at.
func (m *Mounted) prepare(dir string, nonEmpty bool) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	// Not the last element: it may be a dead mount, which answers nothing.
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	path := filepath.Join(parent, filepath.Base(abs))
	info, err := os.Lstat(path)
	if errors.Is(err, syscall.ENOTCONN) {
		if err := m.clear(path); err != nil {
			return "", err
		}
		info, err = os.Lstat(path)
	}
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			info, err = os.Lstat(path)
		}
	}
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", vfs.ErrNotDir
	}
	if at, ok, err := mountAt(path); err != nil {
		return "", err
	} else if ok && path != "/" {
		return "", fmt.Errorf("%w: %s (%s); unmount it first, or choose another folder", mount.ErrMounted, at.source, at.kind)
	}
	if nonEmpty {
		return path, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", err
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("%w (%s is in it); choose another folder", mount.ErrNotEmpty, entries[0].Name())
	}
	return path, nil
}

// clear takes away a mount whose process is gone, if it was one of ours.
func (m *Mounted) clear(path string) error {
	at, ok, err := mountAt(path)
	if err != nil {
		return err
	}
	if !ok || !strings.HasSuffix(at.kind, "."+fsType) {
		return fmt.Errorf("%w, and its process is gone: %s (%s); unmount it first", mount.ErrMounted, at.source, at.kind)
	}
	if err := m.unmount(path, true); err != nil {
		return fmt.Errorf("clear away a dead mount: %w", err)
	}
	m.log.Warn("cleared away a dead mount", "dir", path, "source", at.source)
	return nil
}

// options translates o for the library.
func (m *Mounted) options(o mount.Options) (*gofuse.MountOptions, error) {
	all := o.Access == mount.AccessAll || o.Access == mount.AccessDefault && m.direct
	if all && !m.direct && !mayAllowOther() {
		return nil, fmt.Errorf("%w for other users: root must write user_allow_other into /etc/fuse.conf", mount.ErrNoFuse)
	}
	g := &gofuse.MountOptions{
		FsName:                   o.Name,
		Name:                     fsType,
		AllowOther:               all,
		Options:                  []string{"default_permissions"},
		MaxBackground:            maxBackground,
		MaxWrite:                 maxRequest,
		MaxReadAhead:             maxRequest,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true,
		EnableAcl:                keepsACL,
		DisableSplice:            true, // what is read lies in memory: there is no file to splice from
		DirectMountStrict:        m.direct,
		DirectMountFlags:         directFlags(o.ReadOnly),
		ExtraCapabilities:        extraCapabilities,
		Debug:                    o.Debug,
		Logger:                   slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		PanicHandler:             m.server.onPanic,
	}
	if g.FsName == "" {
		g.FsName = fsType
	}
	if o.ReadOnly && !m.direct {
		g.Options = append(g.Options, "ro")
	}
	if t, ok := m.server.fsys.(vfs.Still); ok && t.Still() && o.ReadOnly {
		m.server.still = newStill()
	} else if !o.WriteThrough && writebackCapability != 0 {
		m.server.writeback = true // if Init finds that the kernel can
		g.ExtraCapabilities |= writebackCapability
	}
	return g, nil
}

// start mounts, and starts the goroutines, which Wait waits for.
func (m *Mounted) start(o mount.Options) error {
	g, err := m.options(o)
	if err != nil {
		return err
	}
	m.server.acl = keepsACL
	m.kernel, err = gofuse.NewServer(patient{m.server}, m.dir, g)
	if err != nil {
		return fmt.Errorf("%w: %w", mount.ErrNoFuse, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var followers sync.WaitGroup
	followers.Go(func() { m.server.follow(ctx) })
	followers.Go(func() { m.server.dropQueued(ctx) })
	go func() {
		defer close(m.ended)
		m.kernel.Serve()
		cancel()
		followers.Wait()
		for _, f := range m.server.files.takeAll() {
			m.server.close(f)
		}
		if m.server.still != nil {
			m.server.still.close()
		}
	}()
	if err := m.kernel.WaitMount(); err != nil {
		return errors.Join(err, m.Abort(context.Background()))
	}
	if at, ok, err := mountAt(m.dir); err == nil && ok {
		m.info = at
	}
	if err := tune(m.info.dev); err != nil {
		m.log.Debug("read-ahead stays at the kernel's own length", "error", err)
	}
	return nil
}

// Dir is the absolute path of the folder.
func (m *Mounted) Dir() string { return m.dir }

// Unmount ends the mount, as mount.Mounted says.
func (m *Mounted) Unmount(ctx context.Context) error {
	m.unmounting.Lock()
	defer m.unmounting.Unlock()
	if m.over() {
		return nil
	}
	if err := m.unmount(m.dir, false); err != nil && !m.over() {
		return fmt.Errorf("unmount %s: %w", m.dir, err)
	}
	return m.wait(ctx)
}

// Abort ends the mount even if it is in use, as mount.Mounted says.
func (m *Mounted) Abort(ctx context.Context) error {
	m.unmounting.Lock()
	defer m.unmounting.Unlock()
	if m.over() {
		return nil
	}
	if err := m.unmount(m.dir, true); err != nil && !m.over() {
		return fmt.Errorf("unmount %s: %w", m.dir, err)
	}
	if !m.direct { // else the kernel has ended the connection with the mount
		if err := abortConnection(m.info.dev); err != nil && !m.over() {
			m.log.Warn("what is open in the mount keeps it alive: this system has no /sys/fs/fuse/connections", "dir", m.dir, "error", err)
		}
	}
	return m.wait(ctx)
}

// Wait returns when the mount has ended and all its goroutines are gone.
func (m *Mounted) Wait() error {
	<-m.ended
	return nil
}

func (m *Mounted) wait(ctx context.Context) error {
	select {
	case <-m.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of the mount at %s: %w", m.dir, ctx.Err())
	}
}

// over reports whether the mount has ended.
func (m *Mounted) over() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

// unmount takes the folder away: with force also if it is in use.
func (m *Mounted) unmount(path string, force bool) error {
	if m.direct {
		err := directUnmount(path, force)
		if errors.Is(err, syscall.EBUSY) {
			return mount.ErrBusy
		}
		return err
	}
	bin, err := helper()
	if err != nil {
		return err
	}
	args := []string{"-u"}
	if force {
		args = append(args, "-z")
	}
	var said bytes.Buffer
	cmd := exec.Command(bin, append(args, "--", path)...) //nolint:noctx // it is not to be cut short half way
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		err = fmt.Errorf("%s: %w: %s", filepath.Base(bin), err, strings.TrimSpace(said.String()))
		if _, there, _ := mountAt(path); there && !force {
			return fmt.Errorf("%w: %w", mount.ErrBusy, err) // all else it checks was so when it mounted
		}
		return err
	}
	return nil
}

// helper finds the program that mounts for plain users.
func helper() (string, error) {
	for _, name := range []string{"fusermount3", "fusermount"} {
		if p, err := exec.LookPath(name); err == nil {
			return p, nil
		}
		if p, err := exec.LookPath(filepath.Join("/bin", name)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("find fusermount3: %w", fs.ErrNotExist)
}

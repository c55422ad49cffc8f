// Package mount is the joint between a tree (vfs.FS) and the ways to show it as a
// folder of the operating system. It mounts nothing itself: mount/fuse does, on
// Linux and macOS.
package mount

import (
	"context"
	"errors"
	"log/slog"

	"github.com/sheaf-drive/sheaf/vfs"
)

// The errors of mounting. Errors of a Door wrap one of them, one of io/fs's, or
// [errors.ErrUnsupported], and say what can be done about it.
var (
	// ErrMounted says that something is mounted at the folder already.
	ErrMounted = errors.New("something is mounted here already")
	// ErrNotEmpty says that the folder has entries, which a mount would hide.
	ErrNotEmpty = errors.New("folder is not empty")
	// ErrNoFuse says that this system cannot mount: a device, a helper program or a
	// right is missing.
	ErrNoFuse = errors.New("this system is not set up for mounting")
	// ErrBusy says that a mount is in use: a file in it is open, or a
	// process has its working directory there.
	ErrBusy = errors.New("mount is in use")
)

// Access says who may look into a mount, before any mode of a file is asked.
type Access uint8

// The values of Access.
const (
	AccessDefault Access = iota // AccessAll if root mounts, else AccessOwner
	AccessOwner                 // only the user who mounts
	AccessAll                   // every user, within the modes of the files; for a plain user the system must allow it
)

// Options say how a tree is mounted. The zero Options are good for a drive.
type Options struct {
	// Name is shown as the source of the mount, as in df; "" means "sheaf".
	Name string
	// ReadOnly mounts so that the system refuses every change. A tree that is read-only
	// by itself needs it not.
	ReadOnly bool
	// Access says who may look in.
	Access Access
	// NonEmpty allows a folder that has entries; they are hidden while it is mounted.
	NonEmpty bool
	// WriteThrough hands every write to the tree before write(2) returns, in place
	// of letting the kernel gather writes. It is slower, and processes that hold a
	// file open see at once what changes its length behind the mount.
	WriteThrough bool
	// Log takes what the mount has to say; nil discards it.
	Log *slog.Logger
	// Debug logs every request, at slog.LevelDebug.
	Debug bool
}

// A Door shows trees as folders.
type Door interface {
	// Mount shows fsys in the folder dir and returns once it answers. ctx bounds
	// the mounting only, not the life of the mount. fsys stays the caller's, and must
	// not be closed before the mount has ended.
	Mount(ctx context.Context, fsys vfs.FS, dir string, o Options) (Mounted, error)
}

// Mounted is a tree that is shown as a folder. It is safe for concurrent use.
type Mounted interface {
	// Dir is the absolute path of the folder.
	Dir() string
	// Unmount ends the mount, and returns when all that was written into it has
	// reached the tree and all its goroutines are gone. If it is in use it returns
	// [ErrBusy], and the mount goes on. A mount that has ended is no error.
	Unmount(ctx context.Context) error
	// Abort ends the mount even if it is in use. Files that are open in it fail
	// from then on, and what the kernel has not yet handed over is lost.
	Abort(ctx context.Context) error
	// Wait returns when the mount has ended, whoever ended it, and all its
	// goroutines are gone.
	Wait() error
}

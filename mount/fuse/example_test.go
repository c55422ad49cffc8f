package fuse_test

import (
	"context"
	"log/slog"
	"os"
	"os/signal"

	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/mount/fuse"
	"github.com/sheaf-drive/sheaf/vfs/memfs"
)

// A tree in memory is shown at /mnt/sheaf until somebody presses Ctrl-C.
func ExampleDoor_Mount() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var door mount.Door = fuse.Door{}
	m, err := door.Mount(ctx, memfs.New(memfs.Options{}), "/mnt/sheaf", mount.Options{
		Name: "scratch",
		Log:  log,
	})
	if err != nil {
		log.Error("mount", "error", err)
		return
	}
	<-ctx.Done()
	if err := m.Unmount(context.Background()); err != nil { // mount.ErrBusy, perhaps
		log.Error("unmount", "error", err)
	}
}

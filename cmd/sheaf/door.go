package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/vfs"
)

// mountDoor returns the way in which drives are mounted on this system.
func mountDoor(log *slog.Logger) service.Door {
	return func(ctx context.Context, fsys vfs.FS, dir string, readOnly bool) (service.Mounted, error) {
		if _, err := clearDead(ctx, dir); err != nil {
			return nil, err
		}
		m, err := systemDoor.Mount(ctx, fsys, dir, mount.Options{Name: "sheaf", ReadOnly: readOnly, Log: log})
		if err != nil {
			return nil, mountError(err)
		}
		return translated{m}, nil
	}
}

// translated is a mount whose errors have their kind in the contract.
type translated struct{ m mount.Mounted }

func (t translated) Unmount(ctx context.Context) error { return mountError(t.m.Unmount(ctx)) }
func (t translated) Abort(ctx context.Context) error   { return mountError(t.m.Abort(ctx)) }
func (t translated) Wait() error                       { return t.m.Wait() }

// mountErrors is the table from the errors of mounting to the contract.
var mountErrors = []struct {
	err  error
	code sheafv1.Code
	hint string
}{
	{mount.ErrBusy, sheafv1.Code_CODE_TEMPORARY, "close what uses it (lsof names it), or sheaf umount --wait, or --force"},
	{mount.ErrMounted, sheafv1.Code_CODE_EXISTS, "choose another folder"},
	{mount.ErrNotEmpty, sheafv1.Code_CODE_EXISTS, "choose an empty folder"},
	{mount.ErrNoFuse, sheafv1.Code_CODE_UNSUPPORTED, "sheaf doctor"},
}

// mountError returns an error of mounting with its kind in the contract.
func mountError(err error) error {
	for _, e := range mountErrors {
		if errors.Is(err, e.err) {
			return &service.Error{Code: e.code, Hint: e.hint, Err: err}
		}
	}
	return err
}

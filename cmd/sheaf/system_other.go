//go:build !linux

package main

import (
	"context"
	"runtime"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// dead finds nothing here: a mount whose process is gone is taken away by this system itself.
func dead(string) bool { return false }

// dying and release are for what happens on Linux only.
func dying(int) bool { return false }

func release(string) error { return nil }

func clearDead(context.Context, string) (bool, error) { return false, nil }

// systemChecks says what can be mounted on this system.
func systemChecks() []*sheafv1.Check {
	if runtime.GOOS == "darwin" {
		return []*sheafv1.Check{ok("fuse", "needs macFUSE; see https://macfuse.github.io")}
	}
	return []*sheafv1.Check{warn("fuse", "nothing can be mounted on "+runtime.GOOS, "use sheaf ls, cat and cp")}
}

//go:build !linux && !windows

package main

import (
	"runtime"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// systemChecks says what can be mounted on this system.
func systemChecks() []*sheafv1.Check {
	if runtime.GOOS == "darwin" {
		return []*sheafv1.Check{ok("fuse", "needs macFUSE; see https://macfuse.github.io")}
	}
	return []*sheafv1.Check{warn("fuse", "nothing can be mounted on "+runtime.GOOS, "use sheaf ls, cat and cp")}
}

//go:build noproviders

package main

import (
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/localdir"
)

// remoteKinds are those that need no library of others: a small program, and one that is vetted quickly.
var remoteKinds = remote.Kinds{localdir.Kind}

//go:build noproviders

package main

import (
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/localdir"
	"github.com/sheaf-drive/sheaf/sync/remote/timetable"
)

// remoteKinds are those that need no library of others: a small program, and one that is vetted quickly.
var remoteKinds = remote.Kinds{localdir.Kind}

// limitRemotes limits nothing: there is no remote that is not a folder.
func limitRemotes(timetable.Limit) {}

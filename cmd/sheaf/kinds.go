//go:build !noproviders

package main

import (
	"github.com/sheaf-drive/sheaf/sync/remote/kinds"
	"github.com/sheaf-drive/sheaf/sync/remote/provider"
	"github.com/sheaf-drive/sheaf/sync/remote/timetable"
)

// remoteKinds are the kinds of remotes that this program knows.
var remoteKinds = kinds.All()

// limitRemotes limits what goes to all remotes of this process and comes from them.
func limitRemotes(l timetable.Limit) { provider.SetLimit(l) }

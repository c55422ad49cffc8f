//go:build !noproviders

package main

import "github.com/sheaf-drive/sheaf/sync/remote/kinds"

// remoteKinds are the kinds of remotes that this program knows.
var remoteKinds = kinds.All()

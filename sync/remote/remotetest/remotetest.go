// Package remotetest starts real servers on this machine, for tests of remotes and of what is built on them. It
// is no emulator: what a server does is what people's servers do.
package remotetest

import (
	"maps"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// A Place is one empty place on a server that runs for a test.
type Place struct {
	Kind             string
	Options, Secrets map[string]string
	Path             string // below the remote's root; its parent is there, it itself is not
	// Dir is the folder of this machine in which the server keeps what it is given, in whatever form.
	Dir string
}

// Values returns options and secrets, as they stand in the name of a place.
func (p Place) Values() map[string]string {
	all := maps.Clone(p.Options)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, p.Secrets)
	return all
}

// Remote returns what a person would write to reach the place, ":kind,option=value:path".
func (p Place) Remote() remote.Place {
	return remote.Place{Kind: p.Kind, Options: p.Values(), Path: p.Path}
}

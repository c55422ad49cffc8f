// Package kinds is the one list of the kinds of remotes that there are. It knows none of them but by
// where they are.
package kinds

import (
	"slices"
	"strings"

	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/localdir"
	"github.com/sheaf-drive/sheaf/sync/remote/provider"
)

// All returns the kinds in the order of their names. The caller may change the list.
func All() remote.Kinds {
	all := append(provider.Kinds(), localdir.Kind)
	slices.SortFunc(all, func(a, b remote.Kind) int { return strings.Compare(a.Name, b.Name) })
	return all
}

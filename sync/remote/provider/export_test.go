package provider

import (
	"time"

	"github.com/sheaf-drive/sheaf/sync/remote"
)

// SetSettle sets how long the feed of a Tree looks again at what it was told.
func SetSettle(t remote.Tree, d time.Duration) { t.(*tree).feed.settle = d }

package provider

import (
	"sync"

	rclone "github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/accounting"

	"github.com/sheaf-drive/sheaf/sync/remote/timetable"
)

// limited is what SetLimit said last.
var limited struct {
	sync.Mutex
	timetable.Limit
}

// SetLimit limits the bytes that all remotes of this process send and receive, on the wire. rclone holds to it where its backends read and
// write connections; it lets 4 MiB pass at once after a pause. Who waits already waits as long as it was to.
func SetLimit(l timetable.Limit) {
	limited.Lock()
	defer limited.Unlock()
	if limited.Limit == l {
		return
	}
	limited.Limit = l
	accounting.TokenBucket.SetBwLimit(rclone.BwPair{Tx: rclone.SizeSuffix(l.Up), Rx: rclone.SizeSuffix(l.Down)})
}

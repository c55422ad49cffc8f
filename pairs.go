package sheaf

import (
	"context"

	"github.com/sheaf-drive/sheaf/sync/pair"
)

// rulePrefix begins the keys of the database under which rules remember what their places agreed on. The ID of the rule and a slash follow.
const rulePrefix = "rule/"

// Pair opens what keeps two places alike by the rule id, which has no slash; KV and Prefix of o are the drive's to set. It is remembered sealed, on this
// device only. A rule is open once at a time, and the drive outlives it.
func (d *Drive) Pair(ctx context.Context, id string, o pair.Options) (*pair.Pair, error) {
	o.KV, o.Prefix = d.db, rulePrefix+id+"/"
	return pair.Open(ctx, o)
}

// ForgetPair forgets all that the places of a rule agreed on. It is not open.
func (d *Drive) ForgetPair(ctx context.Context, id string) error {
	return pair.Forget(ctx, d.db, rulePrefix+id+"/")
}

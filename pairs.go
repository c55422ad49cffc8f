package sheaf

import (
	"context"
	"fmt"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
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
	const batch = 4096
	for {
		var keys [][]byte
		for kvp, err := range d.db.Scan(ctx, []byte(rulePrefix+id+"/"), []byte(rulePrefix+id+"0")) {
			if err != nil {
				return fmt.Errorf("forget rule %s: %w", id, err)
			}
			if keys = append(keys, append([]byte(nil), kvp.Key...)); len(keys) == batch {
				break
			}
		}
		if len(keys) == 0 {
			return d.db.Sync(ctx)
		}
		if err := d.db.Update(ctx, func(tx kv.Tx) error {
			for _, k := range keys {
				if err := tx.Delete(k); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return fmt.Errorf("forget rule %s: %w", id, err)
		}
	}
}

package transfer

import (
	"context"
	"path"
	"time"

	"github.com/sheaf-drive/sheaf/vfs"
)

// countAfter is how long a copy goes on before its totals are looked for: what is over by then
// is not worth a second listing.
const countAfter = time.Second

// count finds the totals, besides the copy.
func (c *copier) count(ctx context.Context, top Item) error {
	select {
	case <-c.ended:
		c.p.totals(c.walked)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(countAfter):
	}
	var dir func(p string) error
	dir = func(p string) error {
		for ch, err := range c.from.List(ctx, p) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				continue // the walk notes it
			}
			c.p.total(ch.Item)
			if ch.Item.Kind == vfs.KindDir {
				if err := dir(path.Join(p, ch.Name)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	c.p.total(top)
	if top.Kind == vfs.KindDir {
		if err := dir(""); err != nil {
			return err
		}
	}
	c.p.counted()
	return nil
}

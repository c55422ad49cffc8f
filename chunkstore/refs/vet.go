package refs

import (
	"fmt"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/keys"
)

// Vet checks of a blob under heads/ all that does not depend on other heads: that it opens with a key of the drive,
// lies under its own name, and is signed by the member in whose folder it lies. So what fails is
// no head, whoever shows it, or one of a device or an epoch of which m does not tell yet. The error wraps ErrTampered, or ErrFormat for a head of a
// newer format.
func Vet(m *keys.Members, name blob.Name, b []byte) error {
	dir, _, ok := splitName(name)
	if !ok || len(b) > maxHead {
		return fmt.Errorf("head %s: %w: no head has that name or size", name, ErrTampered)
	}
	id, member, ok := memberOf(m, dir)
	if !ok {
		return fmt.Errorf("head %s: %w: it is nobody's", name, ErrTampered)
	}
	_, err := open(m.Ring(), id, member.Public.Sign, name, b)
	return err
}

package find

import (
	"encoding/binary"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kdf"
	"github.com/sheaf-drive/sheaf/sync/find/meeting"
	"github.com/sheaf-drive/sheaf/sync/remote/peer"
)

// A Secret is what the devices of a drive share to find each other.
type Secret = [32]byte

// A Slot is the pseudonym of a device for an hour, as others see it.
type Slot = meeting.Slot

// maxSecrets is of how many epochs what is said is understood.
const maxSecrets = 3

// hour is the time in which a pseudonym is used: hours since 1970 in UTC.
func hour(t time.Time) int64 { return t.Unix() / 3600 }

// name is a keyed hash for one use.
func name(s *Secret, use string, key peer.Key, hour int64) [16]byte {
	sum := kdf.Keyed(s, []byte("find "+use+"\x00"), key[:], binary.BigEndian.AppendUint64(nil, uint64(hour)))
	return [16]byte(sum[:16])
}

// lanSlot is the pseudonym on a network. It has nothing in common with that at servers, so that who hears one cannot look for the other.
func lanSlot(s *Secret, key peer.Key, hour int64) Slot { return name(s, "lan", key, hour) }

// claim is what a device shows a server.
func claim(s *Secret, key peer.Key, hour int64) meeting.Claim { return name(s, "meet", key, hour) }

// sealing is the key of cards.
func sealing(s *Secret) [32]byte { return kdf.Keyed(s, []byte("find seal\x00")) }

package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/chunkstore/pack"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// errRecord says that a record in the DB is not one of the index. The DB is of
// this device only and can be rebuilt, so whoever meets it wipes the DB.
var errRecord = fmt.Errorf("index record: %w", kv.ErrDamaged)

const (
	prefixLocation  = "xl"
	prefixCID       = "xc"
	prefixPack      = "xp"
	prefixCondemned = "xd"
	prefixGrave     = "xr"
	prefixMark      = "xk"
	prefixDoom      = "xg"

	metaNext    = "xmnext"    // the next pack number, where it is higher than the table tells
	metaCycle   = "xmcycle"   // the number of the last garbage collection
	metaCovered = "xmcovered" // packs with lower numbers are covered by index blobs
	metaWhole   = "xmwhole"   // see Whole

	cidPrefix    = 16 // bytes of a CID in a key
	locationSize = 4*4 + 1 + 32 + 32
	packSize     = 32 + 8 + 8 + 4 + 4 + 8 + 1
)

// after returns the first key that does not begin with prefix.
func after(prefix string) []byte {
	b := []byte(prefix)
	b[len(b)-1]++
	return b
}

func locationKey(id chunk.ID) []byte  { return append([]byte(prefixLocation), id[:]...) }
func cidKey(cid seal.CID) []byte      { return append([]byte(prefixCID), cid[:cidPrefix]...) }
func condemnedKey(id chunk.ID) []byte { return append([]byte(prefixCondemned), id[:]...) }
func packKey(num uint32) []byte       { return binary.BigEndian.AppendUint32([]byte(prefixPack), num) }

func graveKey(name pack.Name) []byte { return append([]byte(prefixGrave), name[:]...) }
func markKey(m Mark) []byte          { return append([]byte(prefixMark), m[:]...) }
func doomKey(name pack.Name) []byte  { return append([]byte(prefixDoom), name[:]...) }

func encodeGrave(m Mark, at time.Time) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), m[:]...), uint64(at.Unix()))
}

func decodeGrave(key, b []byte) (name pack.Name, m Mark, at time.Time, err error) {
	if len(key) != len(prefixGrave)+len(name) || len(b) != len(m)+8 {
		return name, m, at, errRecord
	}
	copy(name[:], key[len(prefixGrave):])
	copy(m[:], b)
	return name, m, time.Unix(int64(binary.BigEndian.Uint64(b[len(m):])), 0), nil
}

func idOfKey(key []byte) (chunk.ID, bool) {
	if len(key) != 2+len(chunk.ID{}) {
		return chunk.ID{}, false
	}
	return chunk.ID(key[2:]), true
}

func encodeLocation(num uint32, l Location) []byte {
	b := make([]byte, 0, locationSize)
	b = binary.BigEndian.AppendUint32(b, num)
	b = binary.BigEndian.AppendUint32(b, l.Off)
	b = binary.BigEndian.AppendUint32(b, l.Len)
	b = binary.BigEndian.AppendUint32(b, l.Plain)
	b = append(b, byte(l.Kind))
	b = append(b, l.SIV[:]...)
	return append(b, l.CID[:]...)
}

// decodeLocation leaves the name of the pack to the caller.
func decodeLocation(b []byte) (num uint32, l Location, err error) {
	if len(b) != locationSize {
		return 0, Location{}, errRecord
	}
	num = binary.BigEndian.Uint32(b)
	l.Off = binary.BigEndian.Uint32(b[4:])
	l.Len = binary.BigEndian.Uint32(b[8:])
	l.Plain = binary.BigEndian.Uint32(b[12:])
	l.Kind = chunk.Kind(b[16])
	copy(l.SIV[:], b[17:])
	copy(l.CID[:], b[49:])
	if !l.Kind.Valid() || l.Plain > chunk.MaxSize {
		return 0, Location{}, errRecord
	}
	return num, l, nil
}

// The flags of a pack. They are not those of a root in the bucket.
const (
	flagDoubles = 1 << iota
	flagProven
	flagGhost
	flagDoomed
	flagOwn
)

func encodePack(p Pack) []byte {
	b := make([]byte, 0, packSize)
	b = append(b, p.Name[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Size))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Body))
	b = binary.BigEndian.AppendUint32(b, p.Count)
	b = binary.BigEndian.AppendUint32(b, p.Live)
	b = binary.BigEndian.AppendUint64(b, uint64(p.LiveBytes))
	var flags byte
	if p.Doubles {
		flags |= flagDoubles
	}
	if p.Ghost {
		flags |= flagGhost
	}
	if p.Proven {
		flags |= flagProven
	}
	if p.Doomed {
		flags |= flagDoomed
	}
	if p.Own {
		flags |= flagOwn
	}
	return append(append(b, flags), p.Mark[:]...)
}

func decodePack(key, b []byte) (num uint32, p Pack, err error) {
	if len(key) != len(prefixPack)+4 || len(b) < packSize {
		return 0, Pack{}, errRecord
	}
	p.Proven = b[packSize-1]&flagProven != 0
	// Records of before hearsay had a mark end earlier.
	if len(b) != packSize+len(p.Mark) && (p.Proven || len(b) != packSize) {
		return 0, Pack{}, errRecord
	}
	copy(p.Mark[:], b[packSize:])
	num = binary.BigEndian.Uint32(key[len(prefixPack):])
	copy(p.Name[:], b)
	p.Size = int64(binary.BigEndian.Uint64(b[32:]))
	p.Body = int64(binary.BigEndian.Uint64(b[40:]))
	p.Count = binary.BigEndian.Uint32(b[48:])
	p.Live = binary.BigEndian.Uint32(b[52:])
	p.LiveBytes = int64(binary.BigEndian.Uint64(b[56:]))
	p.Doubles = b[packSize-1]&flagDoubles != 0
	p.Ghost = b[packSize-1]&flagGhost != 0
	p.Doomed = b[packSize-1]&flagDoomed != 0
	p.Own = b[packSize-1]&flagOwn != 0
	if p.Size < 0 || p.Body < 0 || p.LiveBytes < 0 {
		return 0, Pack{}, errors.Join(errRecord, errors.New("negative size"))
	}
	return num, p, nil
}

func encodeCondemned(cycle uint64, at time.Time) []byte {
	b := binary.BigEndian.AppendUint64(nil, cycle)
	return binary.BigEndian.AppendUint64(b, uint64(at.Unix()))
}

func decodeCondemned(key, b []byte) (Condemned, error) {
	id, ok := idOfKey(key)
	if !ok || len(b) != 16 {
		return Condemned{}, errRecord
	}
	return Condemned{
		ID:    id,
		Cycle: binary.BigEndian.Uint64(b),
		At:    time.Unix(int64(binary.BigEndian.Uint64(b[8:])), 0),
	}, nil
}

// entryLocation returns what the directory of the pack name says of a chunk.
func entryLocation(name pack.Name, e pack.Entry) Location {
	return Location{Pack: name, Off: e.Off, Len: e.Len, Plain: e.Plain, Kind: e.Kind, SIV: e.SIV, CID: e.CID}
}

// Entry returns the entry that a pack's directory has, or would have, for the chunk.
func (l Location) Entry(id chunk.ID) pack.Entry {
	return pack.Entry{ID: id, CID: l.CID, SIV: l.SIV, Kind: l.Kind, Plain: l.Plain, Off: l.Off, Len: l.Len}
}

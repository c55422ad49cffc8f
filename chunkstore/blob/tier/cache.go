package tier

import (
	"bytes"
	"container/list"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/durable"
)

// maxPieces is how many pieces a pack has at most: it is 32 MiB long at most, and what is longer is not cached.
const maxPieces = 32

// cache keeps pieces of packs, in a file for each pack or in memory. What it has is bounded: the pack that was not used for longest goes, as a
// whole. A pack that is pinned never does, and does not count.
//
// The file of a pack is a header of 4 KiB (header.go), and the pieces behind it, each at its place, so that the file has holes. Nothing is
// synced: a piece that a crash has torn does not have its sum. It is checked when a process reads it for the first time.
type cache struct {
	dir  string // "" for memory
	pins string // the file of pins; "" for memory
	max  int64
	log  *slog.Logger

	mu     sync.RWMutex // taken for writing by all that changes what follows, or a file
	packs  map[[32]byte]*entry
	recent *list.List // of *entry, the last used first; without those that are pinned
	used   int64      // bytes of those in recent
	pinned map[[32]byte]bool
	full   bool    // it was said that the disk is
	loose  []piece // that are in memory because they could not be written, the oldest first
}

// entry is what is cached of one pack.
type entry struct {
	hash   [32]byte
	size   int64
	have   uint32         // pieces that are there
	sound  uint32         // pieces that were checked, or written, by this process
	pieces map[int][]byte // those that are in memory
	at     *list.Element  // nil if pinned
}

// pieceLen returns the length of a piece of a pack of that size.
func pieceLen(size int64, no int) int64 { return min(size-int64(no)<<20, Grid) }

// bytes is what the entry takes.
func (e *entry) bytes() int64 {
	n := int64(headerSize)
	for no := range maxPieces {
		if e.have&(1<<no) != 0 {
			n += (pieceLen(e.size, no) + 4095) &^ 4095
		}
	}
	return n
}

func openCache(dir, pins string, limit int64, log *slog.Logger) (*cache, error) {
	c := &cache{dir: dir, pins: pins, max: limit, log: log, packs: map[[32]byte]*entry{}, recent: list.New(), pinned: map[[32]byte]bool{}}
	if pins == "" {
		return c, nil
	}
	p, err := os.ReadFile(pins)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what is pinned: %w", err)
	}
	if c.pinned, err = parsePins(p); err != nil {
		log.Warn("what was pinned must be pinned again", "err", err)
		c.pinned = map[[32]byte]bool{}
	}
	return c, nil
}

func (c *cache) path(hash [32]byte) string {
	s := hex.EncodeToString(hash[:])
	return filepath.Join(c.dir, s[:2], s)
}

// scan finds what earlier processes have left, the newest first, and removes what is too much or none of the cache's.
func (c *cache) scan(ctx context.Context) {
	type file struct {
		hash [32]byte
		at   time.Time
	}
	var files []file
	dirs, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("the cache could not be looked through", "err", err)
	}
	for _, d := range dirs {
		in, err := os.ReadDir(filepath.Join(c.dir, d.Name()))
		if err != nil {
			continue
		}
		for _, f := range in {
			var hash [32]byte
			info, err := f.Info()
			if n, herr := hex.Decode(hash[:], []byte(f.Name())); err != nil || herr != nil || n != 32 || ctx.Err() != nil {
				continue
			}
			files = append(files, file{hash, info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return b.at.Compare(a.at) })
	for _, f := range files {
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		if c.packs[f.hash] == nil {
			if e := c.load(f.hash); e == nil {
				c.drop(f.hash)
			} else {
				c.enter(e, false)
			}
		}
		c.mu.Unlock()
	}
}

// load reads the header of a pack's file; nil if there is none that is good. It changes nothing.
func (c *cache) load(hash [32]byte) *entry {
	if c.dir == "" {
		return nil
	}
	h, err := readHeader(c.path(hash))
	if err != nil || h.hash != hash {
		return nil
	}
	return &entry{hash: hash, size: h.size, have: h.have()}
}

func readHeader(path string) (header, error) {
	f, err := os.Open(path)
	if err != nil {
		return header{}, err
	}
	p := make([]byte, headerSize)
	_, err = f.ReadAt(p, 0)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return header{}, err
	}
	return parseHeader(p)
}

// enter makes an entry known, as the one last used or the one used least, and makes room.
func (c *cache) enter(e *entry, used bool) {
	c.packs[e.hash] = e
	if c.pinned[e.hash] {
		return
	}
	if used {
		e.at = c.recent.PushFront(e)
	} else {
		e.at = c.recent.PushBack(e)
	}
	c.used += e.bytes()
	c.trim()
}

// trim drops what is too much.
func (c *cache) trim() {
	for c.used > c.max && c.recent.Len() > 0 {
		c.drop(c.recent.Back().Value.(*entry).hash)
	}
}

// drop forgets a pack and removes its file.
func (c *cache) drop(hash [32]byte) {
	if e := c.packs[hash]; e != nil {
		if e.at != nil {
			c.used -= e.bytes()
			c.recent.Remove(e.at)
		}
		delete(c.packs, hash)
	}
	if c.dir == "" {
		return
	}
	if err := os.Remove(c.path(hash)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("a file of the cache could not be removed", "err", err)
	}
}

// find returns the entry of a pack of that size, from its file if need be; nil if nothing is cached. It needs the lock for writing.
func (c *cache) find(hash [32]byte, size int64) *entry {
	e := c.packs[hash]
	if e == nil {
		if e = c.load(hash); e != nil {
			c.enter(e, true)
			e = c.packs[hash] // unless there is no room for it
		}
	}
	if e != nil && e.size != size {
		c.drop(hash) // a remote had said something else of it
		return nil
	}
	return e
}

// has returns which pieces are cached of a pack of that size.
func (c *cache) has(hash [32]byte, size int64) uint32 {
	c.mu.RLock()
	e := c.packs[hash]
	if e != nil && e.size == size {
		defer c.mu.RUnlock()
		return e.have
	}
	c.mu.RUnlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e = c.find(hash, size); e == nil {
		return 0
	}
	return e.have
}

// read returns a copy of bytes of one piece, if it is cached and good.
func (c *cache) read(hash [32]byte, size int64, no int, off, n int64) ([]byte, bool) {
	c.mu.RLock()
	e := c.packs[hash]
	if e != nil && e.size == size && e.have&e.sound&(1<<no) != 0 {
		p, err := c.readPart(e, no, off, n)
		c.mu.RUnlock()
		if err != nil {
			c.bad(hash, no)
			return nil, false
		}
		c.use(e)
		return p, true
	}
	c.mu.RUnlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e = c.find(hash, size); e == nil || e.have&(1<<no) == 0 {
		return nil, false
	}
	p, err := c.readPart(e, no, 0, pieceLen(size, no))
	if err == nil && e.sound&(1<<no) == 0 {
		var h header
		if h, err = readHeader(c.path(hash)); err == nil && h.sums[no] != pieceSum(hash, no, p) {
			err = errHeader
		}
	}
	if err != nil {
		c.lose(e, no)
		return nil, false
	}
	e.sound |= 1 << no
	if e.at != nil {
		c.recent.MoveToFront(e.at)
	}
	return p[off : off+n], true
}

// use notes that an entry was used. It needs no lock.
func (c *cache) use(e *entry) {
	if !c.mu.TryLock() {
		return // somebody else is at it: the order need not be exact
	}
	defer c.mu.Unlock()
	if e.at != nil && c.packs[e.hash] == e {
		c.recent.MoveToFront(e.at)
	}
}

func (c *cache) readPart(e *entry, no int, off, n int64) ([]byte, error) {
	if p := e.pieces[no]; p != nil {
		return bytes.Clone(p[off : off+n]), nil
	}
	f, err := os.Open(c.path(e.hash))
	if err != nil {
		return nil, err
	}
	p := make([]byte, n)
	_, err = f.ReadAt(p, headerSize+int64(no)<<20+off)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return p, err
}

// bad drops a piece that cannot be read.
func (c *cache) bad(hash [32]byte, no int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.packs[hash]; e != nil {
		c.lose(e, no)
	}
}

// lose takes a piece for missing. Its sum stays in the file, and is written anew with the piece.
func (c *cache) lose(e *entry, no int) {
	c.log.Warn("a piece of the cache is damaged and is fetched anew", "pack", hex.EncodeToString(e.hash[:]), "piece", no)
	c.without(e, no)
}

// without takes a piece for missing.
func (c *cache) without(e *entry, no int) {
	before := e.bytes()
	e.have &^= 1 << no
	e.sound &^= 1 << no
	delete(e.pieces, no)
	if e.at != nil {
		c.used += e.bytes() - before
	}
}

// write keeps a piece: in memory, for a short while, what the disk does not take.
func (c *cache) write(hash [32]byte, size int64, no int, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.find(hash, size)
	if e != nil && e.have&(1<<no) != 0 {
		return
	}
	if e == nil {
		e = &entry{hash: hash, size: size}
		c.enter(e, true)
	}
	if c.dir != "" {
		err := writePiece(c.path(hash), hash, size, no, p)
		if err != nil && !c.full {
			c.log.Warn("the cache cannot be written to", "err", err)
		}
		if c.full = err != nil; c.full {
			c.loosen(piece{hash, no})
		}
	}
	if c.dir == "" || c.full {
		if e.pieces == nil {
			e.pieces = map[int][]byte{}
		}
		e.pieces[no] = p
	}
	before := e.bytes()
	e.have |= 1 << no
	e.sound |= 1 << no
	if e.at != nil {
		c.used += e.bytes() - before
		c.recent.MoveToFront(e.at)
		c.trim()
	}
}

// maxLoose is how many pieces are in memory when the disk takes no more: what was asked for ahead is to be read once at least.
const maxLoose = 16

// loosen notes a piece that is only in memory, and lets the oldest of these go.
func (c *cache) loosen(p piece) {
	c.loose = append(c.loose, p)
	if len(c.loose) <= maxLoose {
		return
	}
	old := c.loose[0]
	c.loose = c.loose[1:]
	if e := c.packs[old.hash]; e != nil && e.pieces[old.no] != nil {
		delete(e.pieces, old.no)
		c.without(e, old.no)
	}
}

// writePiece writes a piece and then its sum.
func writePiece(path string, hash [32]byte, size int64, no int, p []byte) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := make([]byte, headerSize)
	if _, rerr := f.ReadAt(head, 0); rerr != nil {
		clear(head)
	}
	h, herr := parseHeader(head)
	if herr != nil || h.hash != hash || h.size != size {
		h = header{hash: hash, size: size}
		if err := f.Truncate(0); err != nil {
			return err
		}
	}
	if _, err := f.WriteAt(p, headerSize+int64(no)<<20); err != nil {
		return err
	}
	h.sums[no] = pieceSum(hash, no, p)
	_, err = f.WriteAt(appendHeader(head[:0], h), 0)
	return err
}

// forget drops what is cached of a pack.
func (c *cache) forget(hash [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(hash)
}

// pin marks packs as pinned, durably.
func (c *cache) pin(hashes ...[32]byte) error {
	return c.setPins(func(pinned map[[32]byte]bool) {
		for _, h := range hashes {
			pinned[h] = true
		}
	})
}

func (c *cache) unpin(hashes ...[32]byte) error {
	return c.setPins(func(pinned map[[32]byte]bool) {
		for _, h := range hashes {
			delete(pinned, h)
		}
	})
}

func (c *cache) setPins(change func(map[[32]byte]bool)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	pinned := make(map[[32]byte]bool, len(c.pinned))
	for h := range c.pinned {
		pinned[h] = true
	}
	change(pinned)
	same := len(pinned) == len(c.pinned)
	for h := range pinned {
		same = same && c.pinned[h]
	}
	if same {
		return nil
	}
	if c.pins != "" {
		if err := durable.WriteFile(c.pins, appendPins(nil, pinned)); err != nil {
			return fmt.Errorf("write what is pinned: %w", noSpace(err))
		}
	}
	c.pinned = pinned
	for h, e := range c.packs {
		switch {
		case pinned[h] && e.at != nil:
			c.used -= e.bytes()
			c.recent.Remove(e.at)
			e.at = nil
		case !pinned[h] && e.at == nil:
			e.at = c.recent.PushFront(e)
			c.used += e.bytes()
		}
	}
	c.trim()
	return nil
}

func (c *cache) isPinned(hash [32]byte) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.pinned[hash]
}

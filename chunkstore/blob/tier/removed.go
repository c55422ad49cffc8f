package tier

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/chunkstore/durable"
)

// removedLog is what is to be removed at which remote. Its file is a magic and records, of which the last may be torn:
//
//	offset  length  what
//	0       4       n, the length of the payload, big endian
//	4       16      the first 16 bytes of BLAKE3 of the payload
//	20      n       payload: kind (1 to be removed, 2 not any more), the length of the remote's name (1 byte) and that, and each
//	                name with its length (1 byte) before it
//
// Records are appended and synced. When most of the file says what is not so any more it is written anew.
type removedLog struct {
	path string // "" for memory
	log  *slog.Logger

	change sync.Mutex // one change at a time, which may take as long as the disk does; guards f and size
	f      *os.File
	size   int64

	mu      sync.Mutex                    // guards what follows; it is written under change only
	pending map[string]map[blob.Name]bool // by remote
	count   map[blob.Name]int             // of remotes
}

const (
	removedMagic = "SHEAFRM1"
	recordHead   = 4 + 16
	maxRecord    = 1 << 20 // bytes of a payload

	kindRemove = byte(1)
	kindDone   = byte(2)
)

func openRemoved(path string, log *slog.Logger) (*removedLog, error) {
	l := &removedLog{path: path, log: log, pending: map[string]map[blob.Name]bool{}, count: map[blob.Name]int{}}
	if path == "" {
		return l, nil
	}
	p, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read what was removed: %w", err)
	}
	good := parseRemoved(p, l.apply)
	if good < len(p) {
		// What a crash has torn was not acknowledged. Where it is damage, something stays at a remote that nobody needs.
		log.Warn("the note of what was removed ends early", "bytes", len(p), "good", good)
	}
	if good == len(p) && good > 0 {
		l.f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o600)
		l.size = int64(good)
		return l, err
	}
	return l, l.rewrite()
}

// parseRemoved calls apply for each whole record and returns how many bytes are good.
func parseRemoved(p []byte, apply func(kind byte, remote string, names []blob.Name)) int {
	if !bytes.HasPrefix(p, []byte(removedMagic)) {
		return 0
	}
	at := len(removedMagic)
	for len(p)-at >= recordHead {
		n := int64(binary.BigEndian.Uint32(p[at:]))
		if n > maxRecord || n > int64(len(p)-at-recordHead) {
			break
		}
		payload := p[at+recordHead : at+recordHead+int(n)]
		if sum := blake3.Sum256(payload); !bytes.Equal(sum[:16], p[at+4:at+recordHead]) {
			break
		}
		kind, remote, names, ok := parseRecord(payload)
		if !ok {
			break
		}
		apply(kind, remote, names)
		at += recordHead + int(n)
	}
	return at
}

func parseRecord(p []byte) (kind byte, remote string, names []blob.Name, ok bool) {
	if len(p) < 2 || p[0] != kindRemove && p[0] != kindDone {
		return 0, "", nil, false
	}
	kind = p[0]
	p = p[1:]
	str := func() (string, bool) {
		n := int(p[0])
		if n == 0 || len(p) < 1+n {
			return "", false
		}
		s := string(p[1 : 1+n])
		p = p[1+n:]
		return s, true
	}
	if remote, ok = str(); !ok {
		return 0, "", nil, false
	}
	for len(p) > 0 {
		s, ok := str()
		if !ok || blob.Name(s).Check() != nil {
			return 0, "", nil, false
		}
		names = append(names, blob.Name(s))
	}
	return kind, remote, names, true
}

// appendRecords appends as many records as the names need.
func appendRecords(b []byte, kind byte, remote string, names []blob.Name) []byte {
	for len(names) > 0 {
		payload := append([]byte{kind, byte(len(remote))}, remote...)
		for len(names) > 0 && len(payload)+1+len(names[0]) <= maxRecord {
			payload = append(payload, byte(len(names[0])))
			payload = append(payload, names[0]...)
			names = names[1:]
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
		sum := blake3.Sum256(payload)
		b = append(append(b, sum[:16]...), payload...)
	}
	return b
}

// apply changes what is in memory.
func (l *removedLog) apply(kind byte, remote string, names []blob.Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.pending[remote]
	for _, name := range names {
		if kind == kindRemove && !of[name] {
			if of == nil {
				of = map[blob.Name]bool{}
				l.pending[remote] = of
			}
			of[name] = true
			l.count[name]++
		}
		if kind == kindDone && of[name] {
			delete(of, name)
			if l.count[name]--; l.count[name] == 0 {
				delete(l.count, name)
			}
		}
	}
	if len(of) == 0 {
		delete(l.pending, remote)
	}
}

// write appends records, durably. If it fails the file is as it was, or the log writes it anew the next time.
func (l *removedLog) write(records []byte) error {
	if l.path == "" || len(records) == 0 {
		return nil
	}
	if l.f == nil {
		if err := l.rewrite(); err != nil {
			return err
		}
	}
	_, err := l.f.Write(records)
	if err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		// What is in the file now is not known: it is written anew from what is in memory.
		return errors.Join(noSpace(err), l.abandon())
	}
	l.size += int64(len(records))
	return nil
}

// abandon closes the file.
func (l *removedLog) abandon() error {
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}

// rewrite writes the file anew, from what is in memory.
func (l *removedLog) rewrite() error {
	if err := l.abandon(); err != nil {
		return err
	}
	b := []byte(removedMagic)
	for _, remote := range slices.Sorted(maps.Keys(l.pending)) {
		b = appendRecords(b, kindRemove, remote, slices.Sorted(maps.Keys(l.pending[remote])))
	}
	if err := durable.WriteFile(l.path, b); err != nil {
		return noSpace(err)
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0o600)
	l.f, l.size = f, int64(len(b))
	return err
}

// note says that names are to be removed at the remotes.
func (l *removedLog) note(remotes []string, names []blob.Name) error {
	l.change.Lock()
	defer l.change.Unlock()
	var b []byte
	for _, remote := range remotes {
		b = appendRecords(b, kindRemove, remote, names)
	}
	if err := l.write(b); err != nil {
		return err
	}
	for _, remote := range remotes {
		l.apply(kindRemove, remote, names)
	}
	return nil
}

// done says that names need not be removed at a remote any more.
func (l *removedLog) done(remote string, names []blob.Name) error {
	l.change.Lock()
	defer l.change.Unlock()
	return l.doneLocked(remote, names)
}

func (l *removedLog) doneLocked(remote string, names []blob.Name) error {
	names = slices.DeleteFunc(slices.Clone(names), func(n blob.Name) bool { return !l.pending[remote][n] })
	if len(names) == 0 {
		return nil
	}
	if err := l.write(appendRecords(nil, kindDone, remote, names)); err != nil {
		return err
	}
	l.apply(kindDone, remote, names)
	// A name takes 110 bytes at most with what is around it; so a file of four times that is mostly past.
	left := int64(0)
	for _, of := range l.pending {
		left += int64(len(of))
	}
	if l.path != "" && l.size > 64<<10 && l.size > 4*110*left {
		return l.rewrite()
	}
	return nil
}

// again says that a name was put again.
func (l *removedLog) again(name blob.Name) error {
	if !l.has(name) {
		return nil // without waiting for a change that is under way
	}
	l.change.Lock()
	defer l.change.Unlock()
	for _, remote := range slices.Sorted(maps.Keys(l.pending)) {
		if err := l.doneLocked(remote, []blob.Name{name}); err != nil {
			return err
		}
	}
	return nil
}

// drop forgets a remote.
func (l *removedLog) drop(remote string) error {
	l.change.Lock()
	defer l.change.Unlock()
	return l.doneLocked(remote, slices.Collect(maps.Keys(l.pending[remote])))
}

// has reports whether a name is to be removed at any remote.
func (l *removedLog) has(name blob.Name) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[name] > 0
}

// any reports whether anything is to be removed at any remote.
func (l *removedLog) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.count) > 0
}

// of returns what is to be removed at a remote, in byte order.
func (l *removedLog) of(remote string) []blob.Name { return l.under(remote, "") }

// under is of, for names that begin with prefix.
func (l *removedLog) under(remote string, prefix blob.Name) (names []blob.Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.pending[remote] {
		if strings.HasPrefix(string(name), string(prefix)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (l *removedLog) close() error {
	l.change.Lock()
	defer l.change.Unlock()
	return l.abandon()
}

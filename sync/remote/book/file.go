package book

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sheaf-drive/sheaf/chunkstore/cbor"
	"github.com/sheaf-drive/sheaf/chunkstore/durable"
)

// The files of a book, both readable by their owner only. The key file is there exactly if the book has the open form.
//
//	offset  bytes
//	0       8   "SHEAFRMT"
//	8       4   version, big endian: 1
//	12      1   form: 1 open, 2 of the drive
//	13      24  nonce
//	37      n   XChaCha20-Poly1305 of the entries; bytes 0 to 12 are its associated data
//
// The key is derive("sheaf/v1/remotes-file", the 32 bytes of the key file), or K(remotes) of the drive's first epoch.
const (
	fileName = "remotes"
	keyName  = "remotes.key"

	magic   = "SHEAFRMT"
	version = 1
	headLen = len(magic) + 4 + 1
)

// form is under which key a file is sealed.
type form byte

const (
	formNone  form = 0 // there is no file
	formOpen  form = 1
	formDrive form = 2
)

func formOf(guarded bool) form {
	if guarded {
		return formDrive
	}
	return formOpen
}

// load reads the file, if that was not done yet.
func (b *Book) load() error {
	if b.loaded {
		return nil
	}
	raw, err := readFile(b.path(), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		b.form, b.all, b.loaded = formNone, map[string]Remote{}, true
		return nil
	}
	if err != nil {
		return err
	}
	if len(raw) < headLen+chacha20poly1305.NonceSizeX || string(raw[:len(magic)]) != magic {
		return fmt.Errorf("%w: %s", ErrDamaged, b.path())
	}
	if v := binary.BigEndian.Uint32(raw[len(magic):]); v != version {
		return fmt.Errorf("%w: version %d", ErrFormat, v)
	}
	b.form = form(raw[headLen-1])
	key, err := b.key(b.form)
	if err != nil {
		return err
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return err
	}
	nonce, box := raw[headLen:headLen+chacha20poly1305.NonceSizeX], raw[headLen+chacha20poly1305.NonceSizeX:]
	plain, err := aead.Open(nil, nonce, box, raw[:headLen])
	if err != nil {
		return fmt.Errorf("%w: %s", ErrDamaged, b.path())
	}
	all, err := decode(plain)
	if err != nil {
		return err
	}
	b.all, b.loaded = all, true
	return nil
}

// key returns the key of a file that is there.
func (b *Book) key(f form) (*[32]byte, error) {
	switch f {
	case formOpen:
		k, err := readFile(filepath.Join(b.o.Dir, keyName), 32)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(k) != 32 {
			return nil, fmt.Errorf("%w: its key, %s, is not there", ErrDamaged, filepath.Join(b.o.Dir, keyName))
		}
		if err != nil {
			return nil, err
		}
		return deriveOpen(k), nil
	case formDrive:
		if b.drive == nil {
			return nil, ErrClosed
		}
		return b.drive, nil
	}
	return nil, fmt.Errorf("%w: form %d", ErrFormat, f)
}

// save writes the file in the form that it is to have, and then takes these entries for its own. A crash
// leaves the old file or the new one, each with a key that opens it.
func (b *Book) save(all map[string]Remote) error {
	guarded, err := b.o.Guarded()
	if err != nil {
		return err
	}
	want := formOf(guarded)
	if err := durable.MkdirAll(b.o.Dir); err != nil {
		return err
	}
	if want == formOpen && b.form != formOpen {
		// Never a key that was in use: the file that it opened may be in a copy somewhere.
		var k [32]byte
		_, _ = rand.Read(k[:]) // it never fails
		if err := durable.WriteFile(filepath.Join(b.o.Dir, keyName), k[:]); err != nil {
			return err
		}
	}
	key, err := b.key(want)
	if err != nil {
		return err
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return err
	}
	head := append([]byte(magic), 0, 0, 0, version, byte(want))
	out := append(make([]byte, 0, 4096), head...)
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	_, _ = rand.Read(nonce)
	plain := encode(all)
	if len(plain) > maxFile/2 {
		return fmt.Errorf("%w: the file of remotes would be too long", ErrFormat)
	}
	out = append(out, nonce...)
	if err := durable.WriteFile(b.path(), aead.Seal(out, nonce, plain, head)); err != nil {
		b.loaded = false // who knows what is there
		return err
	}
	b.all, b.form, b.loaded = all, want, true
	if want == formDrive {
		return b.dropKey()
	}
	return nil
}

// dropKey removes the key file, which opens nothing any more.
func (b *Book) dropKey() error {
	for _, name := range []string{keyName, "." + keyName + ".new"} {
		if err := os.Remove(filepath.Join(b.o.Dir, name)); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return fmt.Errorf("remove key of remotes: %w", err)
		}
		if err := durable.SyncDir(b.o.Dir); err != nil {
			return err
		}
	}
	return nil
}

// encode writes the entries as canonical CBOR: {1: [{1: name, 2: kind, 3: {option: value}, 4: {secret: value}}]}, by name; the
// inner maps as arrays of keys and values, by key.
func encode(all map[string]Remote) []byte {
	out := cbor.AppendMap(nil, 1)
	out = cbor.AppendArray(cbor.AppendUint(out, 1), len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r := all[name]
		out = cbor.AppendMap(out, 4)
		out = cbor.AppendText(cbor.AppendUint(out, 1), r.Name)
		out = cbor.AppendText(cbor.AppendUint(out, 2), r.Kind)
		out = appendPairs(cbor.AppendUint(out, 3), r.Options)
		out = appendPairs(cbor.AppendUint(out, 4), r.Secrets)
	}
	return out
}

// appendPairs writes values as bytes: they are what a person gave, which need not be text.
func appendPairs(out []byte, m map[string]string) []byte {
	out = cbor.AppendArray(out, 2*len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = cbor.AppendBytes(cbor.AppendText(out, k), []byte(m[k]))
	}
	return out
}

// decode is the inverse of encode. The error wraps ErrDamaged.
func decode(b []byte) (map[string]Remote, error) {
	r := cbor.NewReader(b)
	last := int64(-1)
	if n := r.Map(); n != 1 || r.Key(&last) != 1 {
		r.Fail("not a book")
	}
	all := map[string]Remote{}
	before := ""
	for n := r.Array(); n > 0 && r.Err() == nil; n-- {
		last := int64(-1)
		if r.Map() != 4 {
			r.Fail("not an entry")
		}
		var e Remote
		field := func(want uint64) {
			if r.Key(&last) != want {
				r.Fail("key %d is missing", want)
			}
		}
		field(1)
		e.Name = r.Text()
		field(2)
		e.Kind = r.Text()
		field(3)
		e.Options = readPairs(r)
		field(4)
		e.Secrets = readPairs(r)
		if len(all) > 0 && e.Name <= before {
			r.Fail("entries out of order")
		}
		before = e.Name
		all[e.Name] = e
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return all, nil
}

func readPairs(r *cbor.Reader) map[string]string {
	m := map[string]string{}
	before := ""
	n := r.Array()
	if n%2 != 0 {
		r.Fail("a key without a value")
	}
	for i := 0; i < n/2 && r.Err() == nil; i++ {
		k := r.Text()
		if i > 0 && k <= before {
			r.Fail("keys out of order")
		}
		before, m[k] = k, string(r.Bytes())
	}
	return m
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%w: %s is too long", ErrDamaged, path)
	}
	return b, err
}

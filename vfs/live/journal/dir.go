package journal

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sheaf-drive/sheaf/chunkstore/durable"
)

// A Dir is where the segments of a journal lie. OSDir is one; MemDir is another, for tests
// of crashes and for machines without a disk.
type Dir interface {
	// Create makes an empty file; one that is there is an error.
	Create(name string) (File, error)
	// Open opens a file for reading and writing.
	Open(name string) (File, error)
	// List returns the names of the files, in any order.
	List() ([]string, error)
	// Remove removes a file. One that is not there is no error.
	Remove(name string) error
	// Rename gives a file another name, which no file has.
	Rename(name, to string) error
	// Sync makes the names durable.
	Sync() error
}

// A File is one segment.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Size() (int64, error)
	// Ahead has the system begin to write n bytes from off to the disk, and does not wait
	// for it. It promises nothing: it serves a later Sync, which finds less to do.
	Ahead(off, n int64)
	// Sync makes the bytes and the size durable.
	Sync() error
	Close() error
}

// OSDir is a folder of the operating system, readable by its owner only.
type OSDir string

// Create makes an empty file.
func (d OSDir) Create(name string) (File, error) {
	return openFile(filepath.Join(string(d), name), os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open opens a file.
func (d OSDir) Open(name string) (File, error) {
	return openFile(filepath.Join(string(d), name), os.O_RDWR)
}

func openFile(path string, flag int) (File, error) {
	f, err := openShared(path, flag)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// List returns the names of the files. It makes the folder if it is not there.
func (d OSDir) List() ([]string, error) {
	if err := durable.MkdirAll(string(d)); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Remove removes a file.
func (d OSDir) Remove(name string) error {
	err := os.Remove(filepath.Join(string(d), name))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// Rename gives a file another name.
func (d OSDir) Rename(name, to string) error {
	return os.Rename(filepath.Join(string(d), name), filepath.Join(string(d), to))
}

// Sync makes the names durable.
func (d OSDir) Sync() error { return durable.SyncDir(string(d)) }

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f osFile) Ahead(off, n int64) { startWriting(f.File, off, n) }

func (f osFile) Sync() error { return syncData(f.File) }

func notExist(name string) error {
	return fmt.Errorf("journal segment %s: %w", name, fs.ErrNotExist)
}

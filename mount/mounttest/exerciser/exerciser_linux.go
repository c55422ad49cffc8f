package exerciser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is a kind of operation.
type Kind string

// The kinds.
const (
	Read      Kind = "read"      // pread
	Write     Kind = "write"     // pwrite
	Append    Kind = "append"    // write with O_APPEND
	Truncate  Kind = "truncate"  // ftruncate, shorter or longer
	MapRead   Kind = "mapread"   // through a shared map, also what its last page has behind the end
	MapWrite  Kind = "mapwrite"  // through a shared map, half of the time with msync
	Reserve   Kind = "reserve"   // fallocate
	Keep      Kind = "keep"      // fallocate, KEEP_SIZE
	Punch     Kind = "punch"     // fallocate, PUNCH_HOLE and KEEP_SIZE
	Zero      Kind = "zero"      // fallocate, ZERO_RANGE
	ZeroKeep  Kind = "zerokeep"  // fallocate, ZERO_RANGE and KEEP_SIZE
	Copy      Kind = "copy"      // copy_file_range within the file
	SeekHoles Kind = "seekholes" // lseek, SEEK_DATA and SEEK_HOLE over the whole file
	Sync      Kind = "sync"      // fsync or fdatasync
	Drop      Kind = "drop"      // the kernel is told to forget the pages of the file
	Reopen    Kind = "reopen"    // all is closed and opened again
)

// kinds says how often each kind is chosen, in parts of the sum.
var kinds = []struct {
	kind   Kind
	weight int
}{
	{Read, 18},
	{Write, 20},
	{Append, 3},
	{Truncate, 8},
	{MapRead, 10},
	{MapWrite, 12},
	{Reserve, 3},
	{Keep, 2},
	{Punch, 5},
	{Zero, 4},
	{ZeroKeep, 3},
	{Copy, 6},
	{SeekHoles, 1},
	{Sync, 2},
	{Drop, 2},
	{Reopen, 1},
}

// Config says what to exercise. Path is needed; zeros elsewhere mean what is said there.
type Config struct {
	Path    string // the file; it must not be there, and is removed if all went well
	Ops     int    // how many operations; 0: 1,000
	Seed    uint64 // all choices follow from it
	MaxSize int64  // bytes that the file may get; 0: 1 MiB
	MaxOp   int64  // bytes of one operation at most; 0: a quarter of MaxSize
	Check   int    // after so many operations the whole file is compared; 0: 100
	Without []Kind // kinds to leave out
	Tail    int    // how many of the last operations a failure shows; 0: 30
	// Each, if not nil, is called after each operation with how many are done.
	Each func(done int)
}

// A Mismatch is the error for a file that is not what was written.
type Mismatch struct {
	Seed      uint64
	Done      int    // operations that were done, the last one found it
	What      string // what differs, with offset and bytes
	Tail      []string
	Touching  []string // the last operations that touched the offset, if there is one
	Remaining string   // where the file is left
}

// Error tells all of it.
func (m *Mismatch) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, after %d operations: %s\nthe file is left at %s\n", m.Seed, m.Done, m.What, m.Remaining)
	if len(m.Touching) > 0 {
		fmt.Fprintf(&b, "the last operations that touched this place:\n\t%s\n", strings.Join(m.Touching, "\n\t"))
	}
	fmt.Fprintf(&b, "the last operations:\n\t%s", strings.Join(m.Tail, "\n\t"))
	return b.String()
}

// op is one operation as it was done.
type op struct {
	i       int
	kind    Kind
	off, n  int64
	to      int64 // of Copy
	size    int64 // of the file afterwards
	comment string
}

func (o op) String() string {
	s := fmt.Sprintf("%d %s %#x..%#x (%d bytes)", o.i, o.kind, o.off, o.off+o.n, o.n)
	if o.kind == Copy {
		s += fmt.Sprintf(" to %#x..%#x", o.to, o.to+o.n)
	}
	return s + fmt.Sprintf(" %s, size %#x", o.comment, o.size)
}

// touches reports whether o changed or read the byte at off.
func (o op) touches(off int64) bool {
	in := func(start int64) bool { return off >= start && off < start+o.n }
	return in(o.off) || o.kind == Copy && in(o.to) || o.kind == Truncate && off >= o.off
}

// differs is the error for bytes that are not what they should be, before Run makes it a Mismatch.
type differs struct {
	what string
	off  int64 // -1: no place
}

func (d *differs) Error() string { return d.what }

// run is one run.
type run struct {
	Config
	*rand.Rand
	f, app, other *os.File // for reading and writing, for appending, for reading
	held          []byte   // a map of MaxSize bytes that stays
	want          []byte   // what the file should be
	log           []op
	now           *op
	page          int64
}

// Run does c.Ops operations. It returns a *Mismatch if the file is not what it should
// be, and any other error if an operation failed; the file is then left where it is.
func Run(ctx context.Context, c Config) error {
	if c.Ops <= 0 {
		c.Ops = 1000
	}
	if c.MaxSize <= 0 {
		c.MaxSize = 1 << 20
	}
	if c.MaxOp <= 0 {
		c.MaxOp = c.MaxSize / 4
	}
	c.MaxOp = min(c.MaxOp, c.MaxSize)
	if c.Check <= 0 {
		c.Check = 100
	}
	if c.Tail <= 0 {
		c.Tail = 30
	}
	r := &run{Config: c, Rand: rand.New(rand.NewPCG(c.Seed, 0xf5)), page: int64(os.Getpagesize())}
	err := r.open(os.O_CREATE | os.O_EXCL)
	if err == nil {
		err = r.all(ctx)
	}
	err = errors.Join(err, r.close())
	if err == nil {
		return os.Remove(c.Path)
	}
	if d := (*differs)(nil); errors.As(err, &d) {
		return r.mismatch(d)
	}
	done := ""
	if r.now != nil {
		done = fmt.Sprintf(", operation %v", *r.now)
	}
	return fmt.Errorf("exercise %s, seed %d%s: %w", c.Path, c.Seed, done, err)
}

// mismatch tells what came before d.
func (r *run) mismatch(d *differs) *Mismatch {
	m := &Mismatch{Seed: r.Seed, Done: len(r.log), What: d.what, Remaining: r.Path}
	for _, o := range r.log[max(len(r.log)-r.Tail, 0):] {
		m.Tail = append(m.Tail, o.String())
	}
	for i := len(r.log) - 1; i >= 0 && len(m.Touching) < 10 && d.off >= 0; i-- {
		if r.log[i].touches(d.off) {
			m.Touching = append(m.Touching, r.log[i].String())
		}
	}
	slices.Reverse(m.Touching)
	return m
}

// all does all operations.
func (r *run) all(ctx context.Context) error {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a map that fails is an error
	sum := 0
	for _, k := range kinds {
		if !slices.Contains(r.Without, k.kind) {
			sum += k.weight
		}
	}
	if sum == 0 {
		return errors.New("no kind of operation is left")
	}
	for i := range r.Ops {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.one(i, r.choose(sum)); err != nil {
			return err
		}
		if r.Each != nil {
			r.Each(i + 1)
		}
		if (i+1)%r.Check == 0 || i == r.Ops-1 {
			if err := r.check(); err != nil {
				return err
			}
		}
	}
	return nil
}

// choose returns a kind by weight.
func (r *run) choose(sum int) Kind {
	n := r.IntN(sum)
	for _, k := range kinds {
		if slices.Contains(r.Without, k.kind) {
			continue
		}
		if n -= k.weight; n < 0 {
			return k.kind
		}
	}
	panic("the weights do not add up")
}

// one does one operation and looks at the size.
func (r *run) one(i int, kind Kind) (err error) {
	r.log = append(r.log, op{i: i, kind: kind})
	r.now = &r.log[len(r.log)-1]
	defer func() {
		r.now.size = int64(len(r.want))
		if p := recover(); p != nil {
			fault, ok := p.(interface{ Addr() uintptr })
			if !ok {
				panic(p)
			}
			err = fmt.Errorf("the map cannot be read or written at address %#x (SIGBUS)", fault.Addr())
		}
	}()
	if err := r.do(r.now); err != nil {
		return err
	}
	info, err := r.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != int64(len(r.want)) {
		return &differs{fmt.Sprintf("size is %#x, want %#x", info.Size(), len(r.want)), -1}
	}
	return nil
}

// check compares the whole file: by read, through the held map, and by another open file.
func (r *run) check() error {
	got := make([]byte, len(r.want)+1)
	for _, f := range []*os.File{r.f, r.other} {
		n, err := f.ReadAt(got, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read all: %w", err)
		}
		if err := r.same("read of all", got[:n], 0, int64(len(r.want))); err != nil {
			return err
		}
	}
	if r.uses(MapRead) {
		return r.same("map of all", r.held[:len(r.want)], 0, int64(len(r.want)))
	}
	return nil
}

// uses reports whether a kind is not left out.
func (r *run) uses(k Kind) bool { return !slices.Contains(r.Without, k) }

// same compares got with n bytes from off of what should be there.
func (r *run) same(how string, got []byte, off, n int64) error {
	want := r.want[off : off+n]
	if bytes.Equal(got, want) {
		return nil
	}
	if len(got) != len(want) {
		return &differs{fmt.Sprintf("%s: got %d bytes at %#x, want %d", how, len(got), off, len(want)), off + int64(min(len(got), len(want)))}
	}
	first, last, count := -1, 0, 0
	for i := range want {
		if got[i] != want[i] {
			if first < 0 {
				first = i
			}
			last, count = i, count+1
		}
	}
	at := off + int64(first)
	return &differs{fmt.Sprintf("%s: %d bytes differ from %#x to %#x: got %.16x, want %.16x",
		how, count, at, off+int64(last), got[first:], want[first:]), at}
}

// open opens the file three times and maps it.
func (r *run) open(flag int) (err error) {
	if r.f, err = os.OpenFile(r.Path, os.O_RDWR|flag, 0o644); err != nil {
		return err
	}
	if r.app, err = os.OpenFile(r.Path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return err
	}
	if r.other, err = os.Open(r.Path); err != nil {
		return err
	}
	if r.uses(MapRead) || r.uses(MapWrite) {
		r.held, err = unix.Mmap(int(r.f.Fd()), 0, int(r.MaxSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	return err
}

// close closes and unmaps what is open.
func (r *run) close() error {
	var errs []error
	if r.held != nil {
		errs = append(errs, unix.Munmap(r.held))
		r.held = nil
	}
	for _, f := range []*os.File{r.f, r.app, r.other} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	r.f, r.app, r.other = nil, nil, nil
	return errors.Join(errs...)
}

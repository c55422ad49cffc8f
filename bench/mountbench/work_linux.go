package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sheaf-drive/sheaf/bench/measure"
)

const mib = 1 << 20

// quietGit keeps the configuration of who runs this out of the figures, and git from
// tidying up in the background.
var quietGit = []string{
	"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
	"GIT_CONFIG_COUNT=3",
	"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
	"GIT_CONFIG_KEY_1=gc.auto", "GIT_CONFIG_VALUE_1=0",
	"GIT_CONFIG_KEY_2=maintenance.auto", "GIT_CONFIG_VALUE_2=false",
}

// A step is one row's work on one system.
type step struct {
	measure.Row
	// cold asks for a new server and dropped caches before it.
	cold bool
	// noNull says why nullfs cannot do it; "" if it can.
	noNull string
	// prepare is done first, and not measured.
	prepare func(ctx context.Context, s *system, l *load) error
	// do returns the figure: seconds, or operations a second.
	do func(ctx context.Context, s *system, l *load) (float64, error)
	// check is done after it in the first round, and not measured; not on nullfs.
	check func(ctx context.Context, s *system, l *load) error
	// settled is the row of the time until all is at rest after it; "" for none.
	settled string
	// memory is the name of the group that ends here, after which memory is read.
	memory string
}

// A load is what the systems are given to do.
type load struct {
	data  []byte // what the big file holds
	tar   string // the tree
	files int    // how many files are in it
	repo  string // the tree as a bare git repository
	ops   int    // how many random reads and writes
	txs   int    // how many transactions
}

const (
	keepsNone  = "it keeps no content"
	bigFile    = "big"
	treeFolder = "tree"
)

func steps() []step {
	program := func(args ...string) func(context.Context, *system, *load) (float64, error) {
		return func(ctx context.Context, s *system, _ *load) (float64, error) {
			took, err := timed(ctx, filepath.Join(s.dir, treeFolder), args...)
			return took.Seconds(), err
		}
	}
	once := func(args ...string) func(context.Context, *system, *load) error {
		do := program(args...)
		return func(ctx context.Context, s *system, l *load) error {
			_, err := do(ctx, s, l)
			return err
		}
	}
	cat := []string{"find", ".", "-type", "f", "-exec", "cat", "{}", "+"}
	return []step{
		{Row: measure.Row{Name: "sequential write, fsync", Unit: measure.Seconds, Goal: 0.8}, do: writeBig, settled: "… and until all is at rest"},
		{Row: measure.Row{Name: "sequential read, cold", Unit: measure.Seconds, Goal: 0.9}, cold: true, do: readBig},
		{Row: measure.Row{Name: "sequential read, warm", Unit: measure.Seconds, Goal: 0.7}, do: readBig, check: checkBig, memory: "sequential"},
		{Row: measure.Row{Name: "random read 4 KiB, cold", Unit: measure.PerSecond, Goal: 1}, cold: true, do: random("randread")},
		{Row: measure.Row{Name: "random write 4 KiB, fsync", Unit: measure.PerSecond, Goal: 4}, do: random("randwrite"), memory: "random"},
		{Row: measure.Row{Name: "untar the tree", Unit: measure.Seconds, Goal: 0.5}, do: untar, check: checkTree, settled: "… and until all is at rest after untar"},
		{Row: measure.Row{Name: "find, warm", Unit: measure.Seconds, Goal: 0.5}, prepare: once("find", "."), do: program("find", ".")},
		{Row: measure.Row{Name: "ls -lR, warm", Unit: measure.Seconds, Goal: 0.5}, do: program("ls", "-lR", ".")},
		{Row: measure.Row{Name: "cat all files, cold", Unit: measure.Seconds, Goal: 0.9}, cold: true, do: program(cat...)},
		{Row: measure.Row{Name: "cat all files, warm", Unit: measure.Seconds, Goal: 0.8}, do: program(cat...)},
		{Row: measure.Row{Name: "grep -r, warm", Unit: measure.Seconds, Goal: 0.8}, do: program("sh", "-c", "grep -r -c -F 'words in no file of Go' . || [ $? = 1 ]")},
		{Row: measure.Row{Name: "git clone", Unit: measure.Seconds, Goal: 0.6}, noNull: keepsNone, do: clone},
		{Row: measure.Row{Name: "git status, warm", Unit: measure.Seconds, Goal: 0.7}, noNull: keepsNone, prepare: cleanStatus, do: status},
		{Row: measure.Row{Name: "rm -rf the tree", Unit: measure.Seconds, Goal: 0.6}, do: remove, memory: "tree"},
		{Row: measure.Row{Name: "sqlite transactions, journal", Unit: measure.PerSecond}, noNull: keepsNone, do: sqlite("delete")},
		{Row: measure.Row{Name: "sqlite transactions, WAL", Unit: measure.PerSecond}, noNull: keepsNone, do: sqlite("wal"), memory: "sqlite"},
	}
}

// memoryRows names the two rows of a group: the memory after it, and the most so far.
func memoryRows(group string) (now, peak measure.Row) {
	return measure.Row{Name: "resident after " + group, Unit: measure.MiB, Most: 250},
		measure.Row{Name: "peak resident until then (" + group + ")", Unit: measure.MiB}
}

// rowsOf lists the rows of all steps as they are printed.
func rowsOf(all []step) []measure.Row {
	var rows, memory []measure.Row
	for _, st := range all {
		rows = append(rows, st.Row)
		if st.settled != "" {
			rows = append(rows, measure.Row{Name: st.settled, Unit: measure.Seconds, Alone: true})
		}
		if st.memory != "" {
			now, peak := memoryRows(st.memory)
			memory = append(memory, now, peak)
		}
	}
	return append(rows, memory...)
}

func writeBig(ctx context.Context, s *system, l *load) (float64, error) {
	begin := time.Now()
	f, err := os.Create(filepath.Join(s.dir, bigFile))
	if err != nil {
		return 0, err
	}
	for rest := l.data; len(rest) > 0 && err == nil; {
		n := min(len(rest), mib)
		_, err = f.Write(rest[:n])
		rest = rest[n:]
		err = errors.Join(err, ctx.Err())
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	return time.Since(begin).Seconds(), err
}

// eachMiB reads the big file in pieces of 1 MiB.
func eachMiB(ctx context.Context, s *system, l *load, see func(p []byte, off int) error) error {
	f, err := os.Open(filepath.Join(s.dir, bigFile))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	buf := make([]byte, mib)
	for off := 0; off < len(l.data); {
		n, err := io.ReadFull(f, buf[:min(mib, len(l.data)-off)])
		if err != nil {
			return fmt.Errorf("read at %d: %w", off, err)
		}
		if err := see(buf[:n], off); err != nil {
			return err
		}
		off += n
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func readBig(ctx context.Context, s *system, l *load) (float64, error) {
	begin := time.Now()
	err := eachMiB(ctx, s, l, func([]byte, int) error { return nil })
	return time.Since(begin).Seconds(), err
}

func checkBig(ctx context.Context, s *system, l *load) error {
	return eachMiB(ctx, s, l, func(p []byte, off int) error {
		if !bytes.Equal(p, l.data[off:off+len(p)]) {
			return fmt.Errorf("%s does not give back what was written, in the MiB at %d", s.name, off)
		}
		return nil
	})
}

// random lets fio read or write 4 KiB at random places of the big file, in one process and
// one at a time. Reads tell the kernel that they are random; writes end with an fsync,
// which is part of the time.
func random(how string) func(context.Context, *system, *load) (float64, error) {
	return func(ctx context.Context, s *system, l *load) (float64, error) {
		out, err := measure.Output(ctx, s.dir, nil, nil, "fio", "--name=random", "--filename="+bigFile, "--rw="+how,
			"--ioengine=psync", "--bs=4k", "--size="+strconv.Itoa(len(l.data)), "--io_size="+strconv.Itoa(l.ops*4096),
			"--end_fsync=1", "--randseed=1", "--refill_buffers=1", "--output-format=json")
		if err != nil {
			return 0, err
		}
		return fioRate(out)
	}
}

func untar(ctx context.Context, s *system, l *load) (float64, error) {
	dir := filepath.Join(s.dir, treeFolder)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return 0, err
	}
	took, err := timed(ctx, dir, "tar", "-xf", l.tar)
	return took.Seconds(), err
}

func checkTree(ctx context.Context, s *system, l *load) error {
	_, err := timed(ctx, filepath.Join(s.dir, treeFolder), "tar", "-df", l.tar)
	return err
}

func clone(ctx context.Context, s *system, l *load) (float64, error) {
	took, err := timed(ctx, s.dir, "git", "clone", "-q", "--no-local", l.repo, "clone")
	return took.Seconds(), err
}

// cleanStatus lets git write down what it needs to know of the files, and sees that it
// finds no difference.
func cleanStatus(ctx context.Context, s *system, _ *load) error {
	out, err := measure.Output(ctx, filepath.Join(s.dir, "clone"), quietGit, nil, "git", "status", "--porcelain")
	if err == nil && len(out) > 0 {
		err = fmt.Errorf("git status of a fresh clone on %s: %s", s.name, out[:min(len(out), 500)])
	}
	return err
}

func status(ctx context.Context, s *system, _ *load) (float64, error) {
	took, err := timed(ctx, filepath.Join(s.dir, "clone"), "git", "status", "--porcelain")
	return took.Seconds(), err
}

func remove(ctx context.Context, s *system, _ *load) (float64, error) {
	took, err := timed(ctx, s.dir, "rm", "-rf", treeFolder)
	return took.Seconds(), err
}

// sqlite inserts rows of 200 bytes, each in a transaction of its own that is on the disk
// when it ends, and counts them.
func sqlite(journal string) func(context.Context, *system, *load) (float64, error) {
	return func(ctx context.Context, s *system, l *load) (float64, error) {
		db := "db-" + journal
		set := "pragma journal_mode=" + journal + "; pragma synchronous=full;\n"
		if _, err := measure.Output(ctx, s.dir, nil, []byte(set+"create table t(i integer primary key, b blob);"), "sqlite3", db); err != nil {
			return 0, err
		}
		sql := []byte(set + strings.Repeat("insert into t(b) values(randomblob(200));\n", l.txs))
		begin := time.Now()
		if _, err := measure.Output(ctx, s.dir, nil, sql, "sqlite3", db); err != nil {
			return 0, err
		}
		took := time.Since(begin)
		out, err := measure.Output(ctx, s.dir, nil, []byte("pragma integrity_check; select count(*) from t;"), "sqlite3", db)
		if want := fmt.Sprintf("ok\n%d\n", l.txs); err == nil && string(out) != want {
			err = fmt.Errorf("sqlite on %s: says %q, not %q", s.name, out, want)
		}
		return float64(l.txs) / took.Seconds(), err
	}
}

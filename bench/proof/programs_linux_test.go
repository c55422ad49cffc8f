package proof

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/mount/mounttest"
	"github.com/sheaf-drive/sheaf/mount/mounttest/exerciser"
)

// number returns a number from the environment, so that a proof by hand can be longer than CI's.
func number(t *testing.T, name string, other int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return other
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func TestMounted_PassesTheSuite(t *testing.T) {
	dir := mounted(t)
	mounttest.Run(t, dir)
}

// M1: random operations with memory maps against a model.
func TestMounted_FilesAreWhatWasWritten(t *testing.T) {
	dir := mounted(t)
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SHEAF_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 0, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SHEAF_SEED=%d", seed)
	ops := number(t, "SHEAF_FSX_OPS", 6000)
	sizes := []int64{256 << 10, 1 << 20, 6 << 20}
	for i, size := range sizes {
		err := exerciser.Run(t.Context(), exerciser.Config{
			Path: filepath.Join(dir, "file"+strconv.Itoa(i)), Ops: ops / len(sizes), Seed: seed + uint64(i), MaxSize: size,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// M1: git and go at work.
func TestMounted_GitAndGoWorkInside(t *testing.T) {
	dir := mounted(t)
	top := strings.TrimSpace(run(t, ".", "go", "env", "GOMOD"))
	repo := filepath.Dir(top)
	work := filepath.Join(dir, "work")
	run(t, dir, "git", "-c", "safe.directory=*", "clone", "-q", "--no-local", repo, work)
	run(t, work, "git", "fsck", "--full", "--strict")
	if out := run(t, work, "git", "status", "--porcelain"); out != "" {
		t.Errorf("status of a fresh clone:\n%s", out)
	}
	run(t, work, "git", "gc", "-q", "--aggressive", "--prune=now")
	run(t, work, "git", "fsck", "--full", "--strict")
	// The caches and the scratch space of the build lie in the drive too.
	for _, sub := range []string{"cache", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOCACHE", filepath.Join(dir, "cache"))
	t.Setenv("GOTMPDIR", filepath.Join(dir, "tmp"))
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("GOMODCACHE", strings.TrimSpace(run(t, ".", "go", "env", "GOMODCACHE")))
	t.Setenv("CGO_ENABLED", "0")
	run(t, work, "go", "build", "./chunkstore/chunk", "./chunkstore/causal", "./chunkstore/cbor", "./vfs")
	run(t, work, "go", "test", "-count=1", "./chunkstore/kdf")
}

// M1: a database with a write-ahead log, several writers, and what its own check says.
func TestMounted_SqliteKeepsItsWord(t *testing.T) {
	dir := mounted(t)
	db := filepath.Join(dir, "db")
	run(t, dir, "sqlite3", db, "pragma journal_mode=wal; create table t(i integer primary key, w int, b blob);")
	errs := make(chan error, 4)
	for w := range 4 {
		go func() {
			var sql strings.Builder
			sql.WriteString(".timeout 60000\n")
			for range 200 {
				sql.WriteString("insert into t(w, b) values (" + strconv.Itoa(w) + ", randomblob(3000));\n")
			}
			errs <- runIn(t.Context(), dir, sql.String(), "sqlite3", db)
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.TrimSpace(run(t, dir, "sqlite3", db, "pragma integrity_check; select count(*), sum(length(b)) from t;")); got != "ok\n800|2400000" {
		t.Errorf("sqlite says %q", got)
	}
}

// M14: a tree goes in with all that rsync knows of it, and nothing is left to do.
func TestMounted_RsyncFindsNothingToDo(t *testing.T) {
	dir := mounted(t)
	src := t.TempDir()
	tree(t, src)
	to := filepath.Join(dir, "copy")
	run(t, dir, "rsync", "-aAXH", "--devices", "--specials", src+"/", to+"/")
	if out := run(t, dir, "rsync", "-aAXHn", "--devices", "--specials", "--itemize-changes", "--delete", "--checksum", src+"/", to+"/"); out != "" {
		t.Errorf("rsync would do:\n%s", out)
	}
	back := t.TempDir()
	run(t, dir, "rsync", "-aAXH", "--devices", "--specials", to+"/", back+"/")
	if out := run(t, dir, "rsync", "-aAXHn", "--devices", "--specials", "--itemize-changes", "--delete", "--checksum", src+"/", back+"/"); out != "" {
		t.Errorf("back again rsync would do:\n%s", out)
	}
}

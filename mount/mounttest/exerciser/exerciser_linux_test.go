package exerciser

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// seed returns SHEAF_SEED or a number by chance, and logs it.
func seed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("SHEAF_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 0, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SHEAF_SEED=%d", seed)
	return seed
}

// folder returns a folder on a file system that knows all operations.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != unix.EXT4_SUPER_MAGIC && st.Type != unix.XFS_SUPER_MAGIC {
		t.Skipf("%s lies on a file system of type %#x, which may lack something: set TMPDIR", dir, st.Type)
	}
	return dir
}

func TestRun_PassesOnTheMachinesOwnFileSystem(t *testing.T) {
	dir, seed := folder(t), seed(t)
	for i, size := range []int64{10_000, 300_000, 5 << 20} {
		done := 0
		err := Run(t.Context(), Config{
			Path: filepath.Join(dir, "f"), Ops: 2000, Seed: seed + uint64(i), MaxSize: size, Each: func(int) { done++ },
		})
		if err != nil {
			t.Error(err)
		}
		if done != 2000 {
			t.Errorf("did %d operations, want 2,000", done)
		}
	}
	if entries, err := os.ReadDir(dir); len(entries) != 0 || err != nil {
		t.Errorf("left %v, %v", entries, err)
	}
}

func TestRun_DoesEveryKind(t *testing.T) {
	for _, k := range kinds {
		var without []Kind
		for _, other := range kinds {
			if other.kind != k.kind && other.kind != Write {
				without = append(without, other.kind)
			}
		}
		err := Run(t.Context(), Config{Path: filepath.Join(folder(t), "f"), Ops: 200, Seed: 1, MaxSize: 100_000, Without: without})
		if err != nil {
			t.Errorf("%s: %v", k.kind, err)
		}
	}
}

func TestRun_FindsWhatAnotherChanged(t *testing.T) {
	for what, harm := range map[string]func(f *os.File, size int64) error{
		"a byte": func(f *os.File, size int64) error {
			p := make([]byte, 1)
			if _, err := f.ReadAt(p, size/2); err != nil {
				return err
			}
			p[0] ^= 0x80
			_, err := f.WriteAt(p, size/2)
			return err
		},
		"the size":   func(f *os.File, size int64) error { return f.Truncate(size - 1) },
		"more bytes": func(f *os.File, size int64) error { return f.Truncate(size + 1) },
	} {
		path := filepath.Join(folder(t), "f")
		harmed := 0
		err := Run(t.Context(), Config{
			Path: path, Ops: 5000, Seed: seed(t), MaxSize: 200_000, Check: 1,
			Each: func(done int) {
				if done < 300 || harmed > 0 {
					return
				}
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				info, err := f.Stat()
				if err != nil {
					t.Fatal(err)
				}
				if info.Size() < 1000 {
					return
				}
				harmed = done
				if err := harm(f, info.Size()); err != nil {
					t.Fatal(err)
				}
			},
		})
		var m *Mismatch
		if !errors.As(err, &m) {
			t.Fatalf("%s: got %v, want a Mismatch", what, err)
		}
		if m.Done != harmed || len(m.Tail) != 30 || !strings.Contains(err.Error(), "the last operations") {
			t.Errorf("%s at %d: got %v", what, harmed, err)
		}
	}
}

func TestRun_StopsWithItsContextAndKeepsAFileThatIsThere(t *testing.T) {
	path := filepath.Join(folder(t), "f")
	if err := os.WriteFile(path, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), Config{Path: path}); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
	if got, err := os.ReadFile(path); string(got) != "mine" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

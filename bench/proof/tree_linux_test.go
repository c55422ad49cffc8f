package proof

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// runIn runs a program with input.
func runIn(ctx context.Context, dir, input, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// tree makes a tree with all that a tree can have.
func tree(t *testing.T, top string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	var files []string
	for i := range 300 {
		d := filepath.Join(top, fmt.Sprintf("d%d/e%d", i%7, i%13))
		must(os.MkdirAll(d, 0o755))
		f := filepath.Join(d, fmt.Sprintf("f%d", i))
		must(os.WriteFile(f, noise(rng.IntN(40_000)), 0o600|os.FileMode(rng.IntN(0o100))))
		at := time.Unix(1_000_000_000+rng.Int64N(700_000_000), rng.Int64N(1e9))
		must(os.Chtimes(f, at, at))
		files = append(files, f)
	}
	must(os.WriteFile(filepath.Join(top, "large"), noise(9<<20), 0o644))
	for i, f := range files[:40] {
		switch i % 4 {
		case 0:
			must(os.Link(f, f+".link"))
		case 1:
			must(os.Symlink("../"+filepath.Base(f), f+".sym"))
		case 2:
			must(unix.Setxattr(f, "user.note", noise(50), 0))
		default:
			must(os.Chmod(f, 0o4755|os.ModeSetuid))
			must(os.Lchown(f, 1000+i, 2000+i))
		}
	}
	sparse, err := os.Create(filepath.Join(top, "sparse"))
	must(err)
	must(sparse.Truncate(100 << 20))
	_, err = sparse.WriteAt([]byte("in the middle"), 50<<20)
	must(err)
	must(sparse.Close())
	must(unix.Mkfifo(filepath.Join(top, "fifo"), 0o640))
	must(unix.Mknod(filepath.Join(top, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(os.Mkdir(filepath.Join(top, "sticky"), 0o755))
	must(os.Chmod(filepath.Join(top, "sticky"), 0o777|os.ModeSticky|os.ModeSetgid))
	must(os.WriteFile(filepath.Join(top, "name \xff\xfe \n ü"), nil, 0o644))
	must(os.WriteFile(filepath.Join(top, strings.Repeat("n", 255)), nil, 0))
	at := time.Unix(1_234_567_890, 123_456_789)
	must(os.Chtimes(filepath.Join(top, "d1"), at, at))
	must(os.Chtimes(top, at, at))
}

package pebblekv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
)

const (
	childEnv   = "SHEAF_PEBBLEKV_TEST_CHILD"
	childPairs = 20_000
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		updateForEver(dir)
		return
	}
	if dir := os.Getenv(damageEnv); dir != "" {
		readAll(dir)
		return
	}
	if dir := os.Getenv(memoryEnv); dir != "" {
		fillMany(dir)
		return
	}
	os.Exit(m.Run())
}

// updateForEver makes big and small updates until it is killed, and says what has returned.
func updateForEver(dir string) {
	ctx := context.Background()
	d, err := Open(ctx, Options{Dir: dir, Key: testKey(1)})
	first := uint64(1)
	if err == nil {
		var v []byte
		if v, err = d.Get(ctx, []byte(fmt.Sprintf("%032d", 0))); err == nil {
			first = uint64(v[63]) | uint64(v[62])<<8 | uint64(v[61])<<16
			first++
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	for v := first; err == nil; v++ {
		if err = d.Update(ctx, filler(childPairs, v)); err == nil {
			fmt.Println("updated", v)
		}
	}
	fmt.Println("error", err)
	os.Exit(1)
}

// copyDir copies a database that is closed.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// After a kill at any moment, the database holds one whole update: the last that was
// acknowledged, or the one after it.
func TestDB_SurvivesKill(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	r := testkit.Rand(testkit.Seed(t))
	dir := t.TempDir()
	var acknowledged uint64
	for range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acks, after := 0, 1+r.IntN(3)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if acks++; acks == after {
				time.AfterFunc(time.Duration(r.IntN(400))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
			if strings.HasPrefix(lines.Text(), "error") {
				t.Fatalf("child: %s", lines.Text())
			}
			_, _ = fmt.Sscanf(lines.Text(), "updated %d", &acknowledged) // a line may be cut off
		}
		_ = cmd.Wait() // it was killed
		d, err := Open(t.Context(), Options{Dir: dir, Key: testKey(1)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := check(t, d, childPairs)
		if err != nil || got != acknowledged && got != acknowledged+1 {
			t.Fatalf("got update %d and error %v, want %d or the next", got, err, acknowledged)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d rounds, %d acknowledged updates", rounds, acknowledged)
}

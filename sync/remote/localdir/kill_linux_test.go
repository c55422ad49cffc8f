package localdir

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/treetest"
)

// G8: an ext4 of small inodes keeps whole seconds, as FAT and HFS+ do more or less.
func TestTree_WhereTimesAreWholeSeconds(t *testing.T) {
	if os.Getenv("SHEAF_LONG") == "" {
		t.Skip("each look at a new file waits for its clock, minutes in all: SHEAF_LONG=1 runs it")
	}
	image, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	ok(t, os.WriteFile(image, nil, 0o600))
	ok(t, os.Truncate(image, 64<<20))
	for _, cmd := range [][]string{{"mkfs.ext4", "-q", "-I", "128", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.CommandContext(t.Context(), cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			testkit.Lacks(t, fmt.Errorf("%q: %w: %s", cmd, err, out))
		}
	}
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
	tree := openTree(t, dir, Options{})
	if got := tree.Can().MTime; got != time.Second {
		t.Errorf("times are said to be as exact as %v, want a second", got)
	}
	path := filepath.Join(dir, "file")
	at := time.Unix(1e9, 0)
	seen := map[remote.Version]bool{}
	for i := range 8 {
		write(t, path, fmt.Sprintf("%04d", i))
		if i%2 == 0 {
			ok(t, os.Chtimes(path, at, at))
		}
		v := stat(t, tree, "file").Version
		if seen[v] {
			t.Fatalf("round %d: the bytes changed, and the version %q was given before", i, v)
		}
		seen[v] = true
	}
	n := 0
	treetest.Run(t, func(t *testing.T) treetest.Place {
		n++
		sub := filepath.Join(dir, fmt.Sprint(n))
		ok(t, os.Mkdir(sub, 0o755))
		tree := openTree(t, sub, Options{})
		return treetest.Place{Tree: tree, Again: openTree(t, sub, Options{}), Slow: true}
	})
}

const childEnv = "SHEAF_LOCALDIR_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if rest, ok := strings.CutPrefix(dir, "watch:"); ok {
			watchFew(rest)
			return
		}
		putForEver(dir)
		return
	}
	os.Exit(m.Run())
}

// putForEver replaces two files in turn until it is killed, and says what is done.
func putForEver(dir string) {
	tree, err := OpenTree(dir, Options{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	versions := [2]remote.Version{}
	for i := range versions {
		if it, err := tree.Stat(context.Background(), fmt.Sprint("file", i)); err == nil {
			versions[i] = it.Version
		}
	}
	for n := 0; ; n++ {
		i := n % 2
		data := bytes.Repeat([]byte{byte('a' + n%26)}, 300_000)
		it, err := tree.Put(context.Background(), remote.Item{Path: fmt.Sprint("file", i), Size: int64(len(data))}, bytes.NewReader(data), versions[i])
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		versions[i] = it.Version
		fmt.Println("put", i, string(data[:1]))
	}
}

// G4, G10: after a kill at any moment each file is whole, and the one that was acknowledged last or the next.
func TestTree_SurvivesAKill(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 6
	}
	rnd := testkit.Rand(testkit.Seed(t))
	dir := t.TempDir()
	total := 0
	for range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		ok(t, err)
		ok(t, cmd.Start())
		last := map[string]string{}
		begun := false
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadString('\n')
			if strings.HasPrefix(line, "error") {
				t.Fatal(line)
			}
			if err != nil {
				break // what the kill cut off
			}
			if !begun { // from the first put on, so that each round shows something
				begun = true
				time.AfterFunc(time.Duration(rnd.IntN(100))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
			f := strings.Fields(line)
			last["file"+f[1]] = f[2]
			total++
		}
		_ = cmd.Wait() // it was killed
		tree, err := OpenTree(dir, Options{})
		ok(t, err)
		for it, err := range tree.List(t.Context(), "") {
			ok(t, err)
			p, err := os.ReadFile(filepath.Join(dir, it.Path))
			ok(t, err)
			if len(p) != 300_000 || bytes.Count(p, p[:1]) != len(p) {
				t.Errorf("%s has %d bytes of several files", it.Path, len(p))
				continue
			}
			if want, ok := last[it.Path]; ok && string(p[0]) != want && string(p[0]) != string(rune('a'+(want[0]-'a'+2)%26)) {
				t.Errorf("%s is of %c, and %s was acknowledged", it.Path, p[0], want)
			}
			delete(last, it.Path)
		}
		if len(last) > 0 {
			t.Errorf("what was acknowledged is not there: %v", last)
		}
		ok(t, tree.Close())
	}
	if total < rounds {
		t.Errorf("only %d puts in %d rounds: the test shows little", total, rounds)
	}
	t.Logf("%d puts in %d rounds", total, rounds)
}

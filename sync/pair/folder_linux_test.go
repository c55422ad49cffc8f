package pair_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheaf-drive/sheaf/chunkstore/kv/memkv"
	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/pair"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/localdir"
)

// Folders of this machine, used by the programs that people use, and compared by diff.
func TestPair_OfTwoFolders(t *testing.T) {
	if _, err := exec.LookPath("diff"); err != nil {
		t.Fatal("diff is not installed: apt-get install diffutils")
	}
	r := testkit.Rand(testkit.Seed(t))
	o := pair.Options{KV: memkv.New()}
	o.Rule.Can[0].CheapRead, o.Rule.Can[1].CheapRead = true, true
	var dirs [2]string
	var trees [2]remote.Tree
	for s := range 2 {
		dirs[s] = t.TempDir()
		tree, err := localdir.OpenTree(dirs[s], localdir.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tree.Close() })
		trees[s] = tree
	}
	o.Tree = trees
	p, err := pair.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	run := func() pair.Report {
		t.Helper()
		rep, err := p.Run(t.Context(), pair.RunOptions{AllowFiles: 1000})
		if err != nil {
			t.Fatalf("run: %v", err)
		}
		return rep
	}
	alike := func() {
		t.Helper()
		run()
		if rep := run(); len(rep.Steps) > 0 {
			t.Errorf("there is something left to do: %q", rep.Steps)
		}
		out, err := exec.CommandContext(context.Background(), "diff", "-r", "--no-dereference", "-x", pair.HistoryDir, dirs[0], dirs[1]).CombinedOutput()
		if err != nil {
			t.Fatalf("the folders differ: %s", out)
		}
	}
	sh := func(s int, script string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", script)
		cmd.Dir = dirs[s]
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
	}
	sh(0, "mkdir -p d/e; for i in 1 2 3 4 5 6 7 8 9; do echo $i >d/e/f$i; done; ln -s d/e/f1 link; echo x >'a b'; chmod 755 'a b'")
	sh(1, "mkdir -p other/empty; echo 1 >other/one")
	alike()
	// A row of its own: bytes that change behind size and time.
	sh(0, "touch -r d/e/f1 ../ref-$$; echo 7 >d/e/f1; touch -r ../ref-$$ d/e/f1; rm ../ref-$$")
	alike()
	if b, err := os.ReadFile(filepath.Join(dirs[1], "d/e/f1")); err != nil || string(b) != "7\n" {
		t.Errorf("got %q and error %v", b, err)
	}
	// A folder that moves is one rename, with an edit on the other side under way.
	sh(0, "mv d moved")
	sh(1, "echo edited >d/e/f5")
	rep := run()
	if !slices.Contains(rep.Steps, "right: move d to moved") || rep.Bytes > 100 {
		t.Errorf("got %q and %d bytes", rep.Steps, rep.Bytes)
	}
	alike()
	sh(0, "rm -r moved/e/f2; mv 'a b' moved/; rm link; mkdir link; echo in >link/in")
	sh(1, "sed -i s/3/three/ moved/e/f3; mv moved/e/f4 four; chmod 600 four")
	alike()
	// What programs do by chance, on both sides at once.
	for round := range 4 {
		for s := range 2 {
			for range 25 {
				var files, folders []string
				_ = filepath.WalkDir(dirs[s], func(path string, d fs.DirEntry, err error) error {
					rel, _ := filepath.Rel(dirs[s], path)
					switch {
					case err != nil || strings.HasPrefix(rel, pair.HistoryDir):
						return filepath.SkipDir
					case d.IsDir():
						folders = append(folders, path)
					default:
						files = append(files, path)
					}
					return nil
				})
				to := filepath.Join(folders[r.IntN(len(folders))], fmt.Sprint("n", r.IntN(30)))
				_, err := os.Lstat(to)
				switch op := r.IntN(6); {
				case op <= 1 && err != nil || len(files) < 5:
					_ = os.WriteFile(to, testkit.Text(r, r.IntN(3000)), 0o600)
				case op == 2:
					_ = os.WriteFile(files[r.IntN(len(files))], testkit.Text(r, r.IntN(3000)), 0o600)
				case op == 3 && err != nil:
					_ = os.Rename(files[r.IntN(len(files))], to)
				case op == 4:
					_ = os.Remove(files[r.IntN(len(files))])
				case err != nil && len(folders) > 1 && r.IntN(2) == 0:
					_ = os.Rename(folders[1+r.IntN(len(folders)-1)], to)
				default:
					_ = os.Mkdir(to, 0o700)
				}
			}
		}
		if round == 2 { // the database is lost
			o.KV = memkv.New()
			if p, err = pair.Open(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		alike()
	}
}

// A rule of many files: what nothing costs, and a rename of all.
func TestPair_OfManyFiles(t *testing.T) {
	n := int(testkit.Environ(t, "SHEAF_PAIR_FILES", 300))
	o := pair.Options{KV: memkv.New(), Parallel: 8}
	var dirs [2]string
	for s := range 2 {
		dirs[s] = t.TempDir()
		tree, err := localdir.OpenTree(dirs[s], localdir.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tree.Close() })
		o.Tree[s] = tree
	}
	for i := range n {
		name := filepath.Join(dirs[0], fmt.Sprintf("d%03d/f%06d", i/1000, i))
		if i%1000 == 0 {
			_ = os.MkdirAll(filepath.Dir(name), 0o700)
		}
		if err := os.WriteFile(name, fmt.Append(nil, i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := pair.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"first", "nothing", "all renamed"} {
		if what == "all renamed" {
			if err := os.Rename(filepath.Join(dirs[0], "d000"), filepath.Join(dirs[0], "renamed")); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		rep, err := p.Run(t.Context(), pair.RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d steps, %d bytes, %d agreed, %.2f s", what, len(rep.Steps), rep.Bytes, rep.Agreed, time.Since(began).Seconds())
		if want := map[string]int{"first": n + (n+999)/1000, "nothing": 0, "all renamed": 1}[what]; len(rep.Steps) != want || what != "first" && rep.Bytes > 0 {
			t.Errorf("%s: got %d steps and %d bytes, want %d steps", what, len(rep.Steps), rep.Bytes, want)
		}
	}
}

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheaf-drive/sheaf/internal/testkit"
	"github.com/sheaf-drive/sheaf/sync/remote/remotetest"
)

// verdict is what a job on a replica found and did, as --json prints it.
type verdict struct {
	State, Error string
	Replica      struct {
		Packs, Damaged, Missing int64
		Findings                []struct{ Blob, Reason string }
	}
}

// onReplica runs a job on a replica, which has to end with that code.
func (m *machine) onReplica(t *testing.T, want int, args ...string) (v verdict) {
	t.Helper()
	code, out, errs := m.run(t, append(append([]string{"replica"}, args...), "--json")...)
	if code != want {
		t.Fatalf("sheaf replica %s: exit %d, want %d\n%s%s", strings.Join(args, " "), code, want, out, errs)
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return v
}

// spoil damages a file in one of the ways in which disks and people do it.
func spoil(t *testing.T, path string, how int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	switch how % 4 {
	case 0:
		b[len(b)/2] ^= 1
	case 1:
		b = b[:len(b)/2]
	case 2:
		clear(b[len(b)/3 : len(b)/3+100])
	case 3:
		b = append(b, "more"...)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// X4: of the packs at one server some are damaged and some are gone: in full twenty and five of 1.2 GB, else two and one. A device that has put
// none of them finds just these, and heals them from another server; then there is nothing to find, the two servers have the same
// bytes, and a third device opens the healed one alone.
func TestServers_DamagedAndMissingPacksAreFoundAndHealed(t *testing.T) {
	const size = 48_000_000 // of a file; packs are full, for small ones would be put together
	damaged, missing, files := 2, 1, 3
	if inFull() {
		damaged, missing, files = 20, 5, 25
	}
	places := map[string]func(testing.TB, ...remotetest.Setting) (*remotetest.Server, remotetest.Place){"webdav": remotetest.WebDAV, "s3": remotetest.S3}
	for name, start := range places {
		t.Run(name, func(t *testing.T) {
			_, bad := start(t)
			goodServer, good := remotetest.SFTP(t)
			r := testkit.Rand(testkit.Seed(t))
			first := newMachine(t)
			words := begin(t, first, bad)
			src := filepath.Join(filepath.Dir(first.home), "src")
			if err := os.Mkdir(src, 0o755); err != nil {
				t.Fatal(err)
			}
			add := addArgs(t, filepath.Dir(first.home), "good", good)
			first.sheaf(t, add...)
			first.sheaf(t, "replica", "add", "place:"+bad.Path)
			first.sheaf(t, "replica", "add", "good:"+good.Path)
			for i := range files {
				file := filepath.Join(src, fmt.Sprint(i))
				writeRandom(t, file, r.Int64(), size, 0, 1)
			}
			first.sheaf(t, "cp", src+"/.", "sheaf:/")
			first.sheaf(t, "wait", "--copies", "3", "--timeout", "20m")
			want := treeOf(t, src)

			second := newMachine(t)
			second.sheaf(t, addArgs(t, filepath.Dir(second.home), "good", good)...)
			second.sheaf(t, "init", "--from", "good:"+good.Path, "--recovery-file", words)
			second.sheaf(t, addArgs(t, filepath.Dir(second.home), "place", bad)...)
			second.sheaf(t, "replica", "add", "place:"+bad.Path)
			second.sheaf(t, "replica", "sync")
			v := second.onReplica(t, 0, "verify", "place")
			if v.State != "done" || v.Replica.Damaged+v.Replica.Missing != 0 {
				t.Fatalf("before anything is damaged, verify finds %+v", v)
			}

			at := filepath.Join(driveDir(bad), "packs")
			all := slices.Sorted(maps.Keys(packsBelow(t, driveDir(bad))))
			own := packsBelow(t, filepath.Join(second.home, "store"))
			all = slices.DeleteFunc(all, func(name string) bool { _, mine := own[name]; return mine })
			if len(all) < damaged+missing+2 {
				t.Fatalf("only %d packs are there", len(all))
			}
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			hurt := map[string]bool{}
			for i, p := range all[:damaged+missing] {
				hurt["packs/"+filepath.ToSlash(p)] = true
				if i < damaged {
					spoil(t, filepath.Join(at, p), i)
				} else if err := os.Remove(filepath.Join(at, p)); err != nil {
					t.Fatal(err)
				}
			}

			v = second.onReplica(t, 13, "verify", "place")
			if v.Replica.Damaged != int64(damaged) || v.Replica.Missing != int64(missing) || len(v.Replica.Findings) != damaged+missing {
				t.Errorf("verify finds %d damaged and %d missing, %d in all; want %d and %d", v.Replica.Damaged, v.Replica.Missing, len(v.Replica.Findings), damaged, missing)
			}
			for _, f := range v.Replica.Findings {
				if !hurt[f.Blob] {
					t.Errorf("verify says of %s, which nobody touched: %s", f.Blob, f.Reason)
				}
			}
			if errs := second.fails(t, 13, "replica", "verify", "place"); !strings.Contains(errs, fmt.Sprintf("%d packs are damaged and %d are missing", damaged, missing)) || !strings.Contains(errs, "try: sheaf replica heal place") {
				t.Errorf("verify says for people: %s", errs)
			}
			if v := second.onReplica(t, 0, "verify", "good"); v.Replica.Damaged+v.Replica.Missing != 0 {
				t.Errorf("the good server is said to be damaged: %+v", v)
			}

			v = second.onReplica(t, 0, "heal", "place")
			if v.Replica.Packs != int64(damaged+missing) || v.Replica.Damaged != int64(damaged) || v.Replica.Missing != int64(missing) || len(v.Replica.Findings) != 0 {
				t.Errorf("heal says: %+v", v)
			}
			checked := second.onReplica(t, 0, "verify", "place")
			if int(checked.Replica.Packs) < len(all) || checked.Replica.Damaged+checked.Replica.Missing != 0 {
				t.Errorf("verify after heal: %+v", checked)
			}
			if out := second.sheaf(t, "replica", "heal", "place"); !strings.Contains(out, "healed 0 packs") {
				t.Errorf("heal once more: %s", out)
			}
			for _, p := range all {
				a, err := os.ReadFile(filepath.Join(at, p))
				b, berr := os.ReadFile(filepath.Join(driveDir(good), "packs", p))
				if err != nil || berr != nil || !bytes.Equal(a, b) {
					t.Errorf("pack %s is not the same at both servers (%v, %v)", p, err, berr)
				}
			}

			goodServer.Kill()
			third := newMachine(t)
			join(t, third, bad, words)
			back := filepath.Join(filepath.Dir(third.home), "back")
			third.sheaf(t, "cp", "sheaf:/.", back)
			if diff := cmp.Diff(want, treeOf(t, back)); diff != "" {
				t.Errorf("from the healed server comes another tree (-want +got):\n%.2000s", diff)
			}
			if out := third.sheaf(t, "store", "verify"); !strings.Contains(out, "0 damaged") {
				t.Errorf("store verify: %s", out)
			}
			t.Logf("%d packs, of which %d were damaged and %d gone: all found, all healed from the other server, %d checked then", len(all), damaged, missing, checked.Replica.Packs)
		})
	}
}

package pebblekv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
	"github.com/sheaf-drive/sheaf/internal/testkit"
)

const (
	damageEnv   = "SHEAF_PEBBLEKV_TEST_DAMAGE"
	damagePairs = 20_000
)

// readAll says what an Open and a Scan of the folder give: "right", "damaged", or what is wrong.
func readAll(dir string) {
	ctx := context.Background()
	d, err := Open(ctx, Options{Dir: dir, Key: testKey(1)})
	seen := 0
	if err == nil {
		for p, scanErr := range d.Scan(ctx, nil, nil) {
			if scanErr != nil {
				err = scanErr
				break
			}
			want := fmt.Sprintf("%032d", seen)
			if string(p.Key) != want || !bytes.Equal(p.Value, binary.BigEndian.AppendUint64(make([]byte, 56), 3)) {
				err = fmt.Errorf("wrong pair %x=%x", p.Key, p.Value)
				break
			}
			seen++
		}
	}
	switch {
	case err == nil && seen == damagePairs:
		fmt.Println("right")
	case errors.Is(err, kv.ErrDamaged):
		fmt.Println("damaged")
	default:
		fmt.Println("wrong:", seen, err)
	}
}

// Whatever happens to a table, what is read is right, or ErrDamaged, at the latest after the process
// has died of it some times; never is it other data.
func TestOpen_DamagedTablesNeverGiveOtherData(t *testing.T) {
	rounds := 24
	if testing.Short() {
		rounds = 6
	}
	base := t.TempDir()
	d := open(t, base)
	for v := range uint64(4) {
		fill(t, d, damagePairs, v)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(base, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("got %d tables and error %v", len(tables), err)
	}
	r := testkit.Rand(testkit.Seed(t))
	count := map[string]int{}
	for i := range rounds {
		dir := copyDir(t, base)
		name := filepath.Join(dir, filepath.Base(tables[r.IntN(len(tables))]))
		p := readFile(t, name)
		how := "a bit was flipped"
		switch i % 4 {
		case 0:
			how, p = "cut off", p[:r.IntN(len(p))]
		case 1: // in the footer
			p[len(p)-1-r.IntN(min(64, len(p)))] ^= 1 << r.IntN(8)
		default:
			p[r.IntN(len(p))] ^= 1 << r.IntN(8)
		}
		if err := os.WriteFile(name, p, 0o600); err != nil {
			t.Fatal(err)
		}
		got := "died"
		for try := 0; got == "died" && try <= maxOpenings; try++ {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), damageEnv+"="+dir)
			out, err := cmd.Output()
			if err == nil {
				got = strings.TrimSpace(string(out))
			}
		}
		if got != "right" && got != "damaged" {
			t.Errorf("table %s, %s: %s", filepath.Base(name), how, got)
		}
		got, _, _ = strings.Cut(got, ":")
		count[how+": "+got]++
	}
	t.Log(count)
	if count["a bit was flipped: damaged"]+count["cut off: damaged"] == 0 {
		t.Error("no damage was found: the test shows nothing")
	}
}

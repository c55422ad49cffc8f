package pebblekv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/sheaf-drive/sheaf/chunkstore/kv"
)

const (
	memoryEnv      = "SHEAF_PEBBLEKV_TEST_MEMORY"
	memoryPairsEnv = "SHEAF_PEBBLEKV_TEST_PAIRS"
	maxResident    = 64 << 20 // bytes
)

// fillMany stores pairs of 32 and 64 bytes, a thousand in an Update, reads a part of them, and
// prints the most memory that the process had resident.
func fillMany(dir string) {
	n := 0
	_, err := fmt.Sscan(os.Getenv(memoryPairsEnv), &n)
	ctx := context.Background()
	var d *DB
	if err == nil {
		d, err = Open(ctx, Options{Dir: dir, Key: testKey(1)})
	}
	key := func(i int) []byte {
		h := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
		return h[:]
	}
	for i := 0; i < n && err == nil; i += 1000 {
		err = d.Update(ctx, func(tx kv.Tx) error {
			for j := range 1000 {
				k := key(i + j)
				if err := tx.Put(k, append(k, k...)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for i := 0; i < n && err == nil; i += 10 {
		_, err = d.Get(ctx, key(i))
	}
	if err == nil {
		err = d.Close()
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM:") {
			fmt.Print(line)
		}
	}
}

// A million pairs with SHEAF_LONG, 300,000 without.
func TestDB_MemoryIsBounded(t *testing.T) {
	if runtime.GOOS != "linux" || testing.Short() {
		t.Skip("takes its time, and reads /proc")
	}
	pairs := "300000"
	if os.Getenv("SHEAF_LONG") != "" {
		pairs = "1000000"
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), memoryEnv+"="+t.TempDir(), memoryPairsEnv+"="+pairs)
	out, err := cmd.Output()
	var kib int64
	if _, scanErr := fmt.Sscanf(string(bytes.TrimSpace(out)), "VmHWM: %d kB", &kib); err != nil || scanErr != nil {
		t.Fatalf("child: %v, %v\n%s", err, scanErr, out)
	}
	t.Logf("%s pairs: at most %d MiB resident", pairs, kib>>10)
	if kib<<10 > maxResident && !raceDetector {
		t.Errorf("%s pairs: %d MiB were resident, at most %d are wanted", pairs, kib>>10, maxResident>>20)
	}
}

//go:build linux

package nullfs

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"

	"github.com/sheaf-drive/sheaf/mount"
	"github.com/sheaf-drive/sheaf/mount/fuse"
)

// The benchmarks run the mount in a process of its own, as people do.
const (
	envServe   = "SHEAF_BENCH_SERVE"
	envThrough = "SHEAF_BENCH_THROUGH"
	envProfile = "SHEAF_BENCH_PROFILE" // a file for the server's CPU profile
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envServe); dir != "" {
		if err := serve(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serve mounts an FS until its standard input ends.
func serve(dir string) error {
	ctx := context.Background()
	m, err := fuse.Mount(ctx, New(uint32(os.Getuid()), uint32(os.Getgid())), dir,
		mount.Options{WriteThrough: os.Getenv(envThrough) != ""})
	if err != nil {
		return err
	}
	if name := os.Getenv(envProfile); name != "" {
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	fmt.Println("mounted")
	os.Stdin.Read(make([]byte, 1))
	if err := m.Unmount(ctx); err != nil {
		return m.Abort(ctx)
	}
	return nil
}

// each runs a benchmark with and without the write-back cache.
func each(b *testing.B, run func(b *testing.B, dir string)) {
	for _, mode := range []string{"writeback", "through"} {
		b.Run(mode, func(b *testing.B) {
			if _, err := os.Stat("/dev/fuse"); err != nil || os.Getuid() != 0 {
				b.Skip("needs /dev/fuse and root")
			}
			dir := b.TempDir()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), envServe+"="+dir)
			if mode == "through" {
				cmd.Env = append(cmd.Env, envThrough+"=1")
			}
			cmd.Stderr = os.Stderr
			in, err := cmd.StdinPipe()
			if err != nil {
				b.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			defer func() {
				in.Close()
				if err := cmd.Wait(); err != nil {
					b.Errorf("server: %v", err)
				}
			}()
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || strings.TrimSpace(line) != "mounted" {
				b.Fatalf("server said %q, %v", line, err)
			}
			run(b, dir)
		})
	}
}

const mib = 1 << 20

// BenchmarkNullWrite writes 256 MiB in pieces of 1 MiB and syncs.
func BenchmarkNullWrite(b *testing.B) {
	each(b, func(b *testing.B, dir string) {
		buf := make([]byte, mib)
		b.SetBytes(256 * mib)
		for b.Loop() {
			f, err := os.Create(filepath.Join(dir, "f"))
			if err != nil {
				b.Fatal(err)
			}
			for range 256 {
				if _, err := f.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	})
}

// BenchmarkNullRead reads 256 MiB in pieces of 1 MiB past the page cache of the last round.
func BenchmarkNullRead(b *testing.B) {
	each(b, func(b *testing.B, dir string) {
		f := sized(b, dir, 256*mib)
		defer f.Close()
		buf := make([]byte, mib)
		b.SetBytes(256 * mib)
		for b.Loop() {
			dropPages(b, f)
			for i := range int64(256) {
				if _, err := f.ReadAt(buf, i*mib); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// BenchmarkNullRandomWrite writes 4 KiB at random places of 1 GiB.
func BenchmarkNullRandomWrite(b *testing.B) {
	each(b, func(b *testing.B, dir string) {
		f := sized(b, dir, 1024*mib)
		defer f.Close()
		rng := rand.New(rand.NewPCG(1, 2))
		buf := make([]byte, 4096)
		for b.Loop() {
			if _, err := f.WriteAt(buf, rng.Int64N(1024*mib/4096)*4096); err != nil {
				b.Fatal(err)
			}
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkNullRandomRead reads 4 KiB at random places of 64 GiB.
func BenchmarkNullRandomRead(b *testing.B) {
	each(b, func(b *testing.B, dir string) {
		const size = 64 * 1024 * mib
		f := sized(b, dir, size)
		defer f.Close()
		// FADV_RANDOM: no read-ahead, as a database asks for.
		if _, _, e := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, 1, 0, 0); e != 0 {
			b.Fatal(e)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		buf := make([]byte, 4096)
		for b.Loop() {
			if _, err := f.ReadAt(buf, rng.Int64N(size/4096)*4096); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkNullCreate makes, writes (2 KiB) and closes files, 1,000 to a directory.
func BenchmarkNullCreate(b *testing.B) {
	each(b, func(b *testing.B, dir string) {
		buf := make([]byte, 2048)
		i := 0
		sub := ""
		for b.Loop() {
			if i%1000 == 0 {
				sub = filepath.Join(dir, fmt.Sprint("d", i/1000))
				if err := os.Mkdir(sub, 0o755); err != nil {
					b.Fatal(err)
				}
			}
			i++
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint("f", i)), buf, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// sized makes a file of that length and opens it.
func sized(b *testing.B, dir string, size int64) *os.File {
	f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		b.Fatal(err)
	}
	return f
}

// dropPages empties the page cache of a file.
func dropPages(b *testing.B, f *os.File) {
	if _, _, e := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, 4, 0, 0); e != 0 {
		b.Fatal(e)
	}
}

// Command cdc measures chunkers on data of a person's own: how fast they cut, and
// how much is stored of two versions of the data. It is not a test and judges
// nothing; the figures are in docs/adr/0003-chunker.md.
//
//	python3 bench/cdc/data.py DIR
//	go run ./bench/cdc DIR/source DIR/mail DIR/vm DIR/db DIR/media
//
// For each argument X it reads all files under X1 and then all under X2.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	"github.com/zeebo/blake3"

	"github.com/sheaf-drive/sheaf/chunkstore/cdc"
	"github.com/sheaf-drive/sheaf/chunkstore/chunk"
	"github.com/sheaf-drive/sheaf/chunkstore/seal"
)

// entryCost is what one chunk costs beside its own bytes, in bytes: its entries in
// directory of the pack, index and file node.
const entryCost = 300

// A candidate is a chunker under test.
type candidate struct {
	name string
	cut  func(rest []byte) int // length of the first chunk of rest
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench/cdc:", err)
		os.Exit(1)
	}
}

func run(kinds []string, out io.Writer) error {
	if len(kinds) == 0 {
		return errors.New("name at least one prefix of directories")
	}
	list, err := candidates()
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "| data | chunker | cut MB/s | all MB/s | chunks | first, MB | second adds, MB | together, MB |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|")
	for _, kind := range kinds {
		first, err := load(kind + "1")
		if err != nil {
			return err
		}
		second, err := load(kind + "2")
		if err != nil {
			return err
		}
		for _, c := range list {
			row, err := measure(c, first, second)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "| %s | %s | %s |\n", filepath.Base(kind), c.name, row)
		}
	}
	return nil
}

// candidates returns the chunkers of package cdc in three sizes, and FastCDC as
// the library's own reader runs it, without our rule for runs of zeros.
func candidates() ([]candidate, error) {
	var list []candidate
	for _, avg := range []uint32{256 << 10, 512 << 10, 1 << 20} {
		for _, algorithm := range []string{cdc.Rabin, cdc.FastCDC} {
			h := blake3.New()
			_, _ = h.WriteString(algorithm)
			p, err := cdc.NewParams(algorithm, h.Digest())
			if err != nil {
				return nil, err
			}
			p.Min, p.Avg, p.Max = avg/4, avg, avg*4
			c, err := cdc.New(p)
			if err != nil {
				return nil, err
			}
			list = append(list, candidate{fmt.Sprintf("%s %d KiB", algorithm, avg>>10), func(b []byte) int { return c.Cut(b, true) }})
		}
		opts := &chunkers.ChunkerOpts{MinSize: int(avg) / 4, NormalSize: int(avg), MaxSize: int(avg) * 4, Key: make([]byte, 32)}
		c, err := chunkers.NewChunkerBuffer("fastcdc-v1.0.0", bytes.NewReader(nil), opts, make([]byte, opts.MaxSize))
		if err != nil {
			return nil, err
		}
		list = append(list, candidate{fmt.Sprintf("go-cdc-chunkers %d KiB", avg>>10), func(b []byte) int {
			c.Reset(bytes.NewReader(b[:min(len(b), opts.MaxSize)]))
			piece, err := c.Next()
			if err != nil && !errors.Is(err, io.EOF) {
				panic(err)
			}
			return len(piece)
		}})
	}
	p, err := cdc.NewParams(cdc.Fixed, nil)
	if err != nil {
		return nil, err
	}
	c, err := cdc.New(p)
	if err != nil {
		return nil, err
	}
	return append(list, candidate{"fixed 1024 KiB", func(b []byte) int { return c.Cut(b, true) }}), nil
}

// load reads all files under dir.
func load(dir string) ([][]byte, error) {
	var all [][]byte
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read data: %w", err)
	}
	return all, nil
}

// measure stores both versions with c and tells the figures of one row.
func measure(c candidate, versions ...[][]byte) (string, error) {
	sealer, err := seal.NewSealer(seal.Secrets{}, seal.AESGCM, seal.Default)
	if err != nil {
		return "", err
	}
	known := map[seal.CID]bool{}
	var cutting, whole time.Duration
	var bytesIn, stored, chunks int64
	var after []int64
	var sealed []byte
	for _, files := range versions {
		for _, rest := range files {
			bytesIn += int64(len(rest))
			begin := time.Now()
			for len(rest) > 0 {
				before := time.Now()
				n := c.cut(rest)
				cutting += time.Since(before)
				if id := sealer.CID(chunk.Data, rest[:n]); !known[id] {
					known[id] = true
					if sealed, _, _, err = sealer.Seal(sealed[:0], chunk.Data, rest[:n]); err != nil {
						return "", err
					}
					stored += int64(len(sealed)) + entryCost
				}
				chunks++
				rest = rest[n:]
			}
			whole += time.Since(begin)
		}
		after = append(after, stored)
	}
	rate := func(d time.Duration) float64 { return float64(bytesIn) / 1e6 / d.Seconds() }
	mb := func(n int64) float64 { return float64(n) / 1e6 }
	return fmt.Sprintf("%.0f | %.0f | %d | %.1f | %.1f | %.1f", rate(cutting), rate(whole), chunks,
		mb(after[0]), mb(after[1]-after[0]), mb(after[1])), nil
}

//go:build linux

// Command exercise runs package exerciser on a folder from a shell. It is no part of
// the product.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheaf-drive/sheaf/mount/mounttest/exerciser"
)

func main() {
	ops := flag.Int("ops", 100_000, "operations on each file")
	seed := flag.Uint64("seed", 0, "number that all choices follow from; 0: one by chance")
	files := flag.Int("files", 1, "files at the same time")
	maxSize := flag.Int64("max-size", 1<<20, "bytes that a file may get")
	maxOp := flag.Int64("max-op", 0, "bytes of one operation at most; 0: a quarter of max-size")
	without := flag.String("without", "", "kinds of operations to leave out, with commas between them")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: exercise [flags] FOLDER")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c := exerciser.Config{Ops: *ops, MaxSize: *maxSize, MaxOp: *maxOp}
	if *without != "" {
		for kind := range strings.SplitSeq(*without, ",") {
			c.Without = append(c.Without, exerciser.Kind(kind))
		}
	}
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for i := range *files {
		own := c
		own.Seed = *seed + uint64(i)
		own.Path = filepath.Join(flag.Arg(0), fmt.Sprintf("exercised-%d", own.Seed))
		g.Go(func() error { return exerciser.Run(ctx, own) })
	}
	if err := g.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, "exercise:", err)
		os.Exit(1)
	}
	fmt.Printf("seed %d: %d files, %d operations each, all right, in %v\n",
		*seed, *files, *ops, time.Since(start).Round(time.Millisecond))
}

// Command sheaf is the drive at the command line: every verb is a call of the
// contract (api/proto), answered by the daemon or, where none runs, by this
// process under a lock. It decides nothing about files itself.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

// run does the command and returns its exit code.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once, as if there were no handler.
	context.AfterFunc(ctx, stop)
	spareMemory()
	if err := haveRoots(os.Getenv, rootPlaces); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "sheaf: no server of the web is believed:", err)
	}
	return command(ctx, &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}, os.Args[1:])
}

package measure

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
)

// Main is the main function of a program that measures. An interruption ends ctx, and the program then takes away what it has made; a second one changes nothing.
func Main(name string, command func(ctx context.Context, args []string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
}

// Flags are those of each program that measures in rounds.
type Flags struct {
	Rounds, Scale int
	Sheaf         string // the program
	Dir           string // the folder on the disk that all are measured on
	Out           string // the file of the lines of JSON; "" for none
}

// Parse reads the flags of a program, and others that more adds to them. rounds is how many there are if neither a flag nor ROUNDS says so. The error is flag.ErrHelp if
// nothing but help was asked for.
func (x *Flags) Parse(name string, rounds int, args []string, more func(f *flag.FlagSet)) error {
	if s := os.Getenv("ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("ROUNDS: %w", err)
		}
		rounds = n
	}
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.IntVar(&x.Rounds, "rounds", rounds, "how often each row is measured (environment: ROUNDS)")
	f.IntVar(&x.Scale, "scale", 1, "divides all sizes and numbers")
	f.StringVar(&x.Sheaf, "sheaf", "bin/sheaf", "the `program` sheaf")
	f.StringVar(&x.Dir, "dir", os.TempDir(), "the `folder` on the disk that all are measured on")
	f.StringVar(&x.Out, "json", "", "a `file` for the results as lines of JSON")
	if more != nil {
		more(f)
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if x.Rounds < 1 || x.Scale < 1 || f.NArg() > 0 {
		return errors.New("rounds and scale are at least 1, and there are no arguments")
	}
	return nil
}

// Program returns the whole path of the program sheaf, which is there.
func (x *Flags) Program() (string, error) {
	full, err := filepath.Abs(x.Sheaf)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(full); err != nil {
		return "", fmt.Errorf("%w: run make build", err)
	}
	return full, nil
}

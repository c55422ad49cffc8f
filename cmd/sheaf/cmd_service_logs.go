package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// logLook is how often a log that is followed is looked at.
const logLook = 250 * time.Millisecond

func (a *app) serviceLogsCmd() *cobra.Command {
	var lines int
	var follow bool
	c := &cobra.Command{
		Use: "logs", Short: "Print what the daemon said last", Args: cobra.NoArgs,
		Long: `Prints the end of the log, which the service and a daemon that sheaf mount started share.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := os.Open(a.home.Log())
			if errors.Is(err, fs.ErrNotExist) {
				return coded(sheafv1.Code_CODE_NOT_FOUND, "sheaf service start", "there is no log at %s yet", a.home.Log())
			}
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			if err := lastLines(f, a.out, lines); err != nil || !follow {
				return err
			}
			return a.follow(cmd.Context(), f)
		},
	}
	c.Flags().IntVarP(&lines, "lines", "n", 100, "how many lines")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes, until interrupted")
	return c
}

// lastLines writes the last n lines of what f has, and leaves f behind them.
func lastLines(f io.ReadSeeker, w io.Writer, n int) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	const step = 64 << 10
	var tail []byte
	for at := end; at > 0 && bytes.Count(tail, []byte{'\n'}) <= n; {
		size := min(at, step)
		at -= size
		p := make([]byte, size)
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.ReadFull(f, p); err != nil {
			return err
		}
		tail = append(p, tail...)
	}
	if _, err := f.Seek(end, io.SeekStart); err != nil {
		return err
	}
	lines := bytes.SplitAfter(tail, []byte{'\n'})
	if len(lines) > 0 && len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	_, err = w.Write(bytes.Join(lines[max(0, len(lines)-n):], nil))
	return err
}

// follow writes what is appended to the log, and to the new one if another file takes its place.
func (a *app) follow(ctx context.Context, f *os.File) error {
	var next *os.File
	defer func() {
		if next != nil {
			_ = next.Close()
		}
	}()
	tick := time.NewTicker(logLook)
	defer tick.Stop()
	for {
		if _, err := io.Copy(a.out, f); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // that is how it ends
		case <-tick.C:
		}
		now, err := os.Stat(a.home.Log())
		if err != nil {
			continue // between two files
		}
		was, err := f.Stat()
		if err != nil {
			return err
		}
		if os.SameFile(now, was) {
			continue
		}
		if _, err := io.Copy(a.out, f); err != nil {
			return err
		}
		fresh, err := os.Open(a.home.Log())
		if err != nil {
			continue
		}
		if next != nil {
			_ = next.Close()
		}
		f, next = fresh, fresh
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// sheafPair is a drive on two devices, mounted on both. What is brought is written into the mount of the first, as a part of what is measured.
type sheafPair struct {
	*ends
	mounted string // of the first
}

func (s *sheafPair) call(ctx context.Context, device string, args ...string) ([]byte, error) {
	end := 0
	if device == "b" {
		end = 1
	}
	return s.output(ctx, end, []string{"SHEAF_HOME=" + filepath.Join(s.dir, device), "HOME=" + s.dir}, append([]string{s.c.programs[sheafName]}, args...)...)
}

func (s *sheafPair) start(ctx context.Context) error {
	s.mounted, s.source = s.source, ""
	for _, args := range [][]string{{"init", "--device-name", "first"}, {"mount", s.mounted}} {
		if _, err := s.call(ctx, "a", args...); err != nil {
			return err
		}
	}
	out, err := s.call(ctx, "a", "invite", "--no-wait", "--listen", s.addr[0]+":0", "--json")
	if err != nil {
		return err
	}
	_, link, _ := strings.Cut(string(out), `"link":"`)
	link, _, ok := strings.Cut(link, `"`)
	if !ok {
		return fmt.Errorf("no link in %q", out)
	}
	if _, err := s.call(ctx, "b", "join", "--yes", "--device-name", "second", link); err != nil {
		return err
	}
	_, err = s.call(ctx, "b", "mount", s.target)
	return err
}

func (s *sheafPair) does(step) string { return "" }

func (s *sheafPair) bring(ctx context.Context, st step, l *load) (written, cpu time.Duration, err error) {
	begin := time.Now()
	to := filepath.Join(s.mounted, st.at)
	switch {
	case st.rename != "":
		err = os.Rename(filepath.Join(s.mounted, st.rename), to)
	case st.from == "": // a turn, as one that asks whether there is anything new
		_, err = s.call(ctx, "a", "replica", "sync")
	default:
		took, rerr := runTook(ctx, s.dir, "cp", "-r", "-T", st.from, to)
		cpu, err = took.CPU, rerr
	}
	return time.Since(begin), cpu, err
}

// settle waits for the copy: whatever was written is in packs at the other device, and shown there.
func (s *sheafPair) settle(ctx context.Context) error {
	_, err := s.call(ctx, "a", "wait", "--copies", "2")
	return err
}

func (s *sheafPair) stop() error {
	var errs []error
	for _, device := range []string{"a", "b"} {
		if _, err := os.Stat(filepath.Join(s.dir, device)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := s.call(context.Background(), device, "stop", "--force"); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, s.ends.stop())...)
}

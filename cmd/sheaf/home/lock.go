package home

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ErrHeld says that another process has the lock.
var ErrHeld = errors.New("another sheaf process has the drive open")

// lockEvery is how often Lock looks whether it is free.
const lockEvery = 50 * time.Millisecond

// A Lock is the right to open the drive of a Home. The system takes it back when the
// process ends, however it ends.
type Lock struct{ f *os.File }

// TryLock takes the lock, or fails with an error that wraps ErrHeld and names who has it.
func (h Home) TryLock() (*Lock, error) {
	if err := h.Make(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(h.Data, "process.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := lockFile(f); err != nil {
		defer func() { _ = f.Close() }()
		if !errors.Is(err, ErrHeld) {
			return nil, fmt.Errorf("lock: %w", err)
		}
		b := make([]byte, 32)
		n, _ := f.ReadAt(b, 0)
		if pid := strings.TrimSpace(string(b[:n])); pid != "" {
			return nil, fmt.Errorf("%w (process %s)", err, pid)
		}
		return nil, err
	}
	// For people only, so that an error here says nothing of the lock.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &Lock{f}, nil
}

// Lock is TryLock that waits until wait has passed.
func (h Home) Lock(ctx context.Context, wait time.Duration) (*Lock, error) {
	end := time.Now().Add(wait)
	for {
		l, err := h.TryLock()
		if err == nil || !errors.Is(err, ErrHeld) || time.Now().After(end) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockEvery):
		}
	}
}

// Holder returns the process that took the lock last, or 0 if it is not known. It may have given it back.
func (h Home) Holder() int {
	b, err := os.ReadFile(filepath.Join(h.Data, "process.lock"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0
	}
	return pid
}

// Unlock gives the lock back.
func (l *Lock) Unlock() error { return l.f.Close() }

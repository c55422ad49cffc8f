package errno

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/sheaf-drive/sheaf/vfs"
)

func TestOf_WrappedErrorsKeepTheirNumber(t *testing.T) {
	for _, p := range table {
		for _, err := range []error{p.err, fmt.Errorf("a: %w", &fs.PathError{Op: "b", Path: "c", Err: p.err}), errors.Join(errors.New("x"), p.err)} {
			num, known := Of(err)
			if num != p.num || known != (p.num != syscall.EIO) {
				t.Errorf("Of(%v) = %v, %v; want %v", err, num, known, p.num)
			}
		}
	}
	if num, known := Of(nil); num != 0 || !known {
		t.Errorf("Of(nil) = %v, %v", num, known)
	}
}

func TestOf_WhatTheStoreLacksIsNotWhatTheCallerAskedFor(t *testing.T) {
	for _, err := range []error{
		fmt.Errorf("read chunk: %w", &fs.PathError{Op: "open", Path: "packs/ab", Err: syscall.ENOENT}),
		fmt.Errorf("%w: %w", vfs.ErrCorrupt, fs.ErrNotExist),
		fmt.Errorf("%w: %w", fs.ErrNotExist, vfs.ErrCorrupt),
		errors.New("something else"),
		syscall.EACCES,
	} {
		if num, known := Of(err); num != syscall.EIO || known {
			t.Errorf("Of(%v) = %v, %v; want EIO, false", err, num, known)
		}
	}
	full := &fs.PathError{Op: "write", Path: "journal", Err: syscall.ENOSPC}
	if num, known := Of(full); num != syscall.ENOSPC || !known {
		t.Errorf("Of(%v) = %v, %v; want ENOSPC, true", full, num, known)
	}
}

func TestFrom_IsTheWayBack(t *testing.T) {
	seen := map[syscall.Errno]bool{}
	for _, p := range table {
		if seen[p.num] {
			continue
		}
		seen[p.num] = true
		if err := From(p.num); !errors.Is(err, p.err) {
			t.Errorf("From(%v) = %v, want %v", p.num, err, p.err)
		}
	}
	if err := From(0); err != nil {
		t.Errorf("From(0) = %v", err)
	}
	if err := From(syscall.EACCES); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("From(EACCES) = %v", err)
	}
	if err := From(syscall.ENOTCONN); err != error(syscall.ENOTCONN) {
		t.Errorf("From(ENOTCONN) = %v", err)
	}
}

func TestTranslator_LogsOnceAndNotTheExpected(t *testing.T) {
	var out bytes.Buffer
	tr := Translator{Log: slog.New(slog.NewTextHandler(&out, nil))}
	for _, err := range []error{nil, fs.ErrNotExist, context.Canceled, vfs.ErrNoSpace} {
		tr.Of("read", err)
	}
	if out.Len() != 0 {
		t.Errorf("logged what is expected: %s", out.String())
	}
	for range 1000 {
		if num := tr.Of("read", vfs.ErrCorrupt); num != syscall.EIO {
			t.Fatalf("got %v, want EIO", num)
		}
	}
	if n := strings.Count(out.String(), "operation failed"); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
	if tr.left != 999 {
		t.Errorf("left out %d, want 999", tr.left)
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/home"
	"github.com/sheaf-drive/sheaf/vfs"
)

func TestFail_GivesTheCodesThatScriptsRelyOn(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("whatever"), 1},
		{usagef("", "no"), 2},
		{sheaf.ErrNeedSecret, 2},
		{coded(sheafv1.Code_CODE_PARTIAL, "", "some"), 3},
		{fmt.Errorf("snapshot: %w", sheaf.ErrNoSnapshot), 4},
		{coded(sheafv1.Code_CODE_TEMPORARY, "", "later"), 5},
		{coded(sheafv1.Code_CODE_DECISION, "", "you"), 6},
		{vfs.ErrNoSpace, 8},
		{errNoChange, 9},
		{sheaf.ErrNoDrive, 10},
		{sheaf.ErrLocked, 11},
		{home.ErrHeld, 11},
		{sheaf.ErrPassphrase, 12},
		{vfs.ErrCorrupt, 13},
		{errNoDaemon(), 14},
		{context.Canceled, 130},
	} {
		var out bytes.Buffer
		a := &app{err: &out, json: true}
		if got := a.fail(context.Background(), c.err); got != c.want {
			t.Errorf("%v: got %d, want %d", c.err, got, c.want)
		}
		if c.err == nil || errors.Is(c.err, errNoChange) {
			continue
		}
		var m map[string]any
		if err := json.Unmarshal(out.Bytes(), &m); err != nil || m["kind"] != "error" || m["code"] == "" || m["exit"] != float64(c.want) {
			t.Errorf("%v: printed %q: %v", c.err, out.String(), err)
		}
	}
}

func TestFail_InterruptedIs130WhateverBroke(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := &app{err: new(bytes.Buffer)}
	if got := a.fail(ctx, errors.New("broken pipe")); got != 130 {
		t.Errorf("got %d, want 130", got)
	}
	a.served = true
	if got := a.fail(ctx, errors.New("unmount")); got != 1 {
		t.Errorf("a daemon that could not end well: got %d, want 1", got)
	}
}

func TestCodes_EachHasAnExitCodeOrIsAnError(t *testing.T) {
	plain := map[sheafv1.Code]bool{
		sheafv1.Code_CODE_UNSPECIFIED: true, sheafv1.Code_CODE_EXISTS: true, sheafv1.Code_CODE_WRONG_KIND: true, sheafv1.Code_CODE_NOT_EMPTY: true,
		sheafv1.Code_CODE_READ_ONLY: true, sheafv1.Code_CODE_PERMISSION: true, sheafv1.Code_CODE_UNSUPPORTED: true,
	}
	for n, name := range sheafv1.Code_name {
		if _, ok := exitCodes[sheafv1.Code(n)]; ok == plain[sheafv1.Code(n)] {
			t.Errorf("%s: decide what scripts see of it", name)
		}
	}
}

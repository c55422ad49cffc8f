package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/rpc"
	"github.com/sheaf-drive/sheaf/api/service"
	"github.com/sheaf-drive/sheaf/cmd/sheaf/home"
)

// The exit codes that are no kind of error of the contract.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitNoChange = 9
)

// exitCodes is what a script sees of each kind of error.
var exitCodes = map[sheafv1.Code]int{
	sheafv1.Code_CODE_USAGE:        exitUsage,
	sheafv1.Code_CODE_NEED_SECRET:  exitUsage,
	sheafv1.Code_CODE_PARTIAL:      3,
	sheafv1.Code_CODE_NOT_FOUND:    4,
	sheafv1.Code_CODE_TEMPORARY:    5,
	sheafv1.Code_CODE_DECISION:     6,
	sheafv1.Code_CODE_SIGN_IN:      7,
	sheafv1.Code_CODE_FORBIDDEN:    7,
	sheafv1.Code_CODE_LIMIT:        8,
	sheafv1.Code_CODE_NO_DRIVE:     10,
	sheafv1.Code_CODE_LOCKED:       11,
	sheafv1.Code_CODE_WRONG_SECRET: 12,
	sheafv1.Code_CODE_INTEGRITY:    13,
	sheafv1.Code_CODE_NO_DAEMON:    14,
	sheafv1.Code_CODE_CANCELED:     130,
}

// usagef returns an error of how the command was called.
func usagef(hint, format string, args ...any) error {
	return &service.Error{Code: sheafv1.Code_CODE_USAGE, Hint: hint, Err: fmt.Errorf(format, args...)}
}

// coded returns an error of a kind.
func coded(code sheafv1.Code, hint, format string, args ...any) error {
	return &service.Error{Code: code, Hint: hint, Err: fmt.Errorf(format, args...)}
}

// errNoChange ends a command that found nothing to do and was asked to say so.
var errNoChange = errors.New("nothing to do")

// explain returns what err is, whoever made it.
func explain(err error) *service.Error {
	var e *service.Error
	switch {
	case errors.As(err, &e):
		return service.Explain(err)
	case errors.Is(err, home.ErrHeld):
		return &service.Error{Code: sheafv1.Code_CODE_LOCKED, Hint: "wait until it has ended", Err: err}
	}
	return rpc.FromWire(err)
}

// fail says what went wrong, why, and what to do, and returns the exit code.
func (a *app) fail(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errNoChange) {
		return exitNoChange
	}
	e := explain(err)
	code, known := exitCodes[e.Code]
	if !known {
		code = exitError
	}
	if ctx.Err() != nil && !a.served { // whatever it broke, it was interrupted
		code, e = exitCodes[sheafv1.Code_CODE_CANCELED], &service.Error{Code: sheafv1.Code_CODE_CANCELED, Err: errors.New("interrupted")}
	}
	if a.json {
		line, _ := json.Marshal(errorRecord{"error", codeName(e.Code), code, e.Error(), e.Hint})
		_, _ = a.err.Write(append(checked(line), '\n'))
		return code
	}
	_, _ = fmt.Fprintln(a.err, "sheaf: "+printable(e.Error()))
	if e.Hint != "" {
		_, _ = fmt.Fprintln(a.err, "  try: "+e.Hint)
	}
	return code
}

// codeName is how scripts call a kind of error: not_found, locked, ….
func codeName(c sheafv1.Code) string {
	if c == sheafv1.Code_CODE_UNSPECIFIED {
		return "error"
	}
	return strings.ToLower(strings.TrimPrefix(c.String(), "CODE_"))
}

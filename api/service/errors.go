package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
	"github.com/sheaf-drive/sheaf/api/service/transfer"
	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
	"github.com/sheaf-drive/sheaf/sync/remote/book"
	"github.com/sheaf-drive/sheaf/sync/remote/signin"
	"github.com/sheaf-drive/sheaf/sync/trust"
	"github.com/sheaf-drive/sheaf/sync/trust/lookup"
	"github.com/sheaf-drive/sheaf/sync/trust/pgp"
	"github.com/sheaf-drive/sheaf/vfs"
)

// An Error is an error with its kind in the contract and what to do about it.
type Error struct {
	Code sheafv1.Code
	Hint string // one sentence or one command; may be empty
	Err  error
}

// Error returns the text of the error, without the hint.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns what it wraps.
func (e *Error) Unwrap() error { return e.Err }

// errorf returns an Error.
func errorf(code sheafv1.Code, hint, format string, args ...any) error {
	return &Error{Code: code, Hint: hint, Err: fmt.Errorf(format, args...)}
}

// codes is the one table from the errors of the floors below to the contract. The first
// that fits counts.
var codes = []struct {
	err  error
	code sheafv1.Code
	hint string
}{
	{context.Canceled, sheafv1.Code_CODE_CANCELED, ""},
	{context.DeadlineExceeded, sheafv1.Code_CODE_TEMPORARY, ""},
	{access.ErrForbidden, sheafv1.Code_CODE_FORBIDDEN, "ask for a token that may, or use the unix socket: sheaf token create"},
	{access.ErrToken, sheafv1.Code_CODE_NOT_FOUND, "sheaf token list"},
	{access.ErrTooMany, sheafv1.Code_CODE_LIMIT, "sheaf token revoke ID…"},
	{signin.ErrDenied, sheafv1.Code_CODE_DECISION, "sheaf remote auth NAME"},
	{remote.ErrSignIn, sheafv1.Code_CODE_SIGN_IN, "sheaf remote auth NAME"},
	{blob.ErrUnauthorized, sheafv1.Code_CODE_SIGN_IN, "sheaf remote edit NAME key=value …, or sheaf remote auth NAME"},
	{blob.ErrMangled, sheafv1.Code_CODE_INTEGRITY, ""},
	{remote.ErrIllegal, sheafv1.Code_CODE_USAGE, ""},
	{remote.ErrKind, sheafv1.Code_CODE_USAGE, "sheaf remote kinds"},
	{remote.ErrName, sheafv1.Code_CODE_USAGE, ""},
	{remote.ErrSyntax, sheafv1.Code_CODE_USAGE, "write nas:path, \":kind,option=value:path\" or a folder"},
	{remote.ErrOption, sheafv1.Code_CODE_USAGE, "sheaf remote kinds KIND"},
	{remote.ErrMissing, sheafv1.Code_CODE_USAGE, "sheaf remote kinds KIND"},
	{book.ErrClosed, sheafv1.Code_CODE_NEED_SECRET, "give it at a terminal, or set SHEAF_PASSWORD_FILE or SHEAF_RECOVERY_FILE"},
	{book.ErrDamaged, sheafv1.Code_CODE_INTEGRITY, ""},
	{book.ErrFormat, sheafv1.Code_CODE_UNSUPPORTED, ""},
	{sheaf.ErrNoDrive, sheafv1.Code_CODE_NO_DRIVE, "sheaf init"},
	{sheaf.ErrExists, sheafv1.Code_CODE_EXISTS, "sheaf status"},
	{sheaf.ErrLocked, sheafv1.Code_CODE_LOCKED, "wait until the other command has ended, or see who runs: sheaf doctor"},
	{sheaf.ErrPassphrase, sheafv1.Code_CODE_WRONG_SECRET, ""},
	{sheaf.ErrNeedSecret, sheafv1.Code_CODE_NEED_SECRET, "give it at a terminal, or set SHEAF_PASSWORD_FILE or SHEAF_RECOVERY_FILE"},
	{sheaf.ErrNoDevice, sheafv1.Code_CODE_NOT_FOUND, "sheaf device list"},
	{sheaf.ErrRevoked, sheafv1.Code_CODE_EXISTS, "sheaf device list"},
	{sheaf.ErrSelf, sheafv1.Code_CODE_USAGE, "sheaf device revoke on another device"},
	{sheaf.ErrNotMember, sheafv1.Code_CODE_PERMISSION, "this device was revoked: what it has not sent yet is still here; join anew with sheaf init --from"},
	{trust.ErrNoKey, sheafv1.Code_CODE_NOT_FOUND, "sheaf key list"},
	{trust.ErrExists, sheafv1.Code_CODE_EXISTS, "sheaf key list"},
	{trust.ErrFull, sheafv1.Code_CODE_LIMIT, "sheaf key forget KEY"},
	{trust.ErrDamaged, sheafv1.Code_CODE_INTEGRITY, "move the file away: with it go what was verified and the user's own key, which is to be imported again"},
	{trust.ErrFormat, sheafv1.Code_CODE_UNSUPPORTED, ""},
	{pgp.ErrNoKey, sheafv1.Code_CODE_USAGE, ""},
	{pgp.ErrTooLarge, sheafv1.Code_CODE_LIMIT, ""},
	{pgp.ErrSecret, sheafv1.Code_CODE_USAGE, "if it is your own: sheaf key import --own FILE"},
	{pgp.ErrNoSecret, sheafv1.Code_CODE_UNSUPPORTED, ""},
	{pgp.ErrPassphrase, sheafv1.Code_CODE_WRONG_SECRET, ""},
	{pgp.ErrSignature, sheafv1.Code_CODE_INTEGRITY, ""},
	{pgp.ErrNameless, sheafv1.Code_CODE_USAGE, ""},
	{pgp.ErrUnusable, sheafv1.Code_CODE_USAGE, ""},
	{lookup.ErrNone, sheafv1.Code_CODE_NOT_FOUND, ""},
	{lookup.ErrAddress, sheafv1.Code_CODE_USAGE, ""},
	{lookup.ErrServer, sheafv1.Code_CODE_USAGE, ""},
	{sheaf.ErrNoSnapshot, sheafv1.Code_CODE_NOT_FOUND, "sheaf snapshot list"},
	{vfs.ErrCorrupt, sheafv1.Code_CODE_INTEGRITY, "sheaf store verify"},
	{vfs.ErrReadOnly, sheafv1.Code_CODE_READ_ONLY, ""},
	{vfs.ErrNotDir, sheafv1.Code_CODE_WRONG_KIND, ""},
	{vfs.ErrIsDir, sheafv1.Code_CODE_WRONG_KIND, ""},
	{vfs.ErrNotEmpty, sheafv1.Code_CODE_NOT_EMPTY, ""},
	{vfs.ErrName, sheafv1.Code_CODE_USAGE, ""},
	{vfs.ErrNameLen, sheafv1.Code_CODE_USAGE, ""},
	{vfs.ErrRange, sheafv1.Code_CODE_USAGE, ""},
	{vfs.ErrTooBig, sheafv1.Code_CODE_LIMIT, ""},
	{vfs.ErrTooMany, sheafv1.Code_CODE_LIMIT, ""},
	{blob.ErrNoSpace, sheafv1.Code_CODE_LIMIT, "make room at the place"},
	{vfs.ErrNoSpace, sheafv1.Code_CODE_LIMIT, "make room on the disk of the store: sheaf store path"},
	{vfs.ErrQuota, sheafv1.Code_CODE_LIMIT, ""},
	{syscall.ENOSPC, sheafv1.Code_CODE_LIMIT, "make room on the disk"},
	{wirepath.ErrText, sheafv1.Code_CODE_USAGE, ""},
	{blob.ErrTemporary, sheafv1.Code_CODE_TEMPORARY, ""},
	{remote.ErrIncomplete, sheafv1.Code_CODE_TEMPORARY, ""},
	{transfer.ErrBusy, sheafv1.Code_CODE_TEMPORARY, "wait until the other copy has ended"},
	{transfer.ErrChanged, sheafv1.Code_CODE_TEMPORARY, "copy it again when nobody writes to it"},
	{errors.ErrUnsupported, sheafv1.Code_CODE_UNSUPPORTED, ""},
	{fs.ErrNotExist, sheafv1.Code_CODE_NOT_FOUND, ""},
	{fs.ErrExist, sheafv1.Code_CODE_EXISTS, ""},
	{fs.ErrPermission, sheafv1.Code_CODE_PERMISSION, ""},
	{fs.ErrInvalid, sheafv1.Code_CODE_USAGE, ""},
	{remote.ErrChanged, sheafv1.Code_CODE_TEMPORARY, "somebody else changes it: look at it again"},
}

// Explain returns err as an Error: itself if it is one, else by the table of what it
// wraps. Of nil it returns nil.
func Explain(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return &Error{Code: e.Code, Hint: e.Hint, Err: err}
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return &Error{Code: c.code, Hint: c.hint, Err: err}
		}
	}
	return &Error{Err: err}
}

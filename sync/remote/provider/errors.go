package provider

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/textproto"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pkg/sftp"
	rclone "github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"

	"github.com/sheaf-drive/sheaf/chunkstore/blob"
	"github.com/sheaf-drive/sheaf/sync/remote"
)

// failed says what an error of a backend means, in the words of package blob. Each backend has errors of its own, so it
// looks for what they have in common: a status of HTTP, a code of FTP or SFTP, a failure of the network.
func (b *bucket) failed(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		if errors.Is(err, ctx.Err()) {
			return err
		}
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	case known(err):
		return err
	case b.m.refused() != nil:
		return fmt.Errorf("%w: %w", b.m.refused(), noNotExist{err})
	case full(err):
		return fmt.Errorf("%w: %w", blob.ErrNoSpace, err)
	case temporary(err):
		return later(fmt.Errorf("%w: %w", blob.ErrTemporary, noNotExist{err}), err)
	case unauthorized(err):
		return fmt.Errorf("%w: %w", blob.ErrUnauthorized, err)
	}
	return err
}

// known reports whether an error says already what it means.
func known(err error) bool {
	return slices.ContainsFunc([]error{
		blob.ErrName, blob.ErrNoSpace, blob.ErrSize, blob.ErrMangled, blob.ErrTemporary, blob.ErrUnauthorized, errors.ErrUnsupported,
		fs.ErrNotExist, fs.ErrExist, fs.ErrClosed,
	}, func(e error) bool { return errors.Is(err, e) })
}

// noNotExist is an error of which nobody is told that it is fs.ErrNotExist.
type noNotExist struct{ error }

// Unwrap returns nil: the parts of the error are not for comparing.
func (noNotExist) Unwrap() error { return nil }

// notThere reports whether a call for one blob failed because it is not there.
func notThere(err error) bool {
	for _, e := range []error{rclone.ErrorIsDir, rclone.ErrorNotAFile, rclone.ErrorIsFile, syscall.ENOTDIR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return vanished(err)
}

// vanished reports whether there is nothing of that name, also no folder.
func vanished(err error) bool {
	for _, e := range []error{rclone.ErrorObjectNotFound, rclone.ErrorDirNotFound, fs.ErrNotExist} {
		if errors.Is(err, e) {
			return true
		}
	}
	if err != nil && belowFile(err) {
		return true
	}
	s := status(err)
	return ntStatus(err) == ntNoShare || (s == http.StatusNotFound || s == http.StatusGone) && !wrongKeys(err)
}

// belowFile reports whether the backends of OneDrive or Dropbox say that a path goes through a file, or a notebook, in errors of which no type says it. Only what wraps no other error
// is looked at: the text of others may have names of files in it.
func belowFile(err error) bool {
	switch e := err.(type) { //nolint:errorlint // it goes through all that are wrapped
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), belowFile)
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return belowFile(inner)
		}
		return false
	}
	text := err.Error()
	return text == "found file when looking for folder" || text == "found OneNote file when looking for folder" || strings.HasPrefix(text, "path/not_folder/")
}

// refused reports whether a server says that a call makes no sense.
func refused(err error) bool {
	switch status(err) {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusConflict:
		return true
	}
	return ntRefused[ntStatus(err)]
}

// later adds how long the place asks to wait, if it does.
func later(err, from error) error {
	if at := fserrors.RetryAfterErrorTime(from); !at.IsZero() {
		return blob.Later(err, time.Until(at))
	}
	if wait := remote.RetryAfter(header(from)); wait > 0 {
		return blob.Later(err, wait)
	}
	return err
}

// temporary reports whether the same call may succeed later.
func temporary(err error) bool {
	if errors.Is(err, blob.ErrTemporary) || isInUse(err) || ntBusy[ntStatus(err)] {
		return true
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) || ntDenied[ntStatus(err)] {
		return false
	}
	if s := status(err); s != 0 {
		switch s {
		case http.StatusRequestTimeout, http.StatusLocked, http.StatusTooEarly, http.StatusTooManyRequests:
			return true
		case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusInsufficientStorage:
			return false
		}
		if s >= 500 {
			return true
		}
		return fserrors.IsRetryError(err) // such as the rates that Google reports by 403
	}
	var ftp *textproto.Error
	if errors.As(err, &ftp) {
		return ftp.Code >= 400 && ftp.Code < 500
	}
	return fserrors.IsRetryError(err) || fserrors.ShouldRetry(err) || network(err) || gibberish(err)
}

// network reports whether the line to the place, and not the place, has failed.
func network(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &op), errors.As(err, &dns):
		return true
	case errors.As(err, &timeout) && timeout.Timeout():
		return true
	}
	for _, e := range []error{
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE,
		syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, sftp.ErrSSHFxConnectionLost, sftp.ErrSSHFxNoConnection,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// gibberish reports whether an answer was not in the form that it should have, as that of a captive portal is.
func gibberish(err error) bool {
	var x *xml.SyntaxError
	var u xml.UnmarshalError
	var j *json.SyntaxError
	var t *json.UnmarshalTypeError
	return errors.As(err, &x) || errors.As(err, &u) || errors.As(err, &j) || errors.As(err, &t)
}

// unauthorized reports whether the place does not let us in, or not do this.
func unauthorized(err error) bool {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, rclone.ErrorPermissionDenied) || fserrors.IsFatalError(err) && status(err) == 0 ||
		ntDenied[ntStatus(err)] {
		return true
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return true
	}
	var ftp *textproto.Error
	if errors.As(err, &ftp) {
		return ftp.Code == 530 || ftp.Code == 532
	}
	if s := status(err); s != 0 {
		return s == http.StatusUnauthorized || s == http.StatusForbidden || wrongKeys(err)
	}
	// The one error of golang.org/x/crypto/ssh that has no type.
	return strings.Contains(err.Error(), "ssh: unable to authenticate")
}

// wrongKeys reports whether a place of objects says that it does not know the keys, or that what is signed with them is wrong. It
// may say so with any status: versitygw answers 404 to a key that it does not know.
func wrongKeys(err error) bool {
	return slices.ContainsFunc(codes(err), func(c string) bool { return keyCodes[strings.ToLower(c)] })
}

// keyCodes are what places of the family of S3 call it when the keys are wrong.
var keyCodes = map[string]bool{
	"invalidaccesskeyid": true, "signaturedoesnotmatch": true, "invalidtoken": true, "expiredtoken": true, "invalidclienttokenid": true, "notsignedup": true,
	"xadminusernotfound": true, // of versitygw
}

// full reports whether the place is full, or a quota is.
func full(err error) bool {
	if fserrors.IsErrNoSpace(err) || errors.Is(err, syscall.ENOSPC) || status(err) == http.StatusInsufficientStorage || ntFull[ntStatus(err)] {
		return true
	}
	var ftp *textproto.Error
	if errors.As(err, &ftp) {
		return ftp.Code == 452 || ftp.Code == 552
	}
	return slices.ContainsFunc(codes(err), func(c string) bool { return quotaCodes[strings.ToLower(c)] })
}

// quotaCodes are what places call it when a quota is used up.
var quotaCodes = map[string]bool{
	"quotaexceeded": true, "storagequotaexceeded": true, "quotalimitreached": true, "storage_limit_exceeded": true, "insufficient_space": true,
	"storage_cap_exceeded": true, "xminiostoragefull": true, "insufficientstorage": true, "teamdrivefilelimitexceeded": true,
	"xratelimitedstoragefull": true, "accountquotaexceeded": true,
}

// each calls f for err and all that it wraps, until f returns true.
func each(err error, f func(error) bool) bool {
	if err == nil {
		return false
	}
	if f(err) {
		return true
	}
	switch u := err.(type) { //nolint:errorlint // this is the walk that errors.As does
	case interface{ Unwrap() error }:
		return each(u.Unwrap(), f)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(u.Unwrap(), func(e error) bool { return each(e, f) })
	}
	return false
}

// fields returns the struct that an error is, if it is one.
func fields(err error) (reflect.Value, bool) {
	v := reflect.ValueOf(err)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	return v, v.Kind() == reflect.Struct
}

// status returns the status of HTTP in an error, 0 if there is none. The libraries of the providers have a dozen types for that, with
// a method or a field of one of a few names.
func status(err error) (s int) {
	each(err, func(e error) bool {
		if m, ok := e.(interface{ HTTPStatusCode() int }); ok {
			s = m.HTTPStatusCode()
			return s != 0
		}
		v, ok := fields(e)
		if !ok {
			return false
		}
		if _, isFTP := v.Interface().(textproto.Error); isFTP {
			return false
		}
		for _, name := range []string{"StatusCode", "Status", "Code", "Got"} {
			if f := v.FieldByName(name); f.IsValid() && f.CanInt() && f.Int() >= 300 && f.Int() < 600 {
				s = int(f.Int())
				return true
			}
		}
		return false
	})
	return s
}

// codes returns the words by which an error calls itself.
func codes(err error) (all []string) {
	each(err, func(e error) bool {
		if m, ok := e.(interface{ ErrorCode() string }); ok {
			all = append(all, m.ErrorCode())
		}
		v, ok := fields(e)
		if !ok {
			return false
		}
		for _, name := range []string{"Code", "ErrorCode", "Reason"} {
			if f := v.FieldByName(name); f.IsValid() && f.Kind() == reflect.String {
				all = append(all, f.String())
			}
		}
		if f := v.FieldByName("ErrorInfo"); f.IsValid() && f.Kind() == reflect.Struct { // of OneDrive
			if c := f.FieldByName("Code"); c.IsValid() && c.Kind() == reflect.String {
				all = append(all, c.String())
			}
		}
		if f := v.FieldByName("Errors"); f.IsValid() && f.Kind() == reflect.Slice { // of Google
			for i := range f.Len() {
				if item := f.Index(i); item.Kind() == reflect.Struct {
					if c := item.FieldByName("Reason"); c.IsValid() && c.Kind() == reflect.String {
						all = append(all, c.String())
					}
				}
			}
		}
		return false
	})
	return all
}

// header returns the header of the answer in an error, or nil.
func header(err error) (h http.Header) {
	each(err, func(e error) bool {
		v, ok := fields(e)
		if !ok {
			return false
		}
		for _, name := range []string{"Header", "Headers"} {
			if f := v.FieldByName(name); f.IsValid() && f.CanInterface() {
				if h, ok = f.Interface().(http.Header); ok && h != nil {
					return true
				}
			}
		}
		for _, name := range []string{"Response", "RawResponse"} {
			if f := v.FieldByName(name); f.IsValid() {
				if h = answer(f); h != nil {
					return true
				}
			}
		}
		return false
	})
	return h
}

// answer returns the header of an answer, also of one in the wrapping of a library; nil if it is none.
func answer(f reflect.Value) http.Header {
	if !f.CanInterface() {
		return nil
	}
	if r, ok := f.Interface().(*http.Response); ok {
		if r == nil {
			return nil
		}
		return r.Header
	}
	if in := reflect.Indirect(f); in.IsValid() && in.Kind() == reflect.Struct {
		if inner := in.FieldByName("Response"); inner.IsValid() && inner.Type() != f.Type() {
			return answer(inner)
		}
	}
	return nil
}

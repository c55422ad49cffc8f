package blob

import (
	"errors"
	"time"
)

// The errors by which a place far away says, besides [ErrTemporary], what a caller can do about them. A
// Bucket that knows wraps one of them; an error that wraps none is for a person to read.
var (
	// ErrUnauthorized: the place does not let us in. Nothing will succeed before a person has signed
	// in again or mended a key.
	ErrUnauthorized = errors.New("the place does not let us in")
	// ErrMangled: of [Bucket.Put]: what lies there is not what was put. It may be put again.
	ErrMangled = errors.New("the place did not keep what it was given")
)

// Later returns err with the time that the place asks to wait before the next call.
func Later(err error, wait time.Duration) error { return &later{err, wait} }

type later struct {
	err  error
	wait time.Duration
}

func (l *later) Error() string { return l.err.Error() }
func (l *later) Unwrap() error { return l.err }

// After returns the time that the place asks to wait before the next call, zero if err does not say.
func After(err error) time.Duration {
	var l *later
	if errors.As(err, &l) {
		return max(l.wait, 0)
	}
	return 0
}

package provider

import "errors"

// ntStatus returns the status of Windows in an error of SMB, 0 if there is none. It is set where SMB is built in.
var ntStatus = func(error) uint32 { return 0 }

// What a status of Windows means, in the words of package blob.
var (
	// ntBusy are those that end by themselves: somebody else has the file open, or the session has to be begun anew.
	ntBusy = map[uint32]bool{
		0xc0000043: true, // a sharing violation: who has it open does not share it
		0xc0000054: true, // a lock is in the way
		0xc0000056: true, // it goes as soon as those close it who have it open
		0xc000009a: true, // the server lacks resources
		0xc00000b5: true, // it took too long
		0xc00000c9: true, // the connection to the share is gone
		0xc00000d0: true, // no more sessions
		0xc0000120: true, // it was cancelled
		0xc0000203: true, // the session is gone
		0xc000020c: true, // disconnected
		0xc000035c: true, // the session has to be renewed
	}
	ntDenied = map[uint32]bool{
		0xc0000022: true, // access denied
		0xc0000064: true, // no such user
		0xc000006a: true, // a wrong password
		0xc000006d: true, // a user or a password is wrong
		0xc000006e: true, // the account is restricted
		0xc000006f: true, // not at this time
		0xc0000070: true, // not from this machine
		0xc0000071: true, // the password has run out
		0xc0000072: true, // the account is closed
		0xc0000193: true, // the account has run out
		0xc0000224: true, // the password is to be changed
		0xc0000234: true, // the account is locked
	}
	ntFull = map[uint32]bool{
		0xc0000044: true, // the quota is used up
		0xc000007f: true, // the disk is full
		0xc0000802: true, // the quota is used up, in newer words
	}
	// ntRefused are those of a call that makes no sense, as it does to list a file.
	ntRefused = map[uint32]bool{
		0xc000000d: true, // a parameter is wrong
		0xc0000033: true, // a name is wrong
		0xc0000035: true, // there is something of that name
		0xc00000ba: true, // it is a folder
		0xc00000bb: true, // not supported
		0xc0000103: true, // it is no folder
	}
	ntNoShare = uint32(0xc00000cc)
)

// inUse says of an error that what a file was to be moved to is in use, if it was in the way: a server may say only that it does not do it. It
// is over when those close it who have it open, who get all of what they have opened.
type inUse struct{ error }

// Unwrap returns nil: that it is not allowed is not meant.
func (inUse) Unwrap() error { return nil }

func isInUse(err error) bool {
	var u inUse
	return errors.As(err, &u)
}

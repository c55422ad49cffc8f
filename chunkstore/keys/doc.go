// Package keys holds what opens a drive: key slots, the drive record with its
// epoch secrets, the identity of devices and the members log. It does not
// seal chunks or packs, and it keeps no password.
//
// The way down from a secret that a person has:
//
//	passphrase, recovery words or device key
//	  → a key slot (keys/…) opens the account root, 32 random bytes
//	  → the root opens the drive record (drive/…) and the owner key
//	  → the record holds the secret of the first epoch, which opens the members log (members/…)
//	  → the log holds the secrets of all later epochs, each of which opens all before it, and says which devices and key slots count
//	  → Ring derives every key of the drive from these
//
// All that changes while people use a drive is in the members log: a graph of signed entries, each of which names
// those that its writer knew as the newest. Nobody has to lock anything to add one, and what the log comes to depends on
// the set of its entries alone: see resolve. Why, is told in docs/adr/0007.
//
// What is in a Bucket is either a key slot (its head is clear, the root in it is
// sealed) or a sealed blob as SealBlob makes it. Nobody without a secret can
// make one that is accepted. The bytes are described in docs/FORMAT.md.
package keys

import "errors"

// The errors of this package. All are told apart by errors.Is.
var (
	// ErrWrongSecret is the one error for every slot that does not open, whatever the
	// reason: a wrong passphrase, a flipped bit, a cost below the floor, a
	// format that is not known. Telling them apart would help whoever alters slots.
	ErrWrongSecret = errors.New("no key slot opens with this secret")

	// ErrWords is the error for text that is not 24 recovery words: a word that is not
	// in the list, another count, or a checksum that does not fit. It says
	// nothing about any slot.
	ErrWords = errors.New("these are not recovery words")

	// ErrCost is the error for a passphrase cost outside of the limits.
	ErrCost = errors.New("cost of the passphrase is out of range")

	// ErrNoDrive is the error if a Bucket holds neither slots nor a drive record.
	ErrNoDrive = errors.New("no drive in this bucket")

	// ErrExists is the error if a drive, or anything else, is there already.
	ErrExists = errors.New("the place is not empty")

	// ErrLastSlot is the error for a change after which no secret would open the drive.
	ErrLastSlot = errors.New("no other key slot would be left")

	// ErrFormat is the error for an authentic record of a format that this program
	// does not know: the drive was written by a newer one.
	ErrFormat = errors.New("written by a newer version of sheaf")

	// ErrTampered is the error for a blob that is not what its owner wrote. The text
	// names the blob.
	ErrTampered = errors.New("blob was altered or damaged")

	// ErrFork is the error for two different records in one place of a chain: somebody
	// shows different histories to different devices.
	ErrFork = errors.New("history was forked")

	// ErrRollback is the error for a chain that ends before a record that this device
	// has seen.
	ErrRollback = errors.New("history was rolled back")

	// ErrIncomplete is the error for a chain or a log with a record missing that must be there.
	ErrIncomplete = errors.New("history is incomplete")

	// ErrNotMember is the error for a device that the members log does not name, or
	// has revoked.
	ErrNotMember = errors.New("device is not a member of the drive")

	// ErrStale is the error of a write while a revoked device has the secret of the newest epoch.
	ErrStale = errors.New("a device was revoked, and no new epoch has begun")

	// ErrDeviceText is the error for text that is not a device ID.
	ErrDeviceText = errors.New("not a device ID")
)

// Package aside has the names of hidden files: those that lie beside what they are to become, or were a moment ago. The name says
// which file it was made for, so that after a crash one of ours is told from somebody's that was in the way.
package aside

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Age is how old a hidden file is that nobody writes any more.
const Age = 24 * time.Hour

// A name is the prefix, 16 hexadecimal digits of the number of the file, a dash, and 16 of chance.
const (
	prefix = ".sheaf-tmp-"
	digits = 16
	length = len(prefix) + digits + 1 + digits
	most   = 255 // bytes of a name
)

// Is reports whether a name is one of those that Name returns.
func Is(name string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	return ok && len(name) == length && rest[digits] == '-' && hexadecimal(rest[:digits]) && hexadecimal(rest[digits+1:])
}

func hexadecimal(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// Name returns a hidden name for the file with that number, or 0 for one that has none yet and for one that is somebody's.
func Name(ino uint64) string {
	var p [digits / 2]byte
	_, _ = rand.Read(p[:]) // never fails
	return fmt.Sprintf("%s%016x-%s", prefix, ino, hex.EncodeToString(p[:]))
}

// Ours reports whether what is under a hidden name is the file that the name was made for, with nothing of anybody else's in it: the file of that
// number or, where the name says none, an empty one. A directory never is.
func Ours(name string, ino uint64, empty bool) bool {
	was, err := strconv.ParseUint(name[len(prefix):len(prefix)+digits], 16, 64)
	return err == nil && (was == ino || was == 0 && empty)
}

// Saved returns a name that is seen for somebody's file under a hidden name, which was called was.
func Saved(name, was string) string {
	by := "saved by sheaf " + name[length-digits:]
	if to := was + " (" + by + ")"; len(to) <= most {
		return to
	}
	return by
}

//go:build !linux && !windows

package localdir

import (
	"errors"
	"io/fs"
	"reflect"
	"syscall"
	"time"
)

// systemInfo adds what a stat says besides. The systems call the parts of it by names of their own.
func systemInfo(i *info, fi fs.FileInfo) {
	v := reflect.Indirect(reflect.ValueOf(fi.Sys()))
	if v.Kind() != reflect.Struct {
		return
	}
	number := func(name string) uint64 {
		switch f := v.FieldByName(name); {
		case !f.IsValid():
		case f.CanInt():
			return uint64(f.Int())
		case f.CanUint():
			return f.Uint()
		}
		return 0
	}
	at := func(names ...string) time.Time {
		for _, name := range names {
			if f := v.FieldByName(name); f.IsValid() && f.Kind() == reflect.Struct {
				if ts, ok := f.Interface().(syscall.Timespec); ok {
					return time.Unix(ts.Unix())
				}
			}
		}
		return time.Time{}
	}
	i.dev, i.ino = number("Dev"), number("Ino")
	i.btime = at("Birthtimespec", "Btim")
	if c := at("Ctimespec", "Ctim"); !c.IsZero() {
		i.ctime = c
	}
}

// volumeOf says no more than what a stat says.
func volumeOf(string) (string, error) { return "", nil }

func legal(string) bool { return true }

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

func isIllegal(err error) bool {
	return errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.EILSEQ) || errors.Is(err, syscall.EINVAL)
}

package journal

import (
	"os"

	"golang.org/x/sys/windows"
)

// openShared opens a file so that it can be removed and renamed meanwhile, which Windows lets nobody do with what [os.OpenFile] has open: a segment
// loses its name when it is trimmed, and is read until nothing points to it.
func openShared(path string, flag int) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	how := uint32(windows.OPEN_EXISTING)
	if flag&(os.O_CREATE|os.O_EXCL) != 0 {
		how = windows.CREATE_NEW
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, how, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

package localdir

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

// systemInfo adds what Windows knows of a file without opening it: when it was made, which is all there is to tell two of one name apart.
func systemInfo(i *info, fi fs.FileInfo) {
	if d, ok := fi.Sys().(*syscall.Win32FileAttributeData); ok {
		i.btime = time.Unix(0, d.CreationTime.Nanoseconds())
		i.ino = uint64(d.CreationTime.Nanoseconds())
	}
}

// volumeOf returns the serial number of the volume.
func volumeOf(dir string) (string, error) {
	root, err := windows.UTF16PtrFromString(filepath.VolumeName(dir) + `\`)
	if err != nil {
		return "", err
	}
	var serial uint32
	if err := windows.GetVolumeInformation(root, nil, 0, &serial, nil, nil, nil, 0); err != nil {
		return "", err
	}
	return strconv.FormatUint(uint64(serial), 16), nil
}

// legal reports whether Windows can have the name, and has it as it is.
func legal(name string) bool {
	for _, c := range name {
		if c < ' ' || strings.ContainsRune(`<>:"/\|?*`, c) {
			return false
		}
	}
	return filepath.IsLocal(name) && !strings.HasSuffix(name, ".") && !strings.HasSuffix(name, " ")
}

func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func isIllegal(err error) bool {
	return errors.Is(err, windows.ERROR_INVALID_NAME) || errors.Is(err, windows.ERROR_FILENAME_EXCED_RANGE)
}

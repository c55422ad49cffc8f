package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/mount/winfsp"
)

// letters are those of drives in the order in which they are taken: S for sheaf, then those that Windows itself takes last.
const letters = "STUVWXYZRQPONMLKJIHGFED"

// mountPoint returns the absolute path of what a person names: a folder, or a drive by its letter, of which the path is the root.
func mountPoint(arg string) (string, error) {
	if vol := filepath.VolumeName(arg); len(vol) == 2 && (arg == vol || arg == vol+`\` || arg == vol+"/") {
		return strings.ToUpper(vol) + `\`, nil // not the folder that this process stands in there
	}
	return filepath.Abs(arg)
}

// freePoint returns where to mount if nobody says where: a drive whose letter is free.
func freePoint() (string, error) {
	taken, err := windows.GetLogicalDrives()
	if err != nil {
		return "", fmt.Errorf("list drives: %w", err)
	}
	for _, l := range letters {
		if taken&(1<<(l-'A')) == 0 {
			return string(l) + `:\`, nil
		}
	}
	return "", coded(sheafv1.Code_CODE_EXISTS, "sheaf mount FOLDER", "all letters of drives are taken")
}

// systemChecks says whether something can be mounted on this system.
func systemChecks() []*sheafv1.Check {
	if err := winfsp.Installed(); err != nil {
		return []*sheafv1.Check{warn("winfsp", err.Error(), "until then use sheaf serve webdav")}
	}
	return []*sheafv1.Check{ok("winfsp", "drives and folders can be mounted")}
}

//go:build !linux

package transfer

import "os"

func writeThrough(*os.File, int64, int64) {}

//go:build !windows

package main

import "path/filepath"

// mountPoint returns the absolute path of the folder that a person names.
func mountPoint(arg string) (string, error) { return filepath.Abs(arg) }

// freePoint returns where to mount if nobody says where; "": somebody has to.
func freePoint() (string, error) { return "", nil }

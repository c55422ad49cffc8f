//go:build !linux

package main

// haveRoots does nothing: these systems have their own.
func haveRoots(func(string) string, []string) error { return nil }

var rootPlaces []string

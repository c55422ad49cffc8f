//go:build !linux

package main

import "context"

// dead finds nothing here: a mount whose process is gone is taken away by this system itself.
func dead(string) bool { return false }

// restProgram is for Linux only: elsewhere the system is not told what of a program is resident.
func restProgram() {}

// dying and release are for what happens on Linux only.
func dying(int) bool { return false }

func release(string) error { return nil }

func clearDead(context.Context, string) (bool, error) { return false, nil }

//go:build cgofuse && cgo

package winfsp

import "syscall"

// thread returns the thread of the system that runs this call.
func thread() int { return syscall.Gettid() }

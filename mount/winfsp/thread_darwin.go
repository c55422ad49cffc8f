//go:build cgofuse && cgo

package winfsp

// #include <pthread.h>
// #include <stdint.h>
// static uint64_t thread(void) { uint64_t id = 0; pthread_threadid_np(NULL, &id); return id; }
import "C"

// thread returns the thread of the system that runs this call.
func thread() int { return int(C.thread()) }

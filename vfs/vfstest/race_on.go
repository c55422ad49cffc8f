//go:build race

package vfstest

// underRace is whether the race detector slows all of it down.
const underRace = true

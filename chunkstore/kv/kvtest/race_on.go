//go:build race

package kvtest

// slow says that the race detector is on, which makes all of this some ten times as slow.
const slow = true

//go:build !race

package kvtest

const slow = false

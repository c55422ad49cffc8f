//go:build race

package chunkstore

const raceEnabled = true // the detector allocates, too

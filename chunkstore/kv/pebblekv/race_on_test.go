//go:build race

package pebblekv

// raceDetector says that memory cannot be judged: the detector takes several times as much.
const raceDetector = true

//go:build race

package seal

// raceEnabled says that the tests run under the race detector.
const raceEnabled = true

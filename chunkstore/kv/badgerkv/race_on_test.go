//go:build race

package badgerkv

// raceDetector says that memory cannot be judged: the detector takes several times as much.
const raceDetector = true

//go:build !race

package badgerkv

const raceDetector = false

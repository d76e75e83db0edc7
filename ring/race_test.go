//go:build race

package ring

// raceDetector says that the tests run with -race, which makes statistics ten times slower and finds nothing in them.
const raceDetector = true

// Package e2e holds the tests of the whole system: manager and workers as
// processes of their own, on a real API server, killed, stopped and cut off as
// it happens in life.
//
// What they judge by is outside of the system under test: the journals in which
// the workers write down what they do (package journal), and the labels that
// the API server has seen, in the order in which it has seen them (timeline).
// Every test ends with both verdicts, whatever else it is about:
//
//   - no two processes ever had the same object in hand at once;
//   - an object that had an owner was never without one;
//   - the epoch of an object grew by one with every change of owner, and not otherwise;
//   - whenever an object came to a shard, its children were there already.
//
// Two test runs at the same time do not disturb each other. The flag -artifacts
// of go test keeps logs and journals; E2E_RACE=1 builds the programs with the
// race detector.
package e2e

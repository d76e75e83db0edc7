// Package ownermodel is the ownership protocol as a state machine that is small enough to look at all of its states: three shards, two
// objects and two managers, all of which may crash at any time, any number of times. Step is pure; Explore goes through every state that can be reached, breadth
// first, and holds each against what must never be.
//
// It says what the order of events can do, not what the code does: the simulation in package sharding is for that.
//
// # In the model
//
// The API server's compare-and-swap: a write is decided upon at one time and takes effect at any later one, or never, unless
// somebody has written the object in between; its answer may be lost. Caches that lag behind for as long as they like. Reconciles in flight.
// The Leases with their three ages: renewed, past the holder's deadline, and dead. Processes that are paused, which is the same as
// that everything of theirs happens late. Crashes at every step, with writes on their way, and restarts. A leader that has been replaced
// and does not know it yet. Hand-over, take-over, withdrawal of a hand-over, giving a Lease back with objects left.
//
// # Assumed, not modelled
//
//   - A worker's deadline passes before others take its Lease for dead (the rates of two clocks differ by less than a half), and a
//     reconcile returns in the third of a lease in between once its context is cancelled.
//   - A write is carried out within that third as well, or never. Of a take-over, this is what keeps a write that was sent under one
//     holding of a Lease from coming out under another; all others are harmless however late they are.
//   - Children, state and labels edited by people are left out.
package ownermodel

// Package conversion proves the examples of embedding: an operator that exists twice, as it was with one leader (before) and as it is
// with shards (after). It counts what was changed, keeps the difference that the documentation shows true, and runs both as processes
// on a real control plane: from one leader to shards and back, and with shards that join, leave, and are killed.
//
// What it judges by is outside of the operator: the journals of its processes (package journal) and the labels that the API
// server has seen (package timeline). The journals are written by a witness: the programs are built from their own sources, in which the
// function that reconciles, and the one that connects, are wrapped by those of a file of the example's testdata.
package conversion

// Package embed shows how an operator on controller-runtime becomes sharded: the program in before runs with a leader, that in after with
// shards, and otherwise they are the same. What they do for each object is in package budget. The difference is explained in
// docs/embedding.md, and the tests run both on a real control plane.
package embed

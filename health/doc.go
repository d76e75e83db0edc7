// Package health finds out which shards are alive, and makes sure that a shard
// that is taken for dead has stopped.
package health

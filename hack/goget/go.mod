// Proves that this module can be had with go get. A module of its own, so that nobody who gets it needs what this needs.
module github.com/shard-io/shard-controller/hack/goget

go 1.26.0

require golang.org/x/mod v0.41.0

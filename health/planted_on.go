//go:build shardbugs

package health

import "os"

var plantedBug = os.Getenv("SHARD_BUG")

func planted(bug string) bool { return bug == plantedBug }

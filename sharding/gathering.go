package sharding

import (
	"maps"
	"time"
)

const (
	// gatherQuiet is for how long no shard must have come or gone before the ring is divided anew, gatherLongest for how long that is waited
	// for at most. Each division is written to most of the shards and moves objects: when many shards come together, as they do when a
	// workload is scaled or replaced, one division is enough.
	gatherQuiet   = 100 * time.Millisecond
	gatherLongest = time.Second
)

// gathering holds reconciles back while shards come and go one right after the other. The zero value is that of a new term.
type gathering struct {
	standings      map[string]standing // as they were looked at last
	since, changed time.Time           // since is zero while nothing is held back
}

// wait returns for how long to wait before anything is done about the standings of the shards: 0 when nothing has changed lately. The first look
// in a term has nothing to compare with, and shards that are lost are not waited for.
func (g *gathering) wait(standings map[string]standing, now time.Time) time.Duration {
	before := g.standings
	g.standings = standings
	switch {
	case before == nil || becomesLost(before, standings):
		g.since = time.Time{}
		return 0
	case !maps.Equal(before, standings):
		g.changed = now
		if g.since.IsZero() {
			g.since = now
		}
	case g.since.IsZero():
		return 0
	}
	wait := min(gatherQuiet-now.Sub(g.changed), gatherLongest-now.Sub(g.since))
	if wait <= 0 {
		g.since = time.Time{}
	}
	return max(0, wait)
}

// becomesLost says whether there is a shard whose objects are to be taken over now, or are being, and were not before.
func becomesLost(before, after map[string]standing) bool {
	for id, s := range after {
		if former := before[id]; former != s && (s == standingLost || s == standingGone && former == standingLost) {
			return true
		}
	}
	return false
}

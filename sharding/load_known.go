package sharding

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// loadBook knows, by shard, when the load that it has reported was measured. Clocks of shards and of the manager may differ: what counts is
// when this manager saw the report, but for the first one, which may have been there for long.
type loadBook map[string]loadNews

type loadNews struct {
	heartbeat metav1.Time // in the report
	seen      time.Time
}

// measuredAt takes in what a shard has reported, and returns when its load was measured; the zero time if it is not known. A shard that has
// nothing to do does not go on saying so: as long as it is alive, it counts as measured now.
func (b loadBook) measuredAt(instance *shardv1.ShardInstance, alive bool, now time.Time) time.Time {
	status := &instance.Status
	if status.Load == nil || status.LastHeartbeat == nil {
		delete(b, instance.Name)
		return time.Time{}
	}
	news, known := b[instance.Name]
	switch {
	case !known:
		news = loadNews{*status.LastHeartbeat, earlier(status.LastHeartbeat.Time, now)}
	case !news.heartbeat.Equal(status.LastHeartbeat):
		news = loadNews{*status.LastHeartbeat, now}
	}
	b[instance.Name] = news
	if alive && status.Load.IsZero() && (status.Work == nil || *status.Work == shardv1.ShardWork{}) {
		return now
	}
	return news.seen
}

func staleAfter(config *shardv1.ShardConfig) time.Duration {
	if config == nil || config.Spec.Scaling == nil || config.Spec.Scaling.StaleAfter.Duration <= 0 {
		return shardv1.DefaultStaleAfter
	}
	return config.Spec.Scaling.StaleAfter.Duration
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// isKnown says whether a load of that time is known now.
func isKnown(measured, now time.Time, staleAfter time.Duration) bool {
	return !measured.IsZero() && now.Sub(measured) <= staleAfter
}

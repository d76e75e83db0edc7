package sharding

import (
	"sync"

	"k8s.io/apimachinery/pkg/util/resourceversion"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// answers has the ShardInstances that a ringController has written, as the server returned them, until the cache shows them too. Without it,
// a reconcile right after a write would decide by what was there before, and its own writes would be refused as out of date. The zero value is
// ready for use, by any goroutine.
type answers struct {
	mu     sync.Mutex
	latest map[string]*shardv1.ShardInstance
}

// note takes an answer in. It must not be changed any more.
func (a *answers) note(written *shardv1.ShardInstance) {
	if written == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.latest == nil {
		a.latest = map[string]*shardv1.ShardInstance{}
	}
	if before := a.latest[written.Name]; before == nil || !isLater(before, written) {
		a.latest[written.Name] = written
	}
}

// newest returns the instance, or what was answered if that is later.
func (a *answers) newest(cached *shardv1.ShardInstance) *shardv1.ShardInstance {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer := a.latest[cached.Name]
	if answer == nil {
		return cached
	}
	if isLater(answer, cached) {
		return answer
	}
	delete(a.latest, cached.Name)
	return cached
}

// retain forgets those that do not exist any more.
func (a *answers) retain(existing map[string]*shardv1.ShardInstance) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name := range a.latest {
		if existing[name] == nil {
			delete(a.latest, name)
		}
	}
}

// isLater says whether a is a later version of the same object as b. Versions that can't be compared are not.
func isLater(a, b *shardv1.ShardInstance) bool {
	order, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion)
	return a.UID == b.UID && err == nil && order > 0
}

package timeline

import (
	"cmp"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/shard-io/shard-controller/sharding"
)

// Version is one state of one object, as the API server had it.
type Version struct {
	Resource   string
	Name       types.NamespacedName
	UID        types.UID
	Number     string // its resourceVersion
	Owner      string // empty: none
	Drain      string
	Epoch      int64
	Controller types.UID // of a child: its root
	Deleted    bool
	Gap        bool      // versions before this one may be missing
	At         time.Time // when it arrived here
	Note       string    // whatever the recorder was asked to keep
}

// VersionOf reads what matters of an object.
func VersionOf(resource, ring string, o *metav1.PartialObjectMetadata) Version {
	v := Version{
		Resource: resource, Name: types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, UID: o.UID,
		Number: o.ResourceVersion, Epoch: sharding.EpochOf(o, ring), At: time.Now(),
	}
	v.Owner, _ = sharding.OwnerOf(o, ring)
	v.Drain, _ = sharding.DrainTargetOf(o, ring)
	if controller := metav1.GetControllerOf(o); controller != nil {
		v.Controller = controller.UID
	}
	return v
}

// Timeline is all that happened to the objects of a ring. The zero value is
// empty. It may be used by any goroutine.
type Timeline struct {
	mu       sync.Mutex
	versions []Version
}

// Add adds a version; they may come in any order, and more than once.
func (t *Timeline) Add(v Version) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.versions = append(t.versions, v)
}

// Len is how many versions there are. It costs nothing, and tells whether
// anything has happened.
func (t *Timeline) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.versions)
}

// Ordered returns the versions in the order in which they were written, each
// once: as it arrived first.
func (t *Timeline) Ordered() []Version {
	t.mu.Lock()
	all := slices.Clone(t.versions)
	t.mu.Unlock()
	slices.SortStableFunc(all, func(a, b Version) int {
		order, err := resourceversion.CompareResourceVersion(a.Number, b.Number)
		if err != nil {
			order = cmp.Compare(a.Number, b.Number) // no version of a real API server
		}
		return cmp.Or(order, cmp.Compare(a.UID, b.UID))
	})
	return slices.CompactFunc(all, func(a, b Version) bool {
		return a.Number == b.Number && a.UID == b.UID && a.Deleted == b.Deleted
	})
}

// Move is a change of the owner of an object: From is empty for its first
// owner, and To for one that it lost.
type Move struct {
	Version
	From, To string
	Asked    time.Time // when the drain label that asked for it arrived; zero if none did
}

// Moves returns the changes of owner of the objects of a resource, in order.
func (t *Timeline) Moves(resource string) []Move {
	var moves []Move
	last := map[types.UID]Version{}
	asked := map[types.UID]time.Time{}
	for _, v := range t.Ordered() {
		if v.Resource != resource {
			continue
		}
		before := last[v.UID]
		last[v.UID] = v
		if v.Drain != "" && v.Drain != before.Drain {
			asked[v.UID] = v.At
		}
		if v.Owner == before.Owner || v.Deleted {
			continue
		}
		m := Move{Version: v, From: before.Owner, To: v.Owner}
		if before.Drain != "" && before.Drain == v.Owner {
			m.Asked = asked[v.UID]
		}
		moves = append(moves, m)
	}
	return moves
}

// Since returns those that arrived after a moment.
func Since(moves []Move, moment time.Time) []Move {
	return slices.DeleteFunc(slices.Clone(moves), func(m Move) bool { return m.At.Before(moment) })
}

// BetweenShards returns those that are from one shard to another.
func BetweenShards(moves []Move) []Move {
	return slices.DeleteFunc(slices.Clone(moves), func(m Move) bool { return m.From == "" || m.To == "" })
}

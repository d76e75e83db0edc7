package sharding

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/balancer"
)

// PinLabel is the key of the label on a root object that says which shard it is to be on, whatever the strategy would choose. Its value
// is a shard ID. It counts while that shard may receive the object, or has it and isn't draining; otherwise the strategy
// places the object, and it goes back when the shard can have it again. A ShardMigration that a user makes sets it; users
// may set and remove it as well, which the manager notices within its next audit.
func PinLabel(ring string) string { return "pin.shard.io/" + ring }

// MigrationLabel is the key of the label on a root object that says which ShardMigration asked for its last move. Its value is the
// migration's name, a dot, and the first eight characters of its UID. The manager writes it; it stays when the migration has ended.
func MigrationLabel(ring string) string { return "migration.shard.io/" + ring }

func pinOf(root metav1.Object, ring string) (shard string, ok bool) {
	shard, ok = root.GetLabels()[PinLabel(ring)]
	return shard, ok && shard != ""
}

// placePinned is placeRoot for a root as it is: on the shard that it is pinned to, if that can have it.
func (p *placement) placePinned(t *rootTarget, ring string, root metav1.Object) (balancer.Decision, error) {
	owner, _ := OwnerOf(root, ring)
	if pin, ok := pinOf(root, ring); ok && p != nil {
		stays := pin == owner && !p.draining(owner)
		if stays || p.receives(pin, t) {
			return balancer.Decision{Shard: pin}, nil
		}
	}
	return p.placeRoot(t, root.GetNamespace(), root.GetName(), owner)
}

// pinFor returns the pin that a root needs to stay on a shard that gets it back: none, if the strategy would leave it there.
func (p *placement) pinFor(t *rootTarget, root metav1.Object, shard string) string {
	decision, err := p.placeRoot(t, root.GetNamespace(), root.GetName(), shard)
	if err == nil && decision.Shard == shard {
		return ""
	}
	return shard
}

// movePatch is drainPatch for a move to where no pin holds the root, so that it is not brought back.
func movePatch(root metav1.Object, ring, target string) []byte {
	patch := drainChange(root, ring, target)
	if pin, pinned := pinOf(root, ring); pinned && refusedBy(refusalOf(root, ring), pin) {
		patch.Labels[PinLabel(ring)] = nil
	}
	return patch.bytes()
}

// migratePatch asks for a root in the name of a migration, or takes that back with an empty target. An empty pin removes the pin.
func migratePatch(root metav1.Object, ring, migration, target, pin string) []byte {
	patch := drainChange(root, ring, target)
	patch.Labels[MigrationLabel(ring)] = &migration
	if _, pinned := pinOf(root, ring); pin != "" {
		patch.Labels[PinLabel(ring)] = &pin
	} else if pinned {
		patch.Labels[PinLabel(ring)] = nil
	}
	return patch.bytes()
}

package sharding

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// removalAnnotation says on a ShardInstance that the manager empties the shard to remove it: how many replicas the workload had when it began, a
// slash, and when that was. It is all that the next leader needs to go on.
const removalAnnotation = "shard.io/scale-down"

// removalLimit is how long a shard may take to be emptied, or to go when it is empty, before it may receive objects again.
const removalLimit = 10 * time.Minute

// removal is what the annotation says.
type removal struct {
	replicas int32
	begun    time.Time
}

func (r removal) String() string {
	return strconv.Itoa(int(r.replicas)) + "/" + r.begun.UTC().Format(time.RFC3339)
}

// parseRemoval reads an annotation. One that nobody here has written is a removal that began long ago: it will be taken back.
func parseRemoval(text string) removal {
	count, begun, _ := strings.Cut(text, "/")
	replicas, err := strconv.ParseInt(count, 10, 32)
	at, timeErr := time.Parse(time.RFC3339, begun)
	if err != nil || timeErr != nil {
		return removal{}
	}
	return removal{int32(replicas), at}
}

// workloadShard is what has to be known of a shard to remove it.
type workloadShard struct {
	id      string
	serving bool
	// receives: it may get the objects of others.
	receives bool
	objects  int64
	load     float64
	// removal is set while the shard is being removed; drain says how far that is.
	removal *removal
	drain   drainState
}

// workloadView is what a step of scaling looks at.
type workloadView struct {
	now      time.Time
	replicas int32
	desired  int32
	// least is the number that there must be at least now, whatever the load: by minShards, or because somebody asks for it.
	least int32
	// ordinals: shards are numbered and the last one goes first, as in a StatefulSet of that name.
	ordinals bool
	name     string
	// failed: a removal had to be taken back a short time ago.
	failed bool
	shards []workloadShard
}

// workloadAction is what a step of scaling does. The zero value does nothing.
type workloadAction struct {
	// replicas is the number to set; 0 for none. With remove, it is the shard that goes.
	replicas int32
	remove   string
	// drain is the shard to empty, restore the one that may receive objects again.
	drain   string
	restore string
	// text says why, or what is waited for.
	text string
}

// scaleStep decides what to do next so that a workload gets from the replicas that it has to those that it should have. Adding is one write.
// Removing takes one shard after the other: it is emptied, and when nothing is left, exactly its Pod goes. It is a pure function, and all that it
// goes by is written down, so that any leader can go on.
func scaleStep(v workloadView) workloadAction {
	for _, s := range v.shards {
		if s.removal != nil {
			return v.goOn(s)
		}
	}
	switch {
	case v.desired > v.replicas:
		return workloadAction{replicas: v.desired, text: fmt.Sprintf("from %d to %d replicas", v.replicas, v.desired)}
	case v.desired < v.replicas:
		return v.begin()
	}
	return workloadAction{}
}

// goOn is the next step of the removal of a shard.
func (v workloadView) goOn(s workloadShard) workloadAction {
	late := v.now.Sub(s.removal.begun) > removalLimit
	switch {
	case v.replicas < s.removal.replicas && !late:
		return workloadAction{text: "waiting until " + s.id + " has gone"}
	case v.replicas < s.removal.replicas:
		return workloadAction{restore: s.id, text: s.id + " has not gone, although the workload has fewer replicas"}
	case v.replicas > s.removal.replicas || v.replicas <= v.least:
		return workloadAction{restore: s.id, text: s.id + " is needed after all"}
	case v.ordinals && s.id != v.last():
		return workloadAction{restore: s.id, text: s.id + " is not the last one"}
	case s.drain == drainDone:
		return workloadAction{replicas: v.replicas - 1, remove: s.id, text: s.id + " is empty: from " + fmt.Sprintf("%d to %d replicas", v.replicas, v.replicas-1)}
	case s.drain == drainStuck:
		return workloadAction{restore: s.id, text: "nobody may receive the objects of " + s.id}
	case late:
		return workloadAction{restore: s.id, text: s.id + " could not be emptied within " + removalLimit.String()}
	}
	return workloadAction{text: "emptying " + s.id}
}

// hasReceiver says whether somebody may receive what a shard has.
func (v workloadView) hasReceiver(shard string) bool {
	return slices.ContainsFunc(v.shards, func(s workloadShard) bool { return s.receives && s.id != shard })
}

// last is the shard of a StatefulSet that goes first.
func (v workloadView) last() string { return v.name + "-" + strconv.Itoa(int(v.replicas-1)) }

// begin chooses the shard to remove: the one that has the least to move.
func (v workloadView) begin() workloadAction {
	if v.failed {
		return workloadAction{text: "a removal had to be taken back a short time ago"}
	}
	serving := slices.DeleteFunc(slices.Clone(v.shards), func(s workloadShard) bool { return !s.serving })
	if v.ordinals {
		if !v.hasReceiver(v.last()) {
			return workloadAction{text: "nobody could receive what " + v.last() + " has"}
		}
		if slices.ContainsFunc(serving, func(s workloadShard) bool { return s.id == v.last() }) {
			return workloadAction{drain: v.last(), text: "emptying " + v.last() + ", the last one"}
		}
		if slices.ContainsFunc(v.shards, func(s workloadShard) bool { return s.id == v.last() }) {
			return workloadAction{text: "waiting until it is known whether " + v.last() + " is alive"}
		}
		return workloadAction{replicas: v.replicas - 1, text: v.last() + " is no shard: there is nothing to empty"}
	}
	if len(serving) < int(v.replicas) {
		return workloadAction{text: fmt.Sprintf("waiting until all %d replicas are shards that serve, %d are", v.replicas, len(serving))}
	}
	serving = slices.DeleteFunc(serving, func(s workloadShard) bool { return !v.hasReceiver(s.id) })
	if len(serving) == 0 {
		return workloadAction{text: "nobody could receive what a shard has that is removed"}
	}
	least := slices.MinFunc(serving, func(a, b workloadShard) int {
		switch {
		case a.objects != b.objects:
			return int(min(max(a.objects-b.objects, -1), 1))
		case a.load < b.load:
			return -1
		case a.load > b.load:
			return 1
		}
		return strings.Compare(a.id, b.id)
	})
	return workloadAction{drain: least.id, text: fmt.Sprintf("emptying %s, which has the fewest objects: %d", least.id, least.objects)}
}

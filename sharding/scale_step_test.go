package sharding

import (
	"testing"
	"time"
)

func TestScaleStep(t *testing.T) {
	now := time.Unix(100000, 0)
	shard := func(id string, objects int64) workloadShard {
		return workloadShard{id: id, serving: true, receives: true, objects: objects}
	}
	going := func(id string, replicas int32, ago time.Duration, drain drainState) workloadShard {
		return workloadShard{id: id, objects: 5, removal: &removal{replicas, now.Add(-ago)}, drain: drain}
	}
	three := []workloadShard{shard("w-0", 5), shard("w-1", 3), shard("w-2", 9)}
	cordoned := workloadShard{id: "w-1", serving: true, objects: 7}
	with := func(s workloadShard) []workloadShard {
		return append([]workloadShard{shard("w-0", 5), shard("w-1", 3)}, s)
	}
	for _, c := range []struct {
		name              string
		ordinals          bool
		replicas, desired int32
		shards            []workloadShard
		want              workloadAction
	}{
		{"as it should be", false, 3, 3, three, workloadAction{}},
		{"more", false, 3, 5, three, workloadAction{replicas: 5}},
		{"fewer: the one with the fewest objects", false, 3, 2, three, workloadAction{drain: "w-1"}},
		{"fewer: the last one of a StatefulSet", true, 3, 1, three, workloadAction{drain: "w-2"}},
		{"one at a time", false, 3, 1, with(going("w-2", 3, time.Minute, drainGoesOn)), workloadAction{}},
		{"not all have come", false, 4, 3, three, workloadAction{}},
		{"a Pod that never became a shard", true, 4, 3, three, workloadAction{replicas: 3}},
		{"the last one is not alive", true, 3, 2, []workloadShard{shard("w-0", 1), shard("w-1", 1), {id: "w-2"}}, workloadAction{}},
		{"the only one stays", false, 1, 0, three[:1], workloadAction{}},
		{"one that receives nothing can go", false, 2, 1, []workloadShard{shard("w-0", 5), cordoned}, workloadAction{drain: "w-1"}},
		{"nobody could receive", false, 1, 0, []workloadShard{cordoned}, workloadAction{}},
		{"nobody could receive what the last one has", true, 2, 1, []workloadShard{cordoned, {id: "w-0", serving: true}}, workloadAction{}},
		{"empty: exactly that one goes", false, 3, 3, with(going("w-2", 3, time.Minute, drainDone)), workloadAction{replicas: 2, remove: "w-2"}},
		{"it is gone from the workload, and not yet gone", false, 2, 2, with(going("w-2", 3, time.Minute, drainDone)), workloadAction{}},
		{"the workload removed another one", false, 2, 2, with(going("w-2", 3, time.Hour, drainDone)), workloadAction{restore: "w-2"}},
		{"nobody may receive", false, 3, 3, with(going("w-2", 3, time.Minute, drainStuck)), workloadAction{restore: "w-2"}},
		{"takes too long", false, 3, 3, with(going("w-2", 3, time.Hour, drainGoesOn)), workloadAction{restore: "w-2"}},
		{"somebody has scaled up meanwhile", false, 4, 4, with(going("w-2", 3, time.Minute, drainGoesOn)), workloadAction{restore: "w-2"}},
		{"it is the least now", false, 2, 2, []workloadShard{shard("w-0", 5), going("w-1", 2, time.Minute, drainGoesOn)}, workloadAction{restore: "w-1"}},
		{"another one is the last now", true, 3, 3, []workloadShard{shard("w-2", 1), going("w-1", 3, time.Minute, drainGoesOn)}, workloadAction{restore: "w-1"}},
		{"an annotation of somebody else", false, 3, 3, with(workloadShard{id: "w-2", removal: &removal{}, drain: drainGoesOn}), workloadAction{restore: "w-2"}},
	} {
		got := scaleStep(workloadView{now: now, replicas: c.replicas, desired: c.desired, least: 2, ordinals: c.ordinals, name: "w", shards: c.shards})
		if got.text == "" && got != (workloadAction{}) {
			t.Errorf("%s: no text", c.name)
		}
		if got.text = ""; got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestRemovalAnnotation(t *testing.T) {
	r := removal{3, time.Unix(1000, 0)}
	if back := parseRemoval(r.String()); back.replicas != 3 || !back.begun.Equal(r.begun) {
		t.Errorf("%v came back as %v", r, back)
	}
	for _, odd := range []string{"", "3", "x/y", "3/yesterday", "99999999999/2024-01-15T10:30:00Z"} {
		if got := parseRemoval(odd); got != (removal{}) {
			t.Errorf("%q: %v, want nothing", odd, got)
		}
	}
}

package sharding

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// holdings is a set of objects of one shard, as counted from labels or as reported.
type holdings struct {
	count  int64
	sketch sketch
	text   string // of a report
}

// holdingSet is what shards have, by their names.
type holdingSet map[string]*holdings

// reportsOf returns what the shards report to hold of a resource, of those that lives says are live. unreported counts the
// others of these: they say nothing, or what can't be read.
func reportsOf(served map[string]map[schema.GroupResource]servedHoldings, resource schema.GroupResource, shards []string) (reports holdingSet, unreported int) {
	reports = holdingSet{}
	for _, shard := range shards {
		all, speaks := served[shard]
		if !speaks {
			unreported++
			continue
		}
		said, serves := all[resource]
		if !serves {
			continue
		}
		parsed, err := parseSketch(said.sketch)
		if err != nil {
			unreported++
			continue
		}
		reports[shard] = &holdings{count: said.count, sketch: *parsed, text: said.sketch}
	}
	return reports, unreported
}

// servedHoldings is what a report says about one resource.
type servedHoldings struct {
	count  int64
	sketch string
}

// note counts an object with the label of a shard that reports.
func (h holdingSet) note(shard string, object element) {
	if mine := h[shard]; mine != nil {
		mine.count++
		mine.sketch.add(object)
	}
}

// emptyFor returns sets that note can fill, for the shards that report.
func (h holdingSet) emptyFor() holdingSet {
	set := make(holdingSet, len(h))
	for shard := range h {
		set[shard] = &holdings{}
	}
	return set
}

// discord is how the reports differ from the labels.
type discord struct {
	// over has the objects that shards report to hold and that do not have their label, with these shards in order.
	over map[element][]string
	// under has the objects with the label of a shard that does not report to hold them.
	under map[element]string
	// apart are the shards whose report differs by more than can be read from it.
	apart []apartShard
}

type apartShard struct {
	shard          string
	labelled, held int64
	text           string
}

// compare is a pure function.
func compare(labelled, reported holdingSet) discord {
	d := discord{over: map[element][]string{}, under: map[element]string{}}
	for shard, report := range reported {
		labels := labelled[shard]
		over, under, readable := report.sketch.minus(&labels.sketch)
		if !readable {
			d.apart = append(d.apart, apartShard{shard, labels.count, report.count, report.text})
			continue
		}
		for _, object := range over {
			d.over[object] = append(d.over[object], shard)
		}
		for _, object := range under {
			d.under[object] = shard
		}
	}
	for _, shards := range d.over {
		slices.Sort(shards)
	}
	slices.SortFunc(d.apart, func(a, b apartShard) int { return cmp.Compare(a.shard, b.shard) })
	return d
}

// holders returns who holds an object that somebody holds without its label: these, and its owner if that holds it too.
func (d *discord) holders(object element, owner string, reported holdingSet) []string {
	holders := slices.Clone(d.over[object])
	apart := slices.ContainsFunc(d.apart, func(a apartShard) bool { return a.shard == owner })
	if _, missing := d.under[object]; owner != "" && reported[owner] != nil && !missing && !apart && !slices.Contains(holders, owner) {
		holders = append(holders, owner)
	}
	slices.Sort(holders)
	return holders
}

// heldKind says what it amounts to that an object is held by a shard that is not its owner.
func heldKind(holders []string) gapKind {
	if len(holders) > 1 {
		return gapDoublyOwned
	}
	return gapHeldElsewhere
}

// suspect is an object that the reports of the pass before were at odds about, as this pass has come across it.
type suspect struct {
	ref   auditRef
	owner string
}

func joinShards(shards []string) string { return strings.Join(shards, " and ") }

//go:build unix

package main

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/internal/faults/trial"
	"github.com/shard-io/shard-controller/internal/timeline"
)

// late is a write of a shard that was not the owner of the object when the API
// server accepted it.
type late struct {
	Object string // its name
	Said   string
}

// judgement is what the witnesses say about all writes of a stage.
type judgement struct {
	Judged   int            // writes of reconciles that were accepted
	Unheard  int            // those of them of which the audit log says nothing
	Late     []late         // those of them that must not have been
	Refused  map[string]int // by the server, by the name of the object
	Twins    []string       // two processes of a shard that took turns
	Disagree []string       // the witnesses contradict each other: nothing is proved
	Created  int            // objects without an owner that reconciles have created: nobody's, and not judged
	Unknown  int            // accepted while nobody looked: not judged
}

// versionID names one version of one object.
type versionID struct {
	uid    types.UID
	number string
}

// judge goes through the versions of all objects in the order in which they
// were written. There are two witnesses: the watches, which see every version
// but not who made it, and the audit log, which says with whose token a request
// was made, and lacks what the API server was about when it was killed. What a
// stamp says counts where the audit log is silent.
//
// A write is late if its author is not the owner of the version before it, which
// is what the API server compared it with when it accepted it; or not the owner
// of the version that it made, as reconciles leave the owner as it is.
func judge(line *timeline.Timeline, writes []write) judgement {
	j := judgement{Refused: map[string]int{}}
	authors := map[versionID]write{}
	for _, w := range writes {
		if w.Version != nil {
			line.Add(*w.Version)
		}
		switch {
		case !w.Operator:
		case w.refused():
			j.Refused[w.Name.Name]++
		case w.Version != nil:
			authors[versionID{w.Version.UID, w.Version.Number}] = w
		}
	}
	before := map[types.UID]timeline.Version{}
	turns := turns{}
	for _, v := range line.Ordered() {
		last, known := before[v.UID]
		before[v.UID] = v
		if v.Deleted {
			continue
		}
		audited, isAudited := authors[versionID{v.UID, v.Number}]
		if v.Note == last.Note && !isAudited {
			continue // not the write of a reconcile
		}
		j.look(v, last, known, audited.Pod)
		if said := turns.look(v); said != "" {
			j.Twins = append(j.Twins, said)
		}
	}
	return j
}

// look judges one write of a reconcile; pod is empty if it is not in the audit log.
func (j *judgement) look(v, last timeline.Version, known bool, pod string) {
	stamp, err := trial.ParseStamp(v.Note)
	switch {
	case err != nil:
		j.Disagree = append(j.Disagree, fmt.Sprintf("%s at %s: %v", v.Name.Name, v.Number, err))
		return
	case pod != "" && pod != stamp.Shard:
		j.Disagree = append(j.Disagree, fmt.Sprintf("%s at %s: written by %s, stamped by %s", v.Name.Name, v.Number, pod, stamp.Shard))
		return
	}
	if !known && v.Owner == "" {
		j.Created++
		return
	}
	if known && v.Gap && pod == "" && (last.Owner != v.Owner || last.Epoch != v.Epoch) {
		j.Unknown++ // written before or after the change of owner
		return
	}
	j.Judged++
	if pod == "" {
		j.Unheard++
	}
	owner := v.Owner
	if known && stamp.Shard == owner {
		owner = last.Owner
	}
	if stamp.Shard != owner {
		j.Late = append(j.Late, late{v.Name.Name, fmt.Sprintf("%s %s at version %s: %s wrote it, and %q owned it (epoch %d, the writer knew %d)",
			v.Resource, v.Name.Name, v.Number, stamp.Shard, owner, v.Epoch, stamp.Epoch)})
	}
}

// turns finds out whether two processes of a shard have written in turns.
type turns map[string][]string // the processes of a shard, in the order of their first writes

func (t turns) look(v timeline.Version) string {
	stamp, err := trial.ParseStamp(v.Note)
	if err != nil {
		return ""
	}
	seen := t[stamp.Shard]
	for i, process := range seen {
		if process == stamp.Process {
			if i < len(seen)-1 {
				return fmt.Sprintf("%s %s at version %s: process %s wrote after %s of the same shard", v.Resource, v.Name.Name, v.Number, stamp.Process, seen[len(seen)-1])
			}
			return ""
		}
	}
	t[stamp.Shard] = append(seen, stamp.Process)
	return ""
}

// trialOf is the trial that an object is part of, by its name: "pause-7-2" is of
// "pause-7".
func trialOf(object string) string {
	if i := strings.LastIndexByte(object, '-'); i > 0 {
		return object[:i]
	}
	return object
}

// tally counts trials of a kind.
type tally struct {
	Trials   int // all
	Tried    int // in which a late write was accepted or refused
	Faulty   int // in which one was accepted
	Accepted int // late writes
	Refused  int // by the API server
	InClient int // by the client-side fence
}

// count sums up the trials of one kind; inClient is by trial.
func (j *judgement) count(kind string, trials int, inClient map[string]int) tally {
	t := tally{Trials: trials}
	tried, faulty := map[string]bool{}, map[string]bool{}
	note := func(object string, n int, sum *int, sets ...map[string]bool) {
		if of := trialOf(object); n > 0 && trialOf(of) == kind {
			*sum += n
			for _, set := range sets {
				set[of] = true
			}
		}
	}
	for _, l := range j.Late {
		note(l.Object, 1, &t.Accepted, tried, faulty)
	}
	for object, n := range j.Refused {
		note(object, n, &t.Refused, tried)
	}
	for of, n := range inClient {
		note(of+"-0", n, &t.InClient, tried)
	}
	t.Tried, t.Faulty = len(tried), len(faulty)
	return t
}

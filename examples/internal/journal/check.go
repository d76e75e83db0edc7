package journal

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Interval is the time during which one reconcile had an object in hand.
type Interval struct {
	Key, UID       string
	Shard, Process string
	Run            uint64
	Epoch          int64
	// Start and End are wall-clock nanoseconds, both inclusive. End is the end
	// of a reconcile that ended, and the last Act (or else the start) of one
	// that was interrupted or fenced.
	Start, End int64
	// Ended is End, Fenced, or "" for a reconcile that was interrupted.
	Ended Event
	// Acts is the number of mutating requests.
	Acts int
}

// String names the reconcile.
func (i Interval) String() string {
	return fmt.Sprintf("%s (process %s, run %d, epoch %d)", i.Shard, i.Process, i.Run, i.Epoch)
}

// touches reports whether the run had the object in hand at all. A process that
// wakes up after its fence starts a reconcile, sees that, and leaves: if it
// sent nothing it has touched nothing.
func (i Interval) touches() bool { return i.Ended != Fenced || i.Acts > 0 }

// Overlap is an object that two reconciles had in hand at once.
type Overlap struct {
	Key  string
	A, B Interval // A started first
}

// String describes the overlap in one line.
func (o Overlap) String() string {
	return fmt.Sprintf("%s: %s and %s, for %d ns at least", o.Key, o.A, o.B, min(o.A.End, o.B.End)-o.B.Start)
}

// Regression is an object whose epoch was smaller in the later reconcile.
type Regression struct {
	Key            string
	Earlier, Later Interval
}

// Result is what the journals prove.
type Result struct {
	Runs, Acts         int
	Interrupted        int // reconciles that never ended: their process died or still runs
	Fenced             int // reconciles that lost the right to act on the way
	Objects            int // different objects that were reconciled
	Overlaps           []Overlap
	Regressions        []Regression
	ObjectsTouchedOnce int // objects that only one process ever reconciled
}

// OverlappingObjects is the number of different objects among the overlaps.
func (r Result) OverlappingObjects() int {
	keys := map[string]bool{}
	for _, o := range r.Overlaps {
		keys[o.Key] = true
	}
	return len(keys)
}

// Check takes the records of all processes, those of one process in the order
// in which it wrote them, and finds every pair of reconciles of one object that
// overlap in time: of two shards, of two processes with the same shardId, or of
// one process with itself. Records that do not form runs are an error: such a
// journal proves nothing.
func Check(records []Record) (Result, error) {
	intervals, err := Intervals(records)
	if err != nil {
		return Result{}, err
	}
	var res Result
	for _, i := range intervals {
		res.Runs++
		res.Acts += i.Acts
		switch i.Ended {
		case "":
			res.Interrupted++
		case Fenced:
			res.Fenced++
		}
	}
	for _, group := range byKey(intervals) {
		res.Objects++
		if onlyOneProcess(group) {
			res.ObjectsTouchedOnce++
		}
		group = slices.DeleteFunc(group, func(i Interval) bool { return !i.touches() })
		res.Overlaps = append(res.Overlaps, overlaps(group)...)
		res.Regressions = append(res.Regressions, regressions(group)...)
	}
	return res, nil
}

// overlaps sweeps over the intervals of one object in the order of their start
// and keeps the open ones.
func overlaps(group []Interval) []Overlap {
	var found []Overlap
	var open []Interval
	for _, b := range group {
		open = slices.DeleteFunc(open, func(a Interval) bool { return a.End < b.Start })
		for _, a := range open {
			found = append(found, Overlap{Key: b.Key, A: a, B: b})
		}
		open = append(open, b)
	}
	return found
}

// regressions compares each reconcile with the highest epoch before it. A new
// UID is a new object, which counts from the beginning.
func regressions(group []Interval) []Regression {
	var found []Regression
	highest := map[string]Interval{}
	for _, i := range group {
		h, seen := highest[i.UID]
		if seen && i.Epoch < h.Epoch {
			found = append(found, Regression{Key: i.Key, Earlier: h, Later: i})
			continue
		}
		highest[i.UID] = i
	}
	return found
}

func onlyOneProcess(group []Interval) bool {
	return !slices.ContainsFunc(group, func(i Interval) bool { return i.Process != group[0].Process })
}

// byKey splits the intervals into one slice per object; both the slices and
// what is in them are in order, so that the same journals give the same Result.
func byKey(intervals []Interval) [][]Interval {
	slices.SortStableFunc(intervals, func(a, b Interval) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Start, b.Start),
			cmp.Compare(a.Process, b.Process), cmp.Compare(a.Run, b.Run))
	})
	var groups [][]Interval
	for from := 0; from < len(intervals); {
		to := from + 1
		for to < len(intervals) && intervals[to].Key == intervals[from].Key {
			to++
		}
		groups = append(groups, intervals[from:to:to])
		from = to
	}
	return groups
}

type runID struct {
	process string
	run     uint64
}

// Intervals puts the records of each reconcile together.
func Intervals(records []Record) ([]Interval, error) {
	index := map[runID]int{}
	var intervals []Interval
	var errs []error
	for _, r := range records {
		id := runID{r.Process, r.Run}
		at, known := index[id]
		if r.Event == Start {
			if known {
				errs = append(errs, fmt.Errorf("journal: process %s starts run %d twice", r.Process, r.Run))
				continue
			}
			index[id] = len(intervals)
			intervals = append(intervals, Interval{
				Key: r.Key, UID: r.UID, Shard: r.Shard, Process: r.Process, Run: r.Run,
				Epoch: r.Epoch, Start: r.Time, End: r.Time,
			})
			continue
		}
		if !known {
			errs = append(errs, fmt.Errorf("journal: process %s has %q of run %d without its start", r.Process, r.Event, r.Run))
			continue
		}
		if err := intervals[at].add(r); err != nil {
			errs = append(errs, err)
		}
	}
	return intervals, errors.Join(errs...)
}

// add extends the interval by what came after its start.
func (i *Interval) add(r Record) error {
	switch {
	case r.Key != i.Key || r.Shard != i.Shard:
		return fmt.Errorf("journal: process %s: run %d is of %s by %s and of %s by %s", r.Process, r.Run, i.Key, i.Shard, r.Key, r.Shard)
	case i.Ended != "":
		return fmt.Errorf("journal: process %s: run %d goes on (%s) after its end", r.Process, r.Run, r.Event)
	case r.Time < i.End:
		return fmt.Errorf("journal: process %s: run %d goes back in time by %d ns", r.Process, r.Run, i.End-r.Time)
	}
	switch r.Event {
	case Act:
		i.Acts++
		i.End = r.Time
	case End:
		i.Ended, i.End = End, r.Time
	case Fenced:
		i.Ended = Fenced
	}
	return nil
}

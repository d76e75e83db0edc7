package sharding

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// rosterScript plays steps on the roster of shard "a" in ring "r" for one object. Each step is a command and the answer that is
// expected of it. The cache is what was observed last.
type rosterScript struct {
	t      *testing.T
	roster *roster
	cached metav1.Object
	causes []error
	// annotations of what is seen.
	annotations map[string]string
}

var rosterKey = types.NamespacedName{Namespace: "ns", Name: "o"}

func (s *rosterScript) play(steps string) {
	s.t.Helper()
	for i, line := range strings.Split(strings.TrimSpace(steps), "\n") {
		command, want, _ := strings.Cut(strings.TrimSpace(line)+" ", " -> ")
		if got := s.step(strings.Fields(command)); got != strings.TrimSpace(want) {
			s.t.Fatalf("step %d, %q: got %q, want %q", i+1, command, got, want)
		}
	}
}

func (s *rosterScript) step(words []string) string {
	switch words[0] {
	case "see": // see VERSION OWNER [DRAIN]
		object := &metav1.ObjectMeta{Namespace: "ns", Name: "o", UID: "u", ResourceVersion: words[1], Labels: map[string]string{"shard.io/r": words[2]}}
		object.Annotations = s.annotations
		if len(words) > 3 {
			object.Labels["drain.shard.io/r"] = words[3]
		}
		s.cached = object
		return [...]string{"nothing", "work", "drain"}[s.roster.observe(rosterKey, object, object.GetLabels())]
	case "gone": // gone [VERSION]: the object leaves the cache
		last := s.cached
		if last == nil {
			last = &metav1.ObjectMeta{ResourceVersion: "1000"}
		}
		s.cached = nil
		version := "1000"
		if len(words) > 1 {
			version = words[1]
		}
		return fmt.Sprintf("expected=%v", s.roster.forget(rosterKey, last, version))
	case "epoch": // of what is seen from now on
		s.annotations = map[string]string{"epoch.shard.io/r": words[1]}
	case "deleted":
		s.roster.deleted(rosterKey)
	case "begin":
		cancel := revocation(func(err error) { s.causes = append(s.causes, err) })
		_, ok := s.roster.begin(rosterKey, cancel)
		return fmt.Sprint(ok)
	case "end":
		return fmt.Sprintf("ready=%v", s.roster.end(rosterKey))
	case "force":
		return fmt.Sprint(s.roster.force(rosterKey))
	case "cause":
		last := s.causes[len(s.causes)-1]
		return map[bool]string{true: "handover"}[errors.Is(last, ErrHandover)] + map[bool]string{true: "notowner"}[errors.Is(last, ErrNotOwner)]
	case "take":
		taken, waited := s.roster.takeReady(100)
		return strings.TrimSpace(fmt.Sprint(len(taken)) + strings.Repeat(" waits", len(waited)))
	case "given": // the hand-over was written as VERSION
		s.roster.settle(rosterKey, settlement{given: words[1]})
	case "stays": // stays [VERSION at which that was found]
		stays := settlement{}
		if len(words) > 1 {
			stays.seen = words[1]
		}
		if s.roster.settle(rosterKey, stays) {
			return "drain"
		}
	case "retry":
		s.roster.settle(rosterKey, settlement{retry: true})
	case "truth": // truth VERSION [EPOCH]: what the API server had, the object with this epoch or not at all
		t := &truth{"r", words[1], map[types.UID]int64{}}
		if len(words) > 2 {
			t.epochs["u"], _ = strconv.ParseInt(words[2], 10, 64)
		}
		s.roster.know(t)
	case "reset":
		s.roster.reset()
	case "entries":
		return fmt.Sprint(len(s.roster.entries))
	}
	return ""
}

func TestRoster(t *testing.T) {
	for name, steps := range map[string]string{
		"an owned object is reconciled, one at a time": `
			see 1 a -> work
			begin -> true
			begin -> false
			end -> ready=false
			begin -> true
			end -> ready=false
			entries -> 0`,
		"what is not in the cache is not reconciled": `
			begin -> false
			entries -> 0`,
		"an object of another shard is not reconciled": `
			see 1 b -> nothing
			begin -> false`,
		"an object is reconciled until it is its turn to be handed over, and not meanwhile": `
			see 1 a b -> drain
			begin -> true
			end -> ready=false
			take -> 1
			begin -> false
			take -> 0
			given 2 ->
			begin -> false`,
		"what the cache shows late of before the hand-over does not bring the object back, though it has left the cache in between": `
			see 1 a b -> drain
			take -> 1
			gone 2 -> expected=true
			given 5 ->
			see 3 a -> nothing
			begin -> false
			gone 5 -> expected=true
			entries -> 0`,
		"the same, when it leaves the cache after the hand-over": `
			see 1 a b -> drain
			take -> 1
			given 5 ->
			gone 2 -> expected=true
			see 3 a -> nothing
			begin -> false
			gone 5 -> expected=true
			entries -> 0`,
		"the cache may know of the hand-over before the one who wrote it": `
			see 1 a b -> drain
			take -> 1
			gone 5 -> expected=true
			given 5 ->
			entries -> 0
			see 6 a -> work`,
		"a request that comes while an earlier one is found to be withdrawn is not lost": `
			see 1 a b -> drain
			take -> 1
			retry ->
			see 2 a -> nothing
			take -> 1
			see 3 a c -> nothing
			stays 2 -> drain
			begin -> true
			end -> ready=false
			take -> 1
			given 4 ->
			gone -> expected=true
			entries -> 0`,
		"a request that was withdrawn is not taken up again because the cache still shows it": `
			see 1 a b -> drain
			take -> 1
			stays 2 ->
			begin -> true
			end -> ready=false
			take -> 0
			see 2 a -> work
			entries -> 0`,
		"after the hand-over a late event of before does not bring the object back": `
			see 3 a b -> drain
			take -> 1
			given 5 ->
			see 4 a -> nothing
			begin -> false
			gone -> expected=true
			entries -> 0`,
		"an object that comes back is reconciled again": `
			see 3 a b -> drain
			take -> 1
			given 5 ->
			see 7 a -> work
			begin -> true`,
		"the removal from the cache may be seen before the write is answered": `
			see 3 a b -> drain
			take -> 1
			gone -> expected=true
			given 5 ->
			entries -> 0`,
		"and the object may be back before that": `
			see 3 a b -> drain
			take -> 1
			gone -> expected=true
			see 9 a -> nothing
			given 5 ->
			begin -> true`,
		"a reconcile in flight is waited for": `
			see 1 a -> work
			begin -> true
			see 2 a b -> drain
			take -> 0 waits
			take -> 0
			end -> ready=true
			begin -> false
			take -> 1`,
		"a reconcile in flight can be cancelled": `
			see 1 a -> work
			begin -> true
			force -> false
			see 2 a b -> drain
			force -> false
			take -> 0 waits
			force -> true
			cause -> handover
			take -> 0
			end -> ready=true
			force -> false
			take -> 1`,
		"a drain that is withdrawn in time lets the object stay": `
			see 1 a b -> drain
			see 2 a -> work
			take -> 0
			begin -> true`,
		"a drain that is withdrawn while it is written is settled by the writer": `
			see 1 a b -> drain
			take -> 1
			see 2 a -> nothing
			begin -> false
			stays ->
			begin -> true`,
		"a drain to oneself is none": `
			see 1 a a -> work
			begin -> true`,
		"a hand-over that failed is tried again": `
			see 1 a b -> drain
			take -> 1
			retry ->
			begin -> false
			take -> 1`,
		"two requests are one": `
			see 1 a b -> drain
			see 2 a c -> nothing
			take -> 1
			take -> 0`,
		"drained, kept, drained again": `
			see 1 a b -> drain
			see 2 a -> work
			see 3 a b -> drain
			take -> 1`,
		"drained, kept, reconciled, drained again": `
			see 1 a b -> drain
			see 2 a -> work
			begin -> true
			see 3 a b -> drain
			take -> 0 waits
			end -> ready=true
			take -> 1`,
		"an object that is taken away cancels its reconcile": `
			see 1 a -> work
			begin -> true
			gone -> expected=false
			cause -> notowner
			end -> ready=false
			entries -> 0`,
		"an unfiltered cache shows the new owner instead": `
			see 1 a -> work
			begin -> true
			see 2 b -> nothing
			cause -> notowner`,
		"what was away and is back rests until the cache shows that": `
			see 1 a -> work
			truth 8 2 ->
			begin -> false
			reset ->
			see 2 a -> nothing
			begin -> false
			gone 3 -> expected=false
			epoch 2 ->
			see 7 a -> work
			begin -> true
			end -> ready=false
			epoch 1 ->
			see 6 a -> nothing
			see 9 a -> work
			entries -> 0`,
		"what was taken before a late cache shows it is not believed": `
			truth 8 ->
			see 7 a -> nothing
			begin -> false
			gone 8 -> expected=true
			see 9 a -> work
			begin -> true`,
		"a deleted object is reconciled once more": `
			see 1 a -> work
			gone -> expected=false
			deleted ->
			begin -> true
			end -> ready=false
			begin -> false
			entries -> 0`,
		"a deleted object that is created again is reconciled once, not twice": `
			gone -> expected=false
			deleted ->
			see 5 a -> work
			begin -> true
			end -> ready=false
			gone -> expected=false
			begin -> false`,
		"an object that the API server does not show as ours any more is not trusted": `
			see 3 a -> work
			truth 9 ->
			begin -> false
			see 9 a -> nothing
			see 10 a -> work
			begin -> true`,
		"a cache that is newer than the comparison is trusted": `
			see 10 a -> work
			truth 9 ->
			begin -> true`,
		"the end of the right to act forgets requests, not writes": `
			see 1 a b -> drain
			reset ->
			take -> 0
			see 1 a b -> drain
			take -> 1
			reset ->
			begin -> false
			given 2 ->
			begin -> false`,
		"opaque resourceVersions count as newer": `
			see x a b -> drain
			take -> 1
			given y ->
			see z a -> work`,
	} {
		t.Run(name, func(t *testing.T) {
			s := &rosterScript{t: t}
			s.roster = newRoster("r", "a", func(types.NamespacedName) metav1.Object { return s.cached })
			s.play(steps)
		})
	}
}

// While a thousand objects are to be handed over, those whose turn has not come go on being reconciled.
func TestRosterTakesTurns(t *testing.T) {
	objects := map[types.NamespacedName]metav1.Object{}
	r := newRoster("r", "a", func(key types.NamespacedName) metav1.Object { return objects[key] })
	object := func(i int) (types.NamespacedName, metav1.Object) {
		o := &metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("o-", i), ResourceVersion: fmt.Sprint(i), Labels: map[string]string{
			"shard.io/r": "a", "drain.shard.io/r": "b",
		}}
		objects[keyOf(o)] = o
		return keyOf(o), o
	}
	begins := func(i int) bool {
		key, _ := object(i)
		_, began := r.begin(key, revocation(func(error) {}))
		if began {
			r.end(key)
		}
		return began
	}
	for i := range 5 {
		if key, o := object(i); r.observe(key, o, o.GetLabels()) != observedDrain {
			t.Fatalf("%s is not to be handed over", key)
		}
	}
	busy, _ := object(1)
	r.begin(busy, revocation(func(error) {}))
	taken, waited := r.takeReady(2) // 0, and 2; 1 is at work
	if len(taken) != 2 || taken[1].Name != "o-2" || len(waited) != 1 || waited[0] != busy {
		t.Fatalf("taken %v, waited for %v", taken, waited)
	}
	for i, want := range []bool{false, false, false, true, true} {
		if got := begins(i); got != want {
			t.Errorf("a reconcile of o-%d begins: %v, want %v", i, got, want)
		}
	}
	if !r.waiting() || !r.end(busy) {
		t.Error("nothing waits, or what has become ready does not count")
	}
	if taken, _ = r.takeReady(1); len(taken) != 1 || taken[0] != busy {
		t.Errorf("taken %v, want what rests already", taken)
	}
	if taken, _ = r.takeReady(9); len(taken) != 2 || r.waiting() {
		t.Errorf("taken %v, want the other two", taken)
	}
}

// What the cache shows is looked at while the roster is locked. If it were read before, the object could be given away in between, and be
// gone from the cache, so that nothing would be left to tell that what was read is of the past.
func TestRosterLooksWhileItIsLocked(t *testing.T) {
	looks, unlocked := 0, 0
	var r *roster
	r = newRoster("r", "a", func(types.NamespacedName) metav1.Object {
		looks++
		if r.mu.TryLock() {
			unlocked++
			r.mu.Unlock()
		}
		return &metav1.ObjectMeta{Namespace: "ns", Name: "o", ResourceVersion: "1", Labels: map[string]string{"shard.io/r": "a"}}
	})
	r.holds(rosterKey)
	if _, ok := r.borrow(rosterKey, func(error) {}); !ok {
		t.Error("an object of ours can't be borrowed")
	}
	r.giveBack(rosterKey)
	if _, ok := r.begin(rosterKey, revocation(func(error) {})); !ok {
		t.Error("no reconcile of an object of ours begins")
	}
	if looks != 3 || unlocked != 0 {
		t.Errorf("%d looks, %d of them without the lock", looks, unlocked)
	}
}

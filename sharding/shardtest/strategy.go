package shardtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/ring"
)

// TestStrategy runs [CheckStrategy] as a test. Run it with -race as well.
func TestStrategy(t *testing.T, newStrategy func() balancer.Strategy) {
	t.Helper()
	if err := CheckStrategy(newStrategy); err != nil {
		t.Error(err)
	}
}

// CheckStrategy holds a strategy against the rules of balancer.Strategy, in views and with objects drawn from a fixed
// seed, and returns what it finds wrong, joined, or nil. newStrategy must return a new value each time. The rules:
//
//   - an answer is an eligible shard, or the object's owner if that may keep it, and has a reason;
//   - when no shard may receive the object, the error wraps balancer.ErrNoShard; when one may, there is no error;
//   - an object that was placed is not placed elsewhere at once, in the same view;
//   - the answers do not depend on the order of the shards, nor on anything but what the strategy was asked before;
//   - no view makes it panic: without a ring, with a ring of other shards, with one shard, with a thousand;
//   - the view stays as it is, and Place may be called from many goroutines.
func CheckStrategy(newStrategy func() balancer.Strategy) error {
	var problems []error
	for _, check := range []func(func() balancer.Strategy) error{checkAnswers, checkOrder, checkConcurrent} {
		if err := guarded(check, newStrategy); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// guarded turns a panic of the strategy into an error.
func guarded(check func(func() balancer.Strategy) error, newStrategy func() balancer.Strategy) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the strategy panics: %v", p)
		}
	}()
	return check(newStrategy)
}

// sizes are the numbers of shards in the views.
var sizes = []int{0, 1, 2, 3, 10, 1000}

// shardsOf draws shards, some of which may not receive objects.
func shardsOf(rng *rand.Rand, n int) []balancer.Shard {
	shards := make([]balancer.Shard, n)
	for i := range shards {
		shards[i] = balancer.Shard{
			ID: fmt.Sprintf("shard-%d", i), Weight: float64(rng.IntN(4)), Objects: rng.Int64N(100),
			Load: rng.Float64() * 1.5, LoadKnown: rng.IntN(3) > 0,
			Cordoned: rng.IntN(6) == 0, Draining: rng.IntN(6) == 0, Silent: rng.IntN(6) == 0, Full: rng.IntN(6) == 0,
		}
	}
	return shards
}

// ringOf returns no ring, a ring of the shards, or one of some of them and others.
func ringOf(rng *rand.Rand, shards []balancer.Shard) (*ring.Ring, error) {
	kind := rng.IntN(4)
	if kind == 0 {
		return nil, nil
	}
	members := make([]ring.Member, 0, len(shards)+1)
	for i, s := range shards {
		if kind > 1 || i%2 == 0 {
			members = append(members, ring.Member{ID: s.ID, Weight: s.Weight})
		}
	}
	if kind == 1 {
		members = append(members, ring.Member{ID: "gone"})
	}
	return ring.New(members)
}

// objectOf draws an object, with an owner or without.
func objectOf(rng *rand.Rand, shards []balancer.Shard) balancer.Object {
	o := balancer.Object{Key: fmt.Sprintf("/Secret/ns-%d/name-%d", rng.IntN(9), rng.Int64())}
	switch k := rng.IntN(5); {
	case k == 0:
		o.Owner = "unknown"
	case k == 1:
		o.Key = ""
	case k < 4 && len(shards) > 0:
		o.Owner = shards[rng.IntN(len(shards))].ID
	}
	o.Hash = ring.Hash(o.Key)
	return o
}

func checkAnswers(newStrategy func() balancer.Strategy) error {
	rng := rand.New(rand.NewPCG(1, 11))
	strategy := newStrategy()
	for range 15 {
		for _, n := range sizes {
			shards := shardsOf(rng, n)
			r, err := ringOf(rng, shards)
			if err != nil {
				return err
			}
			view, err := balancer.NewView(r, shards)
			if err != nil {
				return err
			}
			before := slices.Clone(view.Shards())
			for range 10 {
				o := objectOf(rng, shards)
				if err := checkAnswer(strategy, view, o); err != nil {
					return fmt.Errorf("with %d shards, %d of them eligible, and %+v: %w", n, len(view.Eligible()), o, err)
				}
			}
			if !slices.Equal(before, view.Shards()) {
				return errors.New("the strategy changed the shards of the view")
			}
		}
	}
	return nil
}

func checkAnswer(strategy balancer.Strategy, view *balancer.View, o balancer.Object) error {
	owner, _ := view.Shard(o.Owner)
	keeps := owner.ID != "" && owner.Keeps()
	d, err := strategy.Place(view, o)
	switch possible := len(view.Eligible()) > 0 || keeps; {
	case err == nil && !possible:
		return fmt.Errorf("no shard may have it, but the answer is %q instead of ErrNoShard", d.Shard)
	case err != nil && len(view.Eligible()) > 0:
		return fmt.Errorf("there are eligible shards, but the error is %w", err)
	case err != nil && !errors.Is(err, balancer.ErrNoShard):
		return fmt.Errorf("no shard may receive it, but the error is not ErrNoShard: %w", err)
	case err != nil:
		return nil
	case d.Reason == "":
		return fmt.Errorf("the answer %q has no reason", d.Shard)
	}
	s, known := view.Shard(d.Shard)
	if !known || !s.Eligible() && !(d.Shard == o.Owner && s.Keeps()) {
		return fmt.Errorf("the answer is %q, which may not have it: %+v", d.Shard, s)
	}
	o.Owner = d.Shard
	if again, err := strategy.Place(view, o); err != nil || again.Shard != d.Shard {
		return fmt.Errorf("placed on %q, it is placed on %q at once (error %v): it would never rest", d.Shard, again.Shard, err)
	}
	return nil
}

// checkOrder asks two values of the strategy the same, with shards in different order.
func checkOrder(newStrategy func() balancer.Strategy) error {
	rng := rand.New(rand.NewPCG(2, 11))
	one, other := newStrategy(), newStrategy()
	for _, n := range sizes {
		shards := shardsOf(rng, n)
		r, err := ringOf(rng, shards)
		if err != nil {
			return err
		}
		a, err := balancer.NewView(r, shards)
		if err != nil {
			return err
		}
		rng.Shuffle(n, func(i, j int) { shards[i], shards[j] = shards[j], shards[i] })
		b, err := balancer.NewView(r, shards)
		if err != nil {
			return err
		}
		for range 50 {
			o := objectOf(rng, shards)
			x, errX := one.Place(a, o)
			y, errY := other.Place(b, o)
			if x.Shard != y.Shard || (errX == nil) != (errY == nil) {
				return fmt.Errorf("two values of the strategy, asked the same about %d shards in different order, answer %q (%v) and %q (%v)",
					n, x.Shard, errX, y.Shard, errY)
			}
		}
	}
	return nil
}

// checkConcurrent places from many goroutines in two views that take turns.
func checkConcurrent(newStrategy func() balancer.Strategy) error {
	var views []*balancer.View
	for _, n := range []int{5, 6} {
		shards := make([]balancer.Shard, n)
		for i := range shards {
			shards[i].ID = fmt.Sprintf("shard-%d", i)
		}
		v, err := balancer.NewView(nil, shards)
		if err != nil {
			return err
		}
		views = append(views, v)
	}
	strategy := newStrategy()
	problems := make([]error, 8)
	var wg sync.WaitGroup
	for worker := range problems {
		wg.Go(func() {
			problems[worker] = guarded(func(func() balancer.Strategy) error {
				for i := range 200 {
					key := fmt.Sprintf("/Secret/ns/%d-%d", worker, i)
					view := views[i/50%2]
					d, err := strategy.Place(view, balancer.Object{Key: key, Hash: ring.Hash(key)})
					if _, known := view.Shard(d.Shard); err != nil || !known {
						return fmt.Errorf("from many goroutines: %q, %v", d.Shard, err)
					}
				}
				return nil
			}, nil)
		})
	}
	wg.Wait()
	return errors.Join(problems...)
}

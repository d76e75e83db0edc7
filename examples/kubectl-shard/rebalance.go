package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/ring"
	"github.com/shard-io/shard-controller/sharding"
)

// rebalanceReport is what "rebalance --dry-run" says.
type rebalanceReport struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Strategy  string `json:"strategy"`
	Objects   int64  `json:"objects"`
	Moving    int64  `json:"moving"`     // in hand-over already
	Moves     []move `json:"moves"`      // that the strategy wants
	SlotMoves []move `json:"slotMoves"`  // that are due in the slot table, in slots
	Unknown   int64  `json:"unknowable"` // objects of which only the manager knows where they belong
	// Plan is what the manager has decided last about the load.
	Plan *shardv1.Decision `json:"lastPlan,omitempty"`
}

// move counts what is to go from one shard to another. From is "" for what has no owner, To for what nobody may receive.
type move struct {
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
	Count int64  `json:"count"`
}

func rebalanceCommand() *command {
	dryRun := false
	return &command{
		name: "rebalance", args: "--dry-run", least: 0, most: 0,
		short: "Say how many objects are to move between which shards",
		long: "Nobody has to ask a manager to rebalance: it moves what the strategy wants elsewhere, all the time, and evens out the load as\n" +
			"spec.rebalance of the ShardConfig says. So there is --dry-run only. It looks at the metadata of all objects of the ring. The exit code is 1\n" +
			"if something is to move.",
		flags: func(set *flag.FlagSet) { set.BoolVar(&dryRun, "dry-run", false, "only say what is to move; required") },
		run: func(ctx context.Context, s *session, _ []string) error {
			if !dryRun {
				return usagef("rebalance: only --dry-run is possible: managers rebalance by themselves, as spec.rebalance of the ShardConfig says; to move objects by hand, see migrate and drain")
			}
			return s.rebalance(ctx)
		},
	}
}

func (s *session) rebalance(ctx context.Context) error {
	config, err := s.ringConfig(ctx, true)
	if err != nil {
		return err
	}
	facts, err := s.facts(ctx, config, false)
	if err != nil {
		return err
	}
	targets, _, err := s.targets(ctx, config)
	if err != nil {
		return err
	}
	r := newRebalancing(facts)
	for _, t := range targets {
		if err := s.learnNamespaces(ctx, t); err != nil {
			return err
		}
		err := s.each(ctx, t.resource, "", t.objects.String(), func(root *metav1.PartialObjectMetadata) error {
			if t.selects(root) {
				r.look(t, root)
				s.progress.say("%s looked at", plural(r.objects, "object"))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	report := r.report()
	if err := s.print(report, report.text); err != nil || len(report.Moves)+len(report.SlotMoves) == 0 {
		return err
	}
	return errSaid
}

// rebalancing counts, one object after the other. It keeps no object.
type rebalancing struct {
	*places
	objects, moving, unknown int64
	moves                    map[[2]string]int64
}

func newRebalancing(f *ringFacts) *rebalancing {
	return &rebalancing{places: newPlaces(f), moves: map[[2]string]int64{}}
}

func (r *rebalancing) look(t *target, root metav1.Object) {
	ring := r.facts.config.Name
	owner, _ := sharding.OwnerOf(root, ring)
	r.objects++
	if to, draining := sharding.DrainTargetOf(root, ring); draining && to != owner {
		r.moving++
		return
	}
	refused := refusalOf(root, ring)
	switch belongs, err := r.of(t, root); {
	case errors.Is(err, balancer.ErrNoShard):
		if owner == "" || !live(r.facts.instance(owner)) || r.facts.instance(owner).Spec.Draining {
			r.moves[[2]string{owner, ""}]++
		}
	case err != nil:
		r.unknown++
	case refused != nil && (refused.Declined != "" || refused.By == belongs.shard): // it stays for a while
	case belongs.shard != owner:
		r.moves[[2]string{owner, belongs.shard}]++
	}
}

func (r *rebalancing) report() rebalanceReport {
	report := rebalanceReport{
		Namespace: r.facts.config.Namespace, Name: r.facts.config.Name, Strategy: r.name, Objects: r.objects, Moving: r.moving, Unknown: r.unknown,
		Moves: sortedMoves(r.moves), SlotMoves: sortedMoves(r.slotMoves()), Plan: r.facts.config.Status.LastPlan,
	}
	return report
}

// slotMoves are those that are due as the members, or their weights, are others than those that the table was made for.
func (r *rebalancing) slotMoves() map[[2]string]int64 {
	var members []ring.Member
	for i := range r.facts.instances {
		instance := &r.facts.instances[i]
		if live(instance) && !instance.Spec.Draining {
			members = append(members, ring.Member{ID: instance.Name, Weight: float64(max(1, instance.Spec.Weight))})
		}
	}
	_, faults := tableOf(r.facts)
	if byHand(r.facts) || slices.Equal(r.table.Members(), members) && len(faults) == 0 {
		return nil
	}
	next, err := balancer.Regroup(r.table, members, nil) // the manager takes into account what slots carry, too
	if err != nil {
		return nil
	}
	moves := map[[2]string]int64{}
	for _, m := range ring.Diff(r.table, next) {
		moves[[2]string{m.From, m.To}] += int64(m.Share()*float64(next.Slots()) + 0.5)
	}
	return moves
}

// byHand says whether somebody has written ranges by hand: then the manager leaves the table as it is.
func byHand(f *ringFacts) bool {
	return slices.ContainsFunc(f.instances, func(i shardv1.ShardInstance) bool { return i.Spec.HashRange != nil })
}

func sortedMoves(counts map[[2]string]int64) []move {
	moves := make([]move, 0, len(counts))
	for pair, n := range counts {
		moves = append(moves, move{pair[0], pair[1], n})
	}
	slices.SortFunc(moves, func(a, b move) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return moves
}

func (r rebalanceReport) text(out io.Writer) {
	objects := newTable("FROM", "TO", "OBJECTS")
	sum := int64(0)
	for _, m := range r.Moves {
		objects.row(cmp.Or(m.From, "<none>"), cmp.Or(m.To, "<nobody may receive them>"), m.Count)
		sum += m.Count
	}
	objects.write(out)
	if len(r.Moves) > 0 {
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%d of %s to move, by %s; %d on their way\n", sum, plural(r.Objects, "object"), r.Strategy, r.Moving)
	if r.Unknown > 0 {
		fmt.Fprintf(out, "%s: only the manager knows\n", plural(r.Unknown, "object"))
	}
	slots := newTable("FROM", "TO", "SLOTS")
	for _, m := range r.SlotMoves {
		slots.row(cmp.Or(m.From, "<none>"), cmp.Or(m.To, "<none>"), m.Count)
	}
	slots.section(out)
	if r.Plan != nil {
		fmt.Fprintf(out, "\nThe manager's last plan for the load: %s, since %s. %s\n", r.Plan.Reason, r.Plan.Time.UTC().Format("2006-01-02T15:04:05Z"), r.Plan.Message)
	}
}

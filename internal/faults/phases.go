//go:build unix

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/shard-io/shard-controller/internal/timeline"
)

// phase is something that is tried, in some arms.
type phase struct {
	name  string
	arms  []arm
	count func(settings) int // how many trials; none: it is left out
	play  func(context.Context, *stage, *outcome) error
}

var phases = []phase{
	// The fence of the process ends a hammer with its reconcile: there would be no race.
	{"races", []arm{control, serverOnly}, func(s settings) int { return s.races }, playRaces},
	{"pauses", arms, func(s settings) int { return s.pauses }, playPauses},
	{"users", []arm{control, serverOnly}, func(s settings) int { return s.rounds }, playUsers},
	{"kills", []arm{serverOnly}, func(s settings) int { return s.kills }, playKills},
	{"handovers", []arm{serverOnly}, func(s settings) int { return s.handovers }, playHandovers},
	{"singles", []arm{serverOnly}, func(s settings) int { return s.rounds }, playSingles},
	{"restarts", []arm{serverOnly}, func(s settings) int { return s.restarts }, playRestarts},
	{"compaction", []arm{serverOnly}, func(s settings) int { return s.compactions }, playCompaction},
	{"outage", []arm{serverOnly}, func(s settings) int { return int(s.outage) }, playOutage},
}

func phaseNames() []string {
	var names []string
	for _, p := range phases {
		names = append(names, p.name)
	}
	return names
}

// outcome is what the phases of an arm have found. Late writes are counted at
// the end, for all together.
type outcome struct {
	kinds     []kind
	durations []duration
	checks    []check
}

// kind of trials whose late writes are to be counted: those whose objects have
// names that begin with it.
type kind struct {
	name     string
	trials   int
	needs    bool // late writes must have been tried
	inClient map[string]int
}

// ended notes that a phase has gone to its end, or why it has not. The others are played all the same.
func (out *outcome) ended(p phase, a arm, err error) {
	if err != nil {
		out.checks = append(out.checks, check{What: "all of the " + p.name + " could be tried", Arm: a.name, N: 1, Bad: 1, Unit: "phase broken off", Example: err.Error()})
	}
}

func playRaces(ctx context.Context, s *stage, out *outcome) error {
	out.kinds = append(out.kinds, kind{name: "race", trials: s.settings.races, needs: true})
	if err := s.races(ctx, "race", s.settings.races); err != nil {
		return err
	}
	// A hammer that did not end would load the API server for all that comes after.
	return until(ctx, time.Minute, "the hammers end with their objects", func() error {
		if left := s.now.remaining("race-"); len(left) > 0 {
			return fmt.Errorf("%d are there still, such as %s", len(left), left[0])
		}
		return nil
	})
}

func playPauses(ctx context.Context, s *stage, out *outcome) error {
	inClient, err := s.pauses(ctx, "pause", s.settings.pauses)
	out.kinds = append(out.kinds, kind{"pause", s.settings.pauses, true, inClient})
	return err
}

func playKills(ctx context.Context, s *stage, out *outcome) error {
	out.kinds = append(out.kinds, kind{name: "kill", trials: s.settings.kills})
	took, err := s.kills(ctx, "kill", s.settings.kills)
	limit := s.settings.lease + 2*s.settings.lease*2/15 + time.Second
	out.durations = append(out.durations, duration{"take-over: kill -9 → last object has a new owner", seconds(took), limit.Seconds() * s.settings.slack})
	return err
}

// conclude asks the witnesses.
func (s *stage) conclude(ctx context.Context, out *outcome) (r report, err error) {
	if err := s.line.Look(ctx); err != nil {
		return r, err
	}
	writes, torn, err := readAudit(s.audit, s.arm.name)
	if err != nil {
		return r, err
	}
	j := judge(&s.line.Timeline, writes)
	elsewhere := len(j.Late)
	for _, k := range out.kinds {
		t := trials{Kind: k.name, Arm: s.arm.name, tally: j.count(k.name, k.trials, k.inClient), Control: s.arm == control, Needs: k.needs}
		for _, l := range j.Late {
			if trialOf(trialOf(l.Object)) == k.name {
				t.Example = l.Said
			}
		}
		elsewhere -= t.Accepted
		r.Trials = append(r.Trials, t)
	}
	r.Durations = out.durations
	r.Checks = append(out.checks, s.witnesses(j, elsewhere, torn)...)
	return r, nil
}

// witnesses are the checks on the whole history of an arm.
func (s *stage) witnesses(j judgement, elsewhere, torn int) []check {
	fine := []check{
		{What: "the witnesses agree on who wrote", Arm: s.arm.name, N: j.Judged, Bad: len(j.Disagree), Unit: "disagreements", Example: first(j.Disagree)},
		{What: fmt.Sprintf("the audit log has what the watches have seen (all but %d)", j.Unheard), Arm: s.arm.name, N: j.Judged, Bad: max(0, 100*j.Unheard-j.Judged)},
		{What: "two processes of a shard never write in turns", Arm: s.arm.name, N: j.Judged, Bad: len(j.Twins), Unit: "turns", Example: first(j.Twins)},
	}
	if s.arm == control {
		return fine
	}
	rules := s.line.Violations("secrets")
	return append(fine,
		check{What: "no late write to any other object", Arm: s.arm.name, N: j.Judged, Bad: elsewhere, Unit: "accepted"},
		check{What: "an owner always, epochs in order, children with their roots", Arm: s.arm.name, N: s.line.Len(), Bad: len(rules), Unit: "violations", Example: first(rules)},
		check{What: fmt.Sprintf("little escaped the witnesses (%d writes that can't be judged, %d torn lines)", j.Unknown, torn),
			Arm: s.arm.name, N: j.Judged, Bad: max(0, 1000*j.Unknown-j.Judged), Unit: ""},
	)
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// moved are the changes of owner of some objects since then.
func (s *stage) moved(since time.Time, names map[string]bool) []timeline.Move {
	var all []timeline.Move
	for _, m := range timeline.Since(timeline.BetweenShards(s.line.Moves("secrets")), since) {
		if names[m.Name.Name] {
			all = append(all, m)
		}
	}
	return all
}

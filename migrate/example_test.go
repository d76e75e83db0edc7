package migrate_test

import (
	"errors"
	"fmt"

	"github.com/shard-io/shard-controller/migrate"
)

// A migration of two objects, from the plan to its end, as the process that runs it tells the machine.
func ExampleStep() {
	s := migrate.New(false)
	tell := func(e migrate.Event) {
		next, actions, err := migrate.Step(s, e)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%-14T %-13s %v\n", e, next.Phase, actions)
		s = next
	}
	tell(migrate.Planned{Total: 2})
	tell(migrate.Ready{})
	tell(migrate.Counted{Round: s.Round, Counts: migrate.Counts{Moving: 1, Arriving: 1}})
	tell(migrate.Counted{Round: s.Round, Counts: migrate.Counts{Arrived: 2}})
	tell(migrate.Verified{})
	tell(migrate.Counted{Round: s.Round, Counts: migrate.Counts{Arrived: 2}})
	tell(migrate.Cleaned{})
	tell(migrate.Abort{Reason: "Aborted"})
	// Output:
	// migrate.Planned Preparation   [Record Announce AwaitTurn]
	// migrate.Ready  Transfer      [Record Announce MoveObjects]
	// migrate.Counted Transfer      [Record MoveObjects]
	// migrate.Counted Verification  [Record Announce MoveObjects AskTarget]
	// migrate.Verified Verification  [Record MoveObjects AskTarget]
	// migrate.Counted Cleanup       [Record Announce MoveObjects RemoveLeftovers]
	// migrate.Cleaned Succeeded     [Record Announce]
	// migrate.Abort in phase Succeeded: the event means nothing in this phase
}

// What is to be done about an object follows from its labels.
func ExampleLook() {
	shards := migrate.Shards{Source: "a", Target: "b", SourceReceives: true, TargetReceives: true}
	for _, o := range []migrate.Object{
		{Owner: "a", Selected: true},
		{Owner: "a", Drain: "b", Marked: true},
		{Owner: "b", Marked: true, Pending: true},
		{Owner: "b", Marked: true},
	} {
		stage, move := migrate.Look(migrate.Transfer, shards, o)
		stageBack, moveBack := migrate.Look(migrate.RollingBack, shards, o)
		fmt.Printf("%s %q; on the way back: %s %q\n", stage, move, stageBack, moveBack)
	}
	// Output:
	// Waiting "Ask"; on the way back:  ""
	// Moving ""; on the way back: Moving "Withdraw"
	// Arriving ""; on the way back: Arriving "TakeBack"
	// Arrived ""; on the way back: Arrived "TakeBack"
}

// The next process goes on from what was written down.
func ExampleResume() {
	s, err := migrate.Resume(migrate.RollingBack, "Aborted", "", 2, false)
	fmt.Println(s.Actions(), err)
	_, err = migrate.Resume("Halfway", "", "", 2, false)
	fmt.Println(err, errors.Is(err, migrate.ErrInvalid))
	// Output:
	// [MoveObjects] <nil>
	// invalid state of a migration: phase "Halfway" is none true
}

package migrate

import (
	"errors"
	"reflect"
	"testing"
	"unsafe"
)

func TestResumeRefusesWhatCannotBe(t *testing.T) {
	for name, try := range map[string]func() (State, error){
		"no phase":                  func() (State, error) { return Resume("", "", "", 0, false) },
		"unknown phase":             func() (State, error) { return Resume("Moving", "", "", 0, false) },
		"negative total":            func() (State, error) { return Resume(Transfer, "", "", -1, false) },
		"rolled back for no reason": func() (State, error) { return Resume(RollingBack, "", "", 1, false) },
		"failed for no reason":      func() (State, error) { return Resume(Failed, "", "", 1, false) },
		"succeeded for a reason":    func() (State, error) { return Resume(Succeeded, "Aborted", "", 1, false) },
		"a dry run that moves":      func() (State, error) { return Resume(Transfer, "", "", 1, true) },
	} {
		if _, err := try(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v; want ErrInvalid", name, err)
		}
	}
	for phase := range phases {
		reason := ""
		if phase == RollingBack || phase == Failed {
			reason = "R"
		}
		s, err := Resume(phase, reason, "", 1, false)
		if err != nil || s.Phase.Ended() != (s.Actions() == nil) {
			t.Errorf("%s: %v, actions %v", phase, err, s.Actions())
		}
	}
}

// TestStepRefusesBrokenStates: also a state that was not made by this package does no harm.
func TestStepRefusesBrokenStates(t *testing.T) {
	for _, s := range []State{{}, {Phase: "x"}, {Phase: Transfer, Total: -1}, {Phase: Transfer, Counts: Counts{Astray: -1}}, {Phase: Transfer, Round: -1}} {
		for _, e := range []Event{Planned{1}, Ready{}, Counted{}, Abort{Reason: "R"}, Lost{Source: true}, Verified{}, Cleaned{}, Reject{Reason: "R"}} {
			next, actions, err := Step(s, e)
			if !errors.Is(err, ErrInvalid) || next != s || actions != nil {
				t.Errorf("%+v, %T: %+v %v %v", s, e, next, actions, err)
			}
		}
	}
	if _, _, err := Step(New(false), nil); !errors.Is(err, ErrNotNow) {
		t.Errorf("no event: %v", err)
	}
}

// TestStateIsSmall: it has no list or map in it, so it is as large for a million objects as for one.
func TestStateIsSmall(t *testing.T) {
	var check func(reflect.Type)
	check = func(kind reflect.Type) {
		switch kind.Kind() {
		case reflect.Slice, reflect.Map, reflect.Pointer, reflect.Chan, reflect.Func, reflect.Interface:
			t.Errorf("%s may grow", kind)
		case reflect.Struct:
			for i := range kind.NumField() {
				check(kind.Field(i).Type)
			}
		}
	}
	check(reflect.TypeFor[State]())
	if size := unsafe.Sizeof(State{}); size > 256 {
		t.Errorf("%d bytes", size)
	}
}

// TestEveryStageIsCounted: Sum and Add know all stages.
func TestEveryStageIsCounted(t *testing.T) {
	stages := []Stage{StageWaiting, StageMoving, StageArriving, StageArrived, StageRefused, StageReturning, StageKept, StageUnusable, StageAstray}
	if fields := reflect.TypeFor[Counts]().NumField(); fields != len(stages) {
		t.Errorf("%d fields, %d stages", fields, len(stages))
	}
	var c Counts
	c.Add(StageNone)
	for i, stage := range stages {
		if c.Sum() != int64(i) {
			t.Errorf("before %s: %d", stage, c.Sum())
		}
		c.Add(stage)
	}
	if c.Sum() != int64(len(stages)) {
		t.Errorf("%+v sums up to %d", c, c.Sum())
	}
}

func TestLook(t *testing.T) {
	both := Shards{Source: "a", Target: "b", SourceReceives: true, TargetReceives: true}
	with := func(change func(*Shards)) Shards { s := both; change(&s); return s }
	for name, test := range map[string]struct {
		phase  Phase
		shards Shards
		object Object
		stage  Stage
		move   Move
	}{
		"selected":                           {Transfer, both, Object{Owner: "a", Selected: true}, StageWaiting, Ask},
		"selected, planning":                 {Planning, both, Object{Owner: "a", Selected: true}, StageWaiting, Stay},
		"selected, verification":             {Verification, both, Object{Owner: "a", Selected: true}, StageNone, Stay},
		"not selected":                       {Transfer, both, Object{Owner: "a"}, StageNone, Stay},
		"of another shard":                   {Transfer, both, Object{Owner: "c", Selected: true}, StageNone, Stay},
		"at the target already":              {Transfer, both, Object{Owner: "b", Selected: true}, StageNone, Stay},
		"on its way elsewhere":               {Transfer, both, Object{Owner: "a", Drain: "c", Selected: true}, StageWaiting, Stay},
		"on its way there by itself":         {Transfer, both, Object{Owner: "a", Drain: "b", Selected: true}, StageWaiting, Ask},
		"target silent":                      {Transfer, with(func(s *Shards) { s.TargetReceives = false }), Object{Owner: "a", Selected: true}, StageWaiting, Stay},
		"refused by the target before":       {Transfer, both, Object{Owner: "a", Selected: true, RefusedBy: "b"}, StageKept, Stay},
		"refused by another before":          {Transfer, both, Object{Owner: "a", Selected: true, RefusedBy: "c"}, StageWaiting, Ask},
		"declined before":                    {Transfer, both, Object{Owner: "a", Selected: true, Declined: true}, StageKept, Stay},
		"asked for":                          {Transfer, both, Object{Owner: "a", Drain: "b", Marked: true}, StageMoving, Stay},
		"asked for, target lost":             {Transfer, with(func(s *Shards) { s.TargetLost = true }), Object{Owner: "a", Drain: "b", Marked: true}, StageMoving, Withdraw},
		"asked for by somebody else since":   {RollingBack, both, Object{Owner: "a", Drain: "c", Marked: true}, StageMoving, Stay},
		"declined":                           {Transfer, both, Object{Owner: "a", Drain: "b", Marked: true, Declined: true}, StageMoving, Withdraw},
		"back":                               {Transfer, both, Object{Owner: "a", Marked: true}, StageKept, Stay},
		"back, not acknowledged":             {Transfer, both, Object{Owner: "a", Marked: true, Pending: true}, StageReturning, Stay},
		"handed over":                        {Transfer, both, Object{Owner: "b", Marked: true, Pending: true}, StageArriving, Stay},
		"acknowledged":                       {Transfer, both, Object{Owner: "b", Marked: true}, StageArrived, Stay},
		"refused":                            {Transfer, both, Object{Owner: "b", Marked: true, Pending: true, RefusedBy: "b"}, StageRefused, TakeBack},
		"refused, source silent":             {Transfer, with(func(s *Shards) { s.SourceReceives = false }), Object{Owner: "b", Marked: true, Pending: true, RefusedBy: "b"}, StageRefused, Stay},
		"refused, source lost":               {Transfer, with(func(s *Shards) { s.SourceLost = true }), Object{Owner: "b", Marked: true, Pending: true, RefusedBy: "b"}, StageUnusable, Stay},
		"went on without":                    {Transfer, both, Object{Owner: "b", Marked: true, RefusedBy: "b"}, StageUnusable, Stay},
		"went on without, aborted":           {RollingBack, both, Object{Owner: "b", Marked: true, RefusedBy: "b"}, StageUnusable, TakeBack},
		"failed":                             {Verification, both, Object{Owner: "b", Marked: true, Failed: true}, StageRefused, TakeBack},
		"failed, source lost":                {Verification, with(func(s *Shards) { s.SourceLost = true }), Object{Owner: "b", Marked: true, Failed: true}, StageUnusable, Stay},
		"asked back":                         {RollingBack, both, Object{Owner: "b", Drain: "a", Marked: true}, StageMoving, Stay},
		"asked back, source lost":            {RollingBack, with(func(s *Shards) { s.SourceLost = true }), Object{Owner: "b", Drain: "a", Marked: true}, StageMoving, Withdraw},
		"to be asked back":                   {RollingBack, both, Object{Owner: "b", Marked: true}, StageArrived, TakeBack},
		"to be asked back, not acknowledged": {RollingBack, both, Object{Owner: "b", Marked: true, Pending: true}, StageArriving, TakeBack},
		"elsewhere":                          {Transfer, both, Object{Owner: "c", Marked: true}, StageAstray, Stay},
		"nowhere":                            {RollingBack, both, Object{Marked: true}, StageAstray, Stay},
	} {
		stage, move := Look(test.phase, test.shards, test.object)
		if stage != test.stage || move != test.move {
			t.Errorf("%s: %q %q; want %q %q", name, stage, move, test.stage, test.move)
		}
	}
}

package shardtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/sharding"
)

// StateOwner is a process of an operator that keeps state per object, as [CheckState] sees it.
type StateOwner struct {
	// Transfer is what the operator sets as Controller.State. Required, with Exporter and Importer.
	Transfer *sharding.StateTransfer
	// Work gives the object some state, or changes what it has, as a reconcile does: each call so that the state is another one. Required.
	Work func(object types.NamespacedName) error
}

// TestState runs [CheckState] as a test. Run it with -race as well.
func TestState(t *testing.T, newOwner func() StateOwner) {
	t.Helper()
	if err := CheckState(newOwner); err != nil {
		t.Error(err)
	}
}

// CheckState holds an operator's Exporter, Importer and Forgetter against the rules of package sharding, and returns what it finds wrong,
// joined, or nil. newOwner returns a process that knows nothing; it is called several times. The rules:
//
//   - what was never worked on has no state: Export returns nil and no error;
//   - Export changes nothing, and says the same as long as nothing has been worked on;
//   - what one process exports, another one imports, and exports again as it was;
//   - a state replaces what the process had of that object, and nothing of any other;
//   - the same state imported once more changes nothing;
//   - Import refuses garbage with an error and keeps what it had, or takes it as a state like any other; it does not panic;
//   - after Forget there is no state, and forgetting what is not known is fine;
//   - data that was imported may be changed by its owner afterwards, and data that was exported by whoever got it;
//   - different objects may be exported, imported and forgotten at the same time.
func CheckState(newOwner func() StateOwner) error {
	owner := newOwner()
	if owner.Transfer == nil || owner.Transfer.Exporter == nil || owner.Transfer.Importer == nil || owner.Work == nil {
		return errors.New("newOwner: Transfer, with Exporter and Importer, and Work are required")
	}
	var problems []error
	for _, rule := range []struct {
		name  string
		check func(func() *stateProcess) error
	}{
		{"no state", checkNoState}, {"export", checkExport}, {"round trip", checkRoundTrip}, {"replace", checkReplace},
		{"repetition", checkRepetition}, {"garbage", checkGarbage}, {"forget", checkForget}, {"aliasing", checkAliasing},
		{"concurrency", checkConcurrentState},
	} {
		err := guardedState(func() error { return rule.check(func() *stateProcess { return &stateProcess{newOwner()} }) })
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", rule.name, err))
		}
	}
	return errors.Join(problems...)
}

func guardedState(check func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it panics: %v", p)
		}
	}()
	return check()
}

// stateProcess makes the calls that a worker makes.
type stateProcess struct{ StateOwner }

var (
	stateObject = types.NamespacedName{Namespace: "ns", Name: "object"}
	otherObject = types.NamespacedName{Namespace: "ns", Name: "other"}
)

func (p *stateProcess) export(object types.NamespacedName) ([]byte, error) {
	data, err := p.Transfer.Exporter.Export(context.Background(), object)
	if err != nil {
		return nil, fmt.Errorf("export of %s: %w", object, err)
	}
	return data, nil
}

// worked works on the object and exports it.
func (p *stateProcess) worked(object types.NamespacedName) ([]byte, error) {
	if err := p.Work(object); err != nil {
		return nil, fmt.Errorf("work: %w", err)
	}
	data, err := p.export(object)
	if err == nil && data == nil {
		return nil, fmt.Errorf("export of %s returns nothing after work on it", object)
	}
	return data, err
}

func (p *stateProcess) imports(object types.NamespacedName, epoch int64, data []byte) error {
	err := p.Transfer.Importer.Import(context.Background(), object, sharding.State{
		UID: types.UID("uid-of-" + object.Name), Epoch: epoch, Sequence: 1, From: "another-shard", Version: max(p.Transfer.Version, 1), Data: data,
	})
	if err != nil {
		return fmt.Errorf("import of %s: %w", object, err)
	}
	return nil
}

// expects exports and compares.
func (p *stateProcess) expects(when string, object types.NamespacedName, want []byte) error {
	got, err := p.export(object)
	if err != nil {
		return fmt.Errorf("%s: %w", when, err)
	}
	if !bytes.Equal(got, want) || (got == nil) != (want == nil) {
		return fmt.Errorf("%s: Export of %s returns %q, want %q", when, object, got, want)
	}
	return nil
}

func checkNoState(start func() *stateProcess) error {
	return start().expects("in a new process", stateObject, nil)
}

func checkExport(start func() *stateProcess) error {
	p := start()
	first, err := p.worked(stateObject)
	if err != nil {
		return err
	}
	if err := p.expects("the second time", stateObject, first); err != nil {
		return err
	}
	second, err := p.worked(stateObject)
	if err == nil && bytes.Equal(first, second) {
		return errors.New("export returns the same after more work")
	}
	return err
}

func checkRoundTrip(start func() *stateProcess) error {
	state, err := start().worked(stateObject)
	for hop := int64(1); hop <= 3 && err == nil; hop++ {
		p := start()
		if err = p.imports(stateObject, hop, bytes.Clone(state)); err == nil {
			err = p.expects(fmt.Sprintf("after move %d", hop), stateObject, state)
		}
	}
	return err
}

func checkReplace(start func() *stateProcess) error {
	state, err := start().worked(stateObject)
	if err != nil {
		return err
	}
	p := start()
	if _, err = p.worked(stateObject); err != nil {
		return err
	}
	if _, err = p.worked(stateObject); err != nil {
		return err
	}
	other, err := p.worked(otherObject)
	if err != nil {
		return err
	}
	if err := p.imports(stateObject, 1, bytes.Clone(state)); err != nil {
		return err
	}
	return errors.Join(p.expects("after an import over what it had", stateObject, state),
		p.expects("after an import of another object", otherObject, other))
}

func checkRepetition(start func() *stateProcess) error {
	state, err := start().worked(stateObject)
	if err != nil {
		return err
	}
	p := start()
	if err := errors.Join(p.imports(stateObject, 1, bytes.Clone(state)), p.imports(stateObject, 1, bytes.Clone(state))); err != nil {
		return err
	}
	return p.expects("after the same state twice", stateObject, state)
}

func checkGarbage(start func() *stateProcess) error {
	p := start()
	before, err := p.worked(stateObject)
	if err != nil {
		return err
	}
	for _, garbage := range [][]byte{{}, []byte("\x00\xff"), []byte("{"), []byte("null garbage"), before[:len(before)/2]} {
		err := p.Transfer.Importer.Import(context.Background(), stateObject, sharding.State{
			UID: "uid", Epoch: 1, Sequence: 1, From: "x", Version: max(p.Transfer.Version, 1), Data: garbage,
		})
		if err == nil {
			return nil // any bytes are a state to this operator
		}
		if err := p.expects(fmt.Sprintf("after the refused state %q", garbage), stateObject, before); err != nil {
			return err
		}
	}
	return nil
}

func checkForget(start func() *stateProcess) error {
	p := start()
	if p.Transfer.Forgetter == nil {
		return nil
	}
	p.Transfer.Forgetter.Forget(stateObject)
	other, err := p.worked(otherObject)
	if err != nil {
		return err
	}
	if _, err := p.worked(stateObject); err != nil {
		return err
	}
	p.Transfer.Forgetter.Forget(stateObject)
	return errors.Join(p.expects("after Forget", stateObject, nil), p.expects("after Forget of another object", otherObject, other))
}

func checkAliasing(start func() *stateProcess) error {
	p := start()
	data, err := p.worked(stateObject)
	if err != nil {
		return err
	}
	want := bytes.Clone(data)
	clear(data)
	if err := p.expects("after what was exported has been overwritten", stateObject, want); err != nil {
		return err
	}
	q, given := start(), bytes.Clone(want)
	if err := q.imports(stateObject, 1, given); err != nil {
		return err
	}
	_, err = q.worked(stateObject)
	return err
}

func checkConcurrentState(start func() *stateProcess) error {
	p := start()
	const objects = 8
	problems := make([]error, objects)
	var all sync.WaitGroup
	for i := range objects {
		all.Go(func() {
			object := types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("object-", i)}
			problems[i] = guardedState(func() error {
				for round := range int64(20) {
					data, err := p.worked(object)
					if err != nil {
						return err
					}
					if err := p.imports(object, round, data); err != nil {
						return err
					}
					if p.Transfer.Forgetter != nil && round%5 == 4 {
						p.Transfer.Forgetter.Forget(object)
					}
				}
				return nil
			})
		})
	}
	all.Wait()
	return errors.Join(problems...)
}

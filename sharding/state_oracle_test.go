package sharding

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// stateOracle holds what happens to the states of roots against what is promised: a state that was exported is imported once, by the
// owner, as it was exported, or it is kept. It sees every write to a root, and every successful import.
//
// A state may go from a root for one of these reasons only: the owner's process that writes has imported it (exactly once), it has
// been moved to where unusable ones are kept, or the ring has taken everything off.
type stateOracle struct {
	server *memapi.Server
	breach func(format string, args ...any)

	mu       sync.Mutex
	imported map[string]map[string]int // by state, how often each process has imported it
	written  map[string]string         // by state, the annotation
	exports  int
	imports  int
	kept     int // untouched through a change of owner
	unusable int
}

// watchStates makes an oracle for everything that happens from now on. Processes are actors. breach is told what is broken.
func watchStates(server *memapi.Server, breach func(format string, args ...any)) *stateOracle {
	o := &stateOracle{server: server, breach: breach, imported: map[string]map[string]int{}, written: map[string]string{}}
	server.OnCommit(o.commit)
	return o
}

func identity(uid types.UID, epoch, sequence int64) string {
	return fmt.Sprintf("%s@%d.%d", uid, epoch, sequence)
}

// importedBy is told of every state that an Importer has taken. root is as the server has it at this moment.
func (o *stateOracle) importedBy(process, shard string, key types.NamespacedName, state State) {
	root := o.server.Get(secrets, key.Namespace, key.Name)
	o.mu.Lock()
	defer o.mu.Unlock()
	id := identity(state.UID, state.Epoch, state.Sequence)
	if o.imported[id] == nil {
		o.imported[id] = map[string]int{}
	}
	o.imported[id][process]++
	o.imports++
	if n := o.imported[id][process]; n > 1 {
		o.breach("%s has imported %s of %s %d times", process, id, key.Name, n)
	}
	if e, err := parseEnvelope(o.written[id]); err != nil || e.Sum != checksum(state.Data) || e.Version != state.Version {
		o.breach("%s has imported %s of %s, which is not what was exported: %v", process, id, key.Name, err)
	}
	if root == nil || root.GetUID() != state.UID {
		return // it is being deleted
	}
	if owner, _ := OwnerOf(root, simRing); owner != shard {
		return // taken from it a moment ago; it may not act on it, and nobody sees what it does
	}
	if on, err := stateOf(root, simRing); err != nil || on == nil || identity(on.UID, on.Epoch, on.Sequence) != id {
		o.breach("%s has imported %s of %s, which has %+v on it", process, id, key.Name, on)
	}
}

// forgottenBy is told that a process has dropped what it has of a root, which was somebody else's in between: when the root is back with the same state, it
// has to be imported once more.
func (o *stateOracle) forgottenBy(process string, key types.NamespacedName) {
	root := o.server.Get(secrets, key.Namespace, key.Name)
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, by := range o.imported {
		if root != nil && strings.HasPrefix(id, string(root.GetUID())+"@") {
			delete(by, process)
		}
	}
}

func (o *stateOracle) commit(e memapi.Event) {
	if e.Resource != secrets || e.Old == nil || e.New == nil || e.New.GetNamespace() == simNamespace {
		return
	}
	key := StateAnnotation(simRing)
	was, had := e.Old.GetAnnotations()[key]
	is, has := e.New.GetAnnotations()[key]
	o.mu.Lock()
	defer o.mu.Unlock()
	changed := EpochOf(e.New, simRing) != EpochOf(e.Old, simRing)
	if was == is && had == has {
		if had && changed {
			o.kept++
		}
		return
	}
	if has {
		o.exported(e, is)
	}
	if had {
		o.gone(e, was)
	}
}

// exported checks a state that was put on a root.
func (o *stateOracle) exported(e memapi.Event, text string) {
	envelope, err := parseEnvelope(text)
	if err != nil {
		o.breach("%s has written a state that can't be read: %v", e.Actor, err)
		return
	}
	id := identity(envelope.UID, envelope.Epoch, envelope.Sequence)
	if before, again := o.written[id]; again && before != text {
		o.breach("%s has written two states as %s", e.Actor, id)
	}
	o.written[id] = text
	o.exports++
	if envelope.UID != e.Old.GetUID() || envelope.Epoch != EpochOf(e.Old, simRing) {
		o.breach("%s has written %s on %s of epoch %d", e.Actor, id, e.Old.GetUID(), EpochOf(e.Old, simRing))
	}
	if owner, _ := OwnerOf(e.Old, simRing); owner != envelope.From {
		o.breach("%s of %s was written by %s, and belonged to %s", id, e.Old.GetName(), envelope.From, owner)
	}
}

// gone checks why a state went from a root.
func (o *stateOracle) gone(e memapi.Event, text string) {
	if e.New.GetAnnotations()[UnusableAnnotation(simRing)] == text {
		o.unusable++
		return
	}
	owner, _ := OwnerOf(e.New, simRing)
	envelope, err := parseEnvelope(text)
	if err != nil || owner == "" {
		return
	}
	id := identity(envelope.UID, envelope.Epoch, envelope.Sequence)
	own := envelope.Epoch == EpochOf(e.Old, simRing) // a checkpoint of the owner's, which its process knows
	if !own && o.imported[id][e.Actor] != 1 {
		o.breach("%s has taken %s off %s, and had imported it %d times", e.Actor, id, e.Old.GetName(), o.imported[id][e.Actor])
	}
}

// summary says how much there was to see.
func (o *stateOracle) summary() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprintf("%d exported, %d imported, %d passed on untouched, %d unusable", o.exports, o.imports, o.kept, o.unusable)
}

// watched makes an Importer and a Forgetter that tell the oracle.
type watched struct {
	importer       Importer
	forgetter      Forgetter
	o              *stateOracle
	process, shard string
}

func (w watched) Import(ctx context.Context, key types.NamespacedName, state State) error {
	err := w.importer.Import(ctx, key, state)
	if err == nil {
		w.o.importedBy(w.process, w.shard, key, state)
	}
	return err
}

func (w watched) Forget(key types.NamespacedName) {
	w.forgetter.Forget(key)
	w.o.forgottenBy(w.process, key)
}

// stormyState is a storm in which every shard has state: now and then it can't be imported, or exported, or is large.
func TestStatesUnderFaults(t *testing.T) {
	for seed := range *stormSeeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			simulate(t, func(s *sim) {
				storm := newStorm(s, uint64(seed)+100)
				oracle := watchStates(s.server, s.Errorf)
				var all ledgers
				storm.change = func(process, id string) (ReconcileFunc, func(*WorkerOptions, *Controller)) {
					l := all.of(process)
					return l.Reconcile, func(o *WorkerOptions, c *Controller) {
						moody := &moody{ledger: l}
						watched := watched{moody, l, oracle, process, id}
						c.State = &StateTransfer{Exporter: moody, Importer: watched, Forgetter: watched, InlineLimit: 64}
						if seed%2 == 0 {
							c.State.Checkpoint = 20 * time.Second
						}
					}
				}
				storm.rage(*stormDuration / 2)
				s.settle(40 * time.Minute) // what was refused is tried again, and what nobody needs is collected
				counts := s.counts(secrets)
				wants(s, "roots with a live owner", counts["a"]+counts["b"]+counts["c"]+counts["d"], len(storm.roots))
				referred := 0
				for _, root := range s.server.List(secrets, "ns", nil) {
					if statePending(root, simRing) {
						s.Errorf("%s has a state that its owner has not taken over: %s", root.GetName(), root.GetAnnotations()[StateAnnotation(simRing)])
					}
					referred += secretsOn(root)
				}
				wants(s, "Secrets with states that something refers to, of all", referred, s.stateSecrets())
				t.Log(oracle.summary())
			})
		})
	}
}

// secretsOn counts the Secrets that a root refers to.
func secretsOn(root metav1.Object) (n int) {
	for _, key := range []string{StateAnnotation(simRing), UnusableAnnotation(simRing)} {
		if e, err := parseEnvelope(root.GetAnnotations()[key]); err == nil {
			n += e.Chunks
		}
	}
	return n
}

// moody is a ledger that can't do everything every time.
type moody struct {
	*ledger
	mu    sync.Mutex
	calls int
}

func (m *moody) mood() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	return m.calls
}

func (m *moody) Export(ctx context.Context, key types.NamespacedName) ([]byte, error) {
	switch n := m.mood(); {
	case n%29 == 0:
		return nil, TerminalError(fmt.Errorf("call %d can't export", n))
	case n%11 == 0:
		return nil, fmt.Errorf("call %d can't export at the moment", n)
	}
	return m.ledger.Export(ctx, key)
}

func (m *moody) Import(ctx context.Context, key types.NamespacedName, state State) error {
	switch n := m.mood(); {
	case n%23 == 0:
		return TerminalError(fmt.Errorf("call %d can't import", n))
	case n%13 == 0:
		panic(fmt.Sprintf("call %d does not even try", n))
	case n%7 == 0:
		return fmt.Errorf("call %d can't import at the moment", n)
	}
	return m.ledger.Import(ctx, key, state)
}

package sharding

import (
	"context"
	"errors"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// The target imports the state of an object and then can't reconcile it, so that it never acknowledges the state. The object goes back, and
// what the target had of it goes along.
func TestMigrationOfAStatefulObjectThatTheTargetCannotReconcile(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.edit(configs, simNamespace, simRing, set(true, "spec", "rebalance", "dryRun"))
		var all ledgers
		a, b := all.of("a"), all.of("b")
		s.process("a", "a", a.Reconcile, a.stateful())
		s.process("b", "b", func(ctx context.Context, key types.NamespacedName) (Result, error) {
			if key.Name == "s7" {
				return Result{}, TerminalError(errors.New("never seen such a thing"))
			}
			return b.Reconcile(ctx, key)
		}, b.stateful())
		s.settle(10 * time.Second)
		for _, n := range "0123456789" {
			s.labelledRoot("s"+string(n), "a")
		}
		s.runManager("m")
		s.settle(30 * time.Second)
		s.migrate("m1", nil)
		s.settle(time.Minute)
		wants(s, "the migration", s.outcome("m1"), "Failed NotAllMoved 9/10 returned 1 failed 1")
		wants(s, "the object", s.ownership(secrets, "s7"), "a@2")
		wants(s, "what a knows of it", a.of("s7"), "a")
		wants(s, "what b knows of another", b.of("s8"), "a b")
		wants(s, "the state that is left on it", s.annotation("s7", StateAnnotation(simRing)), "")
	})
}

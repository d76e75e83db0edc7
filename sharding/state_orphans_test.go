package sharding

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/internal/memapi"
)

func TestStateOrphansWaitForTheirGrace(t *testing.T) {
	start := time.Unix(0, 0)
	orphans := stateOrphans{}
	for i, look := range []struct {
		after   time.Duration
		used    string // "a:yes b:no"
		found   int
		expired string
	}{
		{0, "a:no b:yes", 1, "[]"},
		{stateGrace - 1, "a:no b:no", 1, "[]"},
		{stateGrace, "a:no b:no", 0, "[a]"},
		{stateGrace + 1, "a:yes b:no", 0, "[]"},        // it came into use after all
		{2*stateGrace - 1, "a:no b:no", 1, "[b]"},      // and begins anew
		{2 * stateGrace, "b:yes", 0, "[]"},             // a is gone
		{2*stateGrace + 1, "a:no b:yes c:no", 2, "[]"}, // so this is another look at it
		{3*stateGrace + 1, "a:no b:yes c:no", 0, "[a c]"},
	} {
		referred := map[types.UID]bool{}
		var name, used string
		for text := look.used + " "; text != ""; {
			if _, err := fmt.Sscanf(text, "%1s:%s", &name, &used); err != nil {
				t.Fatal(err)
			}
			referred[types.UID(name)] = used == "yes"
			text = text[len(name)+len(used)+2:]
		}
		found, expired := orphans.judge(referred, start.Add(look.after))
		slices.Sort(expired)
		if found != look.found || fmt.Sprint(expired) != look.expired {
			t.Errorf("look %d: found %d, expired %v; want %d, %s", i, found, expired, look.found, look.expired)
		}
	}
}

func TestMentions(t *testing.T) {
	inSecrets := seal(State{UID: "u", Epoch: 1, Sequence: 1, From: "a", Version: 1, Data: make([]byte, stateChunk+1)}).inSecrets("state-x")
	for name, test := range map[string]struct {
		annotations map[string]string
		want        bool
	}{
		"nothing":           {nil, false},
		"on its way":        {map[string]string{"state.shard.io/r": inSecrets.String()}, true},
		"for inspection":    {map[string]string{"unusable.shard.io/r": inSecrets.String()}, true},
		"of another ring":   {map[string]string{"state.shard.io/q": inSecrets.String()}, false},
		"another state":     {map[string]string{"state.shard.io/r": seal(State{UID: "u", Sequence: 1, Version: 1}).String()}, false},
		"unreadable":        {map[string]string{"unusable.shard.io/r": "{state-x"}, true},
		"unreadable, other": {map[string]string{"unusable.shard.io/r": "{state-y"}, false},
	} {
		if got := mentions(&metav1.ObjectMeta{Annotations: test.annotations}, "r", "state-x"); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// TestOrphanedStatesAreCollected lets a source die after it has written its state and before it hands over, and a target that has
// imported a state and not acknowledged it yet: only what the first one left behind is collected.
func TestOrphanedStatesAreCollected(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		var all ledgers
		a, b, c := all.of("a"), all.of("b"), all.of("c")
		for _, l := range []*ledger{a, b, c} {
			l.pads(stateChunk / 2)
		}
		s.secret("lost", "a")
		s.secret("waiting", "c")
		wa, wb, wc := s.keeps(a), s.keeps(b), s.keeps(c)
		s.settle(5 * time.Second)
		s.label(secrets, "waiting", DrainLabel(simRing), "b")
		wb.client.Inject(memapi.InternalError, 1<<30, func(r *memapi.Request) bool { return r.Verb == "patch" && r.Name == "waiting" })
		s.settle(5 * time.Second)
		wants(s, "owner", s.ownership(secrets, "waiting"), "b@1")
		s.label(secrets, "waiting", PinLabel(simRing), "b")
		wa.client.Inject(memapi.InternalError, 1<<30, func(r *memapi.Request) bool { return r.Verb == "patch" && r.Name == "lost" })
		s.label(secrets, "lost", DrainLabel(simRing), "b")
		s.settle(5 * time.Second)
		wa.kill()
		wants(s, "Secrets with states", s.stateSecrets(), 2)
		s.runManager("m")
		s.settle(20 * time.Minute)
		wants(s, "Secrets before the grace is over", s.stateSecrets(), 2)
		s.settle(15 * time.Minute)
		wants(s, "Secrets after it", s.stateSecrets(), 1)
		wants(s, "the state is still there", statePending(s.server.Get(secrets, "ns", "waiting"), simRing), true)
		wb.client.Inject(memapi.InternalError, 0, nil)
		_ = wc
	})
}

func TestStatesGoWithTheirRing(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		var all ledgers
		a := all.of("a")
		a.pads(stateChunk / 2)
		s.runManager("m")
		s.keeps(a, func(t *StateTransfer) { t.Checkpoint = time.Second })
		s.settle(20 * time.Second)
		s.secret("o", "")
		s.settle(10 * time.Second)
		wants(s, "owner", s.ownership(secrets, "o"), "a@1")
		wants(s, "Secrets with states", s.stateSecrets(), 1)
		if err := s.server.Delete(configs, simNamespace, simRing); err != nil {
			t.Fatal(err)
		}
		s.settle(30 * time.Second)
		wants(s, "annotations that are left", len(s.server.Get(secrets, "ns", "o").GetAnnotations()), 0)
		wants(s, "Secrets with states", s.stateSecrets(), 0)
	})
}

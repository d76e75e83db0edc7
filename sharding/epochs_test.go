package sharding

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// TestEpochs plays what the cache shows of one object: "UID:EPOCH" for a state, "gone", "forgotten". The answer is the token that a
// reconcile would get, with "!" if the epoch has to be restored.
func TestEpochs(t *testing.T) {
	key := types.NamespacedName{Name: "o"}
	for script, want := range map[string]string{
		"u:1 u:2 u:2 u:3":             "u/1 u/2 u/2 u/3",
		"u:3 u:1":                     "u/3 u/3!",
		"u:3 u: u:3":                  "u/3 u/3! u/3",
		"u:3 u:x u:5":                 "u/3 u/3! u/5",
		"u:3 u:-7":                    "u/3 u/3!",
		"u:3 u:9223372036854775807":   "u/3 u/3!",
		"u:3 u:1 u:2":                 "u/3 u/3! u/3!",
		"u:3 v:1":                     "u/3 v/1",
		"u:3 u:1 v:1 v:2":             "u/3 u/3! v/1 v/2",
		"u:3 gone":                    "u/3 u/3",
		"u:3 u:1 gone":                "u/3 u/3! u/3",
		"u:3 gone forgotten":          "u/3 u/3 none",
		"u:3 gone v:1 gone forgotten": "u/3 u/3 v/1 v/1 none",
		"u:3 u:1 gone u:1":            "u/3 u/3! u/3 u/1", // it has been somebody else's, or nobody's
	} {
		e := newEpochs("r")
		var last metav1.Object
		var got []string
		for word := range strings.FieldsSeq(script) {
			lowered := false
			var object metav1.Object
			switch word {
			case "gone":
				e.gone(key, last)
				last = nil
			case "forgotten":
				e.forget(key)
			default:
				uid, epoch, _ := strings.Cut(word, ":")
				object = &metav1.ObjectMeta{Name: "o", UID: types.UID(uid), Annotations: map[string]string{"epoch.shard.io/r": epoch}}
				lowered = e.saw(key, last, object)
				last = object
			}
			token, known := e.token(key, object)
			text := token.String()
			if !known {
				text = "none"
			}
			if lowered {
				text += "!"
			}
			got = append(got, text)
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %s, want %s", script, text, want)
		}
		if last != nil && len(e.left) > 0 || len(e.floors) > 1 {
			t.Errorf("%s: keeps %v and %v", script, e.floors, e.left)
		}
	}
}

func TestRaisedObject(t *testing.T) {
	object := &metav1.ObjectMeta{Name: "o", Annotations: map[string]string{"a": "b"}}
	raised := raiseEpoch(object, "r", 7)
	if EpochOf(raised, "r") != 7 || raised.GetAnnotations()["a"] != "b" || EpochOf(object, "r") != 0 || raised.GetName() != "o" {
		t.Errorf("raised to %v, the object has %v", raised.GetAnnotations(), object.Annotations)
	}
	if raiseEpoch(raised, "r", 6) != raised {
		t.Error("an epoch that is high enough was changed")
	}
}

func TestTokensOutsideOfAReconcile(t *testing.T) {
	if token, ok := TokenFromContext(t.Context(), types.NamespacedName{}); ok {
		t.Errorf("a token %v from nowhere", token)
	}
	if epoch, ok := EpochFromContext(t.Context()); ok {
		t.Errorf("an epoch %d from nowhere", epoch)
	}
}

// outside is a system that knows nothing of Kubernetes and refuses a former owner by its token.
type outside struct {
	mu     sync.Mutex
	tokens map[types.UID]int64
	log    []string
}

func (o *outside) write(who string, token Token) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if token.Epoch < o.tokens[token.UID] {
		o.log = append(o.log, who+" refused")
		return false
	}
	o.tokens[token.UID] = token.Epoch
	o.log = append(o.log, fmt.Sprintf("%s %d", who, token.Epoch))
	return true
}

func (o *outside) took() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	log := strings.Join(o.log, ", ")
	o.log = nil
	return log
}

// TestTokenGrowsAtEveryChangeOfOwner: through assignment, hand-over and take-over; an object that is created again has another one.
func TestTokenGrowsAtEveryChangeOfOwner(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		store := &outside{tokens: map[types.UID]int64{}}
		var first Token
		work := func(who string) ReconcileFunc {
			return func(ctx context.Context, key types.NamespacedName) (Result, error) {
				token, ok := TokenFromContext(ctx, key)
				epoch, alsoOK := EpochFromContext(ctx)
				if !ok || !alsoOK || epoch != token.Epoch {
					t.Errorf("token %v, %v, epoch %d, %v", token, ok, epoch, alsoOK)
				}
				if _, ok := TokenFromContext(ctx, types.NamespacedName{Namespace: "ns", Name: "other"}); ok {
					t.Error("a token of another object")
				}
				store.write(who, token)
				if first == (Token{}) {
					first = token
				}
				return Result{}, nil
			}
		}
		workers := map[string]*simWorker{"a": s.worker("a", work("a"))}
		s.settle(20 * time.Second)
		uid := s.secret("o", "").GetUID()
		s.settle(5 * time.Second)
		wants(s, "assigned", store.took(), "a 1")
		wants(s, "the UID of the token", first.UID, uid)
		workers["b"] = s.worker("b", work("b"))
		s.settle(10 * time.Second)
		store.took()
		s.edit(instances, simNamespace, s.ownership(secrets, "o")[:1], set(true, "spec", "draining"))
		s.settle(10 * time.Second)
		owner, _ := OwnerOf(s.server.Get(secrets, "ns", "o"), simRing)
		epoch := EpochOf(s.server.Get(secrets, "ns", "o"), simRing)
		wants(s, "handed over", store.took(), fmt.Sprint(owner, " ", epoch))
		store.write("stale", first)
		wants(s, "a former owner", store.took(), "stale refused")
		s.edit(instances, simNamespace, map[string]string{"a": "b", "b": "a"}[owner], set(false, "spec", "draining"))
		workers[owner].kill()
		s.settle(2 * time.Minute)
		heir, _ := OwnerOf(s.server.Get(secrets, "ns", "o"), simRing)
		if heir == owner {
			t.Fatal("the object was not taken over")
		}
		wants(s, "taken over", store.took(), fmt.Sprint(heir, " ", epoch+1))
		if err := s.server.Delete(secrets, "ns", "o"); err != nil {
			t.Fatal(err)
		}
		s.settle(time.Second)
		again := s.secret("o", "").GetUID()
		s.settle(5 * time.Second)
		wants(s, "created again", store.took(), heir+" 1")
		wants(s, "under another UID", again != uid && store.tokens[again] == 1, true)
	})
}

func TestTokenOfADeletedObject(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		uid := s.secret("o", "a").GetUID()
		s.edit(secrets, "ns", "o", set("4", "metadata", "annotations", EpochAnnotation(simRing)))
		var last Token
		w := s.worker("a", nil, func(_ *WorkerOptions, c *Controller) {
			c.BatchSize = 4
			c.ReconcileBatch = func(ctx context.Context, keys []types.NamespacedName) []Outcome {
				last, _ = TokenFromContext(ctx, keys[0])
				return make([]Outcome, len(keys))
			}
		})
		s.settle(5 * time.Second)
		last = Token{}
		if err := s.server.Delete(secrets, "ns", "o"); err != nil {
			t.Fatal(err)
		}
		s.settle(5 * time.Second)
		wants(s, "token", last, Token{uid, 4})
		wants(s, "kept of it", len(w.processors[0].epochs.left), 0)
	})
}

// TestEpochThatAUserLowered: the owner restores it, and nobody ever sees less.
func TestEpochThatAUserLowered(t *testing.T) {
	damage := func(value string) func(*unstructured.Unstructured) {
		return func(object *unstructured.Unstructured) {
			annotations := object.GetAnnotations()
			if annotations[EpochAnnotation(simRing)] = value; value == "" {
				delete(annotations, EpochAnnotation(simRing))
			}
			object.SetAnnotations(annotations)
		}
	}
	for _, value := range []string{"", "3", "0", "-1", "many", "9223372036854775807"} {
		t.Run(value, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.secret("o", "a")
				s.edit(secrets, "ns", "o", set("7", "metadata", "annotations", EpochAnnotation(simRing)))
				var seen []int64
				a := s.worker("a", func(ctx context.Context, _ types.NamespacedName) (Result, error) {
					epoch, _ := EpochFromContext(ctx)
					seen = append(seen, epoch)
					return Result{}, nil
				})
				s.settle(5 * time.Second)
				s.edit(secrets, "ns", "o", damage(value))
				s.settle(time.Second)
				wants(s, "restored", s.ownership(secrets, "o"), "a@7")
				a.client.Inject(memapi.InternalError, 8, func(r *memapi.Request) bool { return r.Verb == "patch" && r.Resource == secrets })
				s.edit(secrets, "ns", "o", damage(value))
				s.settle(time.Second)
				s.label(secrets, "o", DrainLabel(simRing), "b")
				s.settle(time.Second)
				s.settle(30 * time.Second) // the injected errors are used up
				for _, epoch := range seen {
					wants(s, "epoch of a reconcile", epoch, 7)
				}
				wants(s, "handed over", s.ownership(secrets, "o"), "b@8")
			})
		})
	}
}

func TestEpochGoesOnAfterARootWasDeselected(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.edit(configs, simNamespace, simRing, set([]any{map[string]any{
			"resource": "secrets", "labelSelector": map[string]any{"matchLabels": map[string]any{"tls": "yes"}},
			"controlled": []any{map[string]any{"resource": "configmaps"}},
		}}, "spec", "targets"))
		s.runManager("m")
		s.worker("a", nil)
		s.settle(20 * time.Second)
		s.secret("o", "")
		s.label(secrets, "o", "tls", "yes")
		s.settle(5 * time.Second)
		wants(s, "selected", s.ownership(secrets, "o"), "a@1")
		s.label(secrets, "o", "tls", "")
		s.settle(6 * time.Minute) // the audit comes by
		wants(s, "deselected", s.ownership(secrets, "o"), "@1")
		s.label(secrets, "o", "tls", "yes")
		s.settle(time.Minute)
		wants(s, "selected again", s.ownership(secrets, "o"), "a@2")
	})
}

// TestSecondProcessThatStops must not have the first one drained.
func TestSecondProcessThatStops(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		first := s.process("first", "a", nil)
		s.worker("b", nil)
		s.settle(20 * time.Second)
		s.secrets(20)
		s.settle(5 * time.Second)
		before := s.epochs()
		second := s.process("second", "a", nil)
		s.settle(30 * time.Second)
		second.stop()
		s.settle(time.Minute)
		<-second.ended
		wants(s, "first is active", first.Active(), true)
		wants(s, "a is draining", s.instance("a").Spec.Draining, false)
		wants(s, "epochs", s.epochs(), before)
	})
}

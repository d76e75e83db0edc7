package sharding

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A grant is a context: it is held against what the standard library's would do that a reconcile used to have, cancelled by the same
// events.

type userKey struct{}

// grantWorld has a grant and its model, for one of the ways in which both may end.
type grantWorld struct {
	grant       *grant
	model       context.Context
	caller      context.CancelCauseFunc
	session     context.CancelCauseFunc
	cancelModel context.CancelCauseFunc
}

func newGrantWorld(t *testing.T) *grantWorld {
	parent, caller := context.WithCancelCause(context.WithValue(t.Context(), userKey{}, "value"))
	session, end := context.WithCancelCause(t.Context())
	model, cancel := context.WithCancelCause(parent)
	stop := context.AfterFunc(session, func() { cancel(context.Cause(session)) })
	t.Cleanup(func() {
		stop()
		cancel(nil)
		end(nil)
		caller(nil)
	})
	p := &processor{w: &Worker{mayAct: func() bool { return true }}}
	return &grantWorld{grant: p.newGrant(parent, session), model: model, caller: caller, session: end, cancelModel: cancel}
}

func (g *grantWorld) cancel(cause error) {
	g.grant.cancel(cause)
	g.cancelModel(cause)
}

// look is what somebody who has the context can see of it.
func look(ctx context.Context) string {
	derived, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	_, hasDeadline := ctx.Deadline()
	return fmt.Sprintf("err %v, cause %v, value %v, deadline %v, derived err %v, its cause %v, detached err %v",
		ctx.Err(), context.Cause(ctx), ctx.Value(userKey{}), hasDeadline, derived.Err(), context.Cause(derived), context.WithoutCancel(ctx).Err())
}

var errGrantTest = errors.New("as the test wants")

func TestGrantEndsAsAContextDoes(t *testing.T) {
	ends := map[string]func(g *grantWorld){
		"not at all":                  func(*grantWorld) {},
		"when the caller's does":      func(g *grantWorld) { g.caller(nil) },
		"with the caller's cause":     func(g *grantWorld) { g.caller(errGrantTest) },
		"when the session does":       func(g *grantWorld) { g.session(errGrantTest) },
		"when it is cancelled":        func(g *grantWorld) { g.cancel(errGrantTest) },
		"without a cause":             func(g *grantWorld) { g.cancel(nil) },
		"first one, then the other":   func(g *grantWorld) { g.cancel(errGrantTest); g.session(ErrRingGone) },
		"twice, with different words": func(g *grantWorld) { g.cancel(errGrantTest); g.cancel(ErrHandover) },
	}
	for name, end := range ends {
		// Who waits before the end makes the grant another one than who looks after it.
		for when, wait := range map[string]func(ctx context.Context) <-chan struct{}{
			"nobody waits":   func(context.Context) <-chan struct{} { return nil },
			"somebody waits": func(ctx context.Context) <-chan struct{} { return ctx.Done() },
			"a derived one": func(ctx context.Context) <-chan struct{} {
				derived, cancel := context.WithCancel(ctx)
				t.Cleanup(cancel)
				return derived.Done()
			},
			"one with a value":  func(ctx context.Context) <-chan struct{} { return context.WithValue(ctx, userKey{}, "v").Done() },
			"with an AfterFunc": afterFunc,
		} {
			t.Run(name+", "+when, func(t *testing.T) {
				g := newGrantWorld(t)
				ended, modelEnded := wait(g.grant), wait(g.model)
				end(g)
				if modelEnded != nil && name != "not at all" {
					<-modelEnded
					<-ended // or the test does not end
				} else if name == "when the session does" {
					<-g.model.Done()
				}
				if err, model := g.grant.Err(), g.model.Err(); !errors.Is(err, model) {
					t.Errorf("before anything else is asked, Err is %v, want %v", err, model)
				}
				if got, want := look(g.grant), look(g.model); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				if why := g.grant.why(); why != context.Cause(g.model) {
					t.Errorf("why is %v, want %v", why, context.Cause(g.model))
				}
				if fenced := errors.Is(g.grant.check(), ErrFenced); fenced != (g.model.Err() != nil) {
					t.Errorf("fenced: %v", fenced)
				}
				if grantOf(context.WithValue(g.grant, userKey{}, "v")) != g.grant {
					t.Error("it is not found in a context that is derived from it")
				}
			})
		}
	}
}

func afterFunc(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	context.AfterFunc(ctx, func() { close(done) })
	return done
}

func TestGrantHasTokens(t *testing.T) {
	g := newGrantWorld(t).grant
	p := &processor{epochs: newEpochs("r")}
	one, other := types.NamespacedName{Name: "one"}, types.NamespacedName{Name: "other"}
	for i, key := range []types.NamespacedName{one, other} {
		p.issue(g, key, rooted(key.Name, int64(i+1)))
	}
	for i, key := range []types.NamespacedName{one, other} {
		if token, ok := TokenFromContext(context.WithoutCancel(g), key); !ok || token.Epoch != int64(i+1) {
			t.Errorf("token of %s: %v, %v", key, token, ok)
		}
	}
	if _, ok := EpochFromContext(g); ok {
		t.Error("a batch of two has one epoch")
	}
}

// TestGrantIsCheap: what a reconcile costs that does not wait for the end of its context.
func TestGrantIsCheap(t *testing.T) {
	world := newGrantWorld(t)
	p := &processor{w: world.grant.worker, epochs: newEpochs("r")}
	root, key := rooted("o", 1), types.NamespacedName{Name: "o"}
	allocations := testing.AllocsPerRun(100, func() {
		g := p.newGrant(world.grant.Context, world.grant.session)
		p.issue(g, key, root)
		if g.Err() != nil || g.Value(userKey{}) == nil || g.check() != nil {
			t.Error("it has ended")
		}
		g.cancel(nil)
	})
	if allocations > 1 {
		t.Errorf("%v allocations, want 1", allocations)
	}
}

func rooted(name string, epoch int64) *metav1.ObjectMeta {
	return &metav1.ObjectMeta{Name: name, UID: types.UID(name), Annotations: map[string]string{EpochAnnotation("r"): fmt.Sprint(epoch)}}
}

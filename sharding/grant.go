package sharding

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

type grantKey struct{}

// grant is the right of a reconcile to act, and the context that it has. It ends with the context that it was made of, with the session, or when
// cancel is called, or mayAct says so, whichever is first. mayAct is exact in a process that wakes up from a pause, before any timer has
// fired.
//
// A reconcile that never waits for its context costs one allocation: a context of the standard library is only made when somebody waits for
// the end of this one, derives another one from it, or asks for its cause.
type grant struct {
	context.Context // of who has asked for the reconcile
	session         context.Context
	worker          *Worker
	mayAct          func() bool
	tokens          []grantedToken
	room            [1]grantedToken // for the token of a reconcile of one object

	mu     sync.Mutex
	cause  error           // with which it was cancelled, nil if it was not
	waited context.Context // nil as long as nobody has waited
	end    context.CancelCauseFunc
	stop   func() bool
}

type grantedToken struct {
	object types.NamespacedName
	token  Token
}

// newGrant returns the context of a reconcile that ctx has asked for, in a session. The caller has to cancel it.
func (p *processor) newGrant(ctx, session context.Context) *grant {
	return &grant{Context: ctx, session: session, worker: p.w, mayAct: p.w.mayAct}
}

// grantOf returns the grant of a reconcile whose context this is, or is derived from; nil if there is none.
func grantOf(ctx context.Context) *grant {
	granted, _ := ctx.Value(grantKey{}).(*grant)
	return granted
}

// cancel ends the grant, unless it has been ended.
func (g *grant) cancel(cause error) {
	cause = cmp.Or(cause, context.Canceled)
	g.mu.Lock()
	if g.cause == nil {
		g.cause = cause
	}
	end, stop := g.end, g.stop
	g.mu.Unlock()
	if end != nil {
		stop()
		end(cause)
	}
}

// why returns the cause of the end of the grant, nil if it has not ended.
func (g *grant) why() error {
	g.mu.Lock()
	cause := g.cause
	g.mu.Unlock()
	switch {
	case cause != nil:
		return cause
	case g.Context.Err() != nil:
		return context.Cause(g.Context)
	case g.session.Err() != nil:
		return context.Cause(g.session)
	}
	return nil
}

// check returns an error that wraps ErrFenced if the grant has ended.
func (g *grant) check() error {
	if cause := g.why(); cause != nil {
		return fmt.Errorf("%w any more: %w", ErrFenced, cause)
	}
	if !g.mayAct() {
		return fmt.Errorf("%w any more: its Lease has not been renewed in time", ErrFenced)
	}
	return nil
}

// waitable returns a context of the standard library that ends when the grant does.
func (g *grant) waitable() context.Context {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waited != nil {
		return g.waited
	}
	ctx, end := context.WithCancelCause(g.Context)
	g.waited, g.end, g.stop = ctx, end, func() bool { return true }
	switch {
	case g.cause != nil:
		end(g.cause)
	case g.session.Err() != nil:
		end(context.Cause(g.session))
	default:
		session := g.session
		g.stop = context.AfterFunc(session, func() { end(context.Cause(session)) })
	}
	return ctx
}

// Done implements context.Context.
func (g *grant) Done() <-chan struct{} { return g.waitable().Done() }

// Err implements context.Context.
func (g *grant) Err() error {
	g.mu.Lock()
	waited := g.waited
	g.mu.Unlock()
	switch {
	case waited != nil:
		return waited.Err()
	case g.Context.Err() != nil:
		return g.Context.Err()
	case g.why() != nil:
		return context.Canceled
	}
	return nil
}

// Value implements context.Context. Package context finds the context that a cause comes from, and that another one ends with, by a value
// whose key is a pointer; it has to find that of this grant.
func (g *grant) Value(key any) any {
	if key == (grantKey{}) {
		return g
	}
	if key != nil && reflect.TypeOf(key).Kind() == reflect.Pointer {
		return g.waitable().Value(key)
	}
	return g.Context.Value(key)
}

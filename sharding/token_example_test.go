package sharding_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/sharding"
)

// ledger is an external system that refuses former owners. It remembers one number per object.
type ledger struct {
	mu     sync.Mutex
	epochs map[types.UID]int64
}

var errFormerOwner = errors.New("refused: another owner has been here since")

// Book does its work in one transaction with the comparison: that is what makes it safe.
func (l *ledger) Book(token sharding.Token, entry string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if token.Epoch < l.epochs[token.UID] {
		return errFormerOwner
	}
	l.epochs[token.UID] = token.Epoch
	fmt.Println(token, entry)
	return nil
}

// A reconcile that acts on something outside of Kubernetes hands over its token, and that refuses an older one: neither a resourceVersion nor the
// API server can.
func ExampleTokenFromContext() {
	l := &ledger{epochs: map[types.UID]int64{}}
	reconcile := func(ctx context.Context, object types.NamespacedName) (sharding.Result, error) {
		token, ok := sharding.TokenFromContext(ctx, object)
		if !ok {
			return sharding.Result{}, errors.New("not in a reconcile of this object")
		}
		return sharding.Result{}, l.Book(token, "paid")
	}
	_ = reconcile // ... Controller{Reconcile: reconcile} ...

	// What the ledger sees when the first owner is paused, and comes back after the second has been at work:
	const uid = "0b1c"
	fmt.Println(l.Book(sharding.Token{UID: uid, Epoch: 3}, "paid by the first owner"))
	fmt.Println(l.Book(sharding.Token{UID: uid, Epoch: 4}, "paid by the second"))
	fmt.Println(l.Book(sharding.Token{UID: uid, Epoch: 3}, "paid by the first again"))
	// Output:
	// 0b1c/3 paid by the first owner
	// <nil>
	// 0b1c/4 paid by the second
	// <nil>
	// refused: another owner has been here since
}

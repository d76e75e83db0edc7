package sharding

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	applyv1 "github.com/shard-io/shard-controller/generated/applyconfiguration/shard/v1"
)

// conditionHealthy says on a ShardInstance what the application says of itself (WorkerOptions.Healthy). The worker writes it. While it is
// False, the manager gives the shard nothing new.
const conditionHealthy = "Healthy"

// healthFieldManager is that of the condition alone, as it is written apart from the worker's other fields.
const healthFieldManager = "shard-worker-health"

const (
	// healthTimeout is how long WorkerOptions.Healthy may take.
	healthTimeout = 5 * time.Second
	// healthRepeats is how often in a row an application that was not well has to say that it is before it is believed: a shard that
	// comes and goes makes objects move.
	healthRepeats = 3
	// healthRewrite is how often a condition is written of which only the message has changed.
	healthRewrite = time.Minute
)

var errHealthTimeout = errors.New("did not answer within " + healthTimeout.String())

// wellness is what the application says of itself. judge is a pure step; the rest asks, and tells the API server.
type wellness struct {
	w *Worker

	mu   sync.Mutex
	err  error // why the application is not well; nil: it is
	good int   // answers without an error in a row, since there was one

	instance atomic.Pointer[shardv1.ShardInstance] // as it was seen last
	told     time.Time                             // of the goroutine that reports
}

// judge adds one answer of the application.
func (h *wellness) judge(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.err, h.good = err, 0
		return
	}
	if h.good++; h.good >= healthRepeats {
		h.err = nil
	}
}

// check is nil while the application is well.
func (h *wellness) check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// ask calls the application once. One that does not return in time is not well, and is not called again before it does: ask returns then.
func (h *wellness) ask(ctx context.Context) {
	answered := make(chan error, 1)
	limited, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	go func() {
		defer func() {
			if p := recover(); p != nil {
				answered <- fmt.Errorf("panicked: %v", p)
			}
		}()
		answered <- h.w.options.Healthy(limited)
	}()
	var err error
	select {
	case err = <-answered:
	case <-limited.Done():
		if ctx.Err() != nil {
			return
		}
		h.judge(errHealthTimeout)
		h.report(ctx)
		select {
		case err = <-answered:
			if err == nil {
				err = errHealthTimeout // an answer that came too late is none
			}
		case <-ctx.Done():
			return
		}
	}
	if ctx.Err() == nil {
		h.judge(err)
	}
}

// begin asks before the shard can be seen alive, so that one that is not well gets nothing from the start.
func (h *wellness) begin(ctx context.Context) error {
	if h.w.options.Healthy == nil {
		return nil
	}
	h.ask(ctx)
	for h.check() != nil {
		instance, err := h.w.shards.ShardV1().ShardInstances(h.w.options.Namespace).Get(ctx, h.w.options.ID, metav1.GetOptions{})
		if err == nil {
			h.instance.Store(instance)
			err = h.write(ctx, instance)
		}
		if err == nil {
			return nil
		}
		h.w.logger.Error(err, "Writing that the application is not healthy failed, will try again")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(handoverRetry):
		}
	}
	return nil
}

// run asks and reports until ctx is done. Without an application to ask it sees to it that nothing is left of an earlier process that
// had one.
func (h *wellness) run(ctx context.Context) {
	ticker := time.NewTicker(statusInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if h.w.options.Healthy != nil {
			h.ask(ctx)
		}
		h.report(ctx)
	}
}

// wants is the condition as it should be; nil for none.
func (h *wellness) wants() *metav1.Condition {
	if h.w.options.Healthy == nil {
		return nil
	}
	err := h.check()
	if err == nil {
		return &metav1.Condition{Type: conditionHealthy, Status: metav1.ConditionTrue, Reason: "Healthy", Message: "The application says that it is well."}
	}
	return &metav1.Condition{Type: conditionHealthy, Status: metav1.ConditionFalse, Reason: "Unhealthy",
		Message: "The application says that it is not well, so the shard gets no new objects: " + bounded(err.Error())}
}

// report writes the condition if it is not there as it should be. A process without the right to act has nothing to say.
func (h *wellness) report(ctx context.Context) {
	instance := h.instance.Load()
	if instance == nil || !h.w.mayWrite() {
		return
	}
	want := h.wants()
	have := meta.FindStatusCondition(instance.Status.Conditions, conditionHealthy)
	switch {
	case want == nil && have == nil:
		return
	case want != nil && have != nil && want.Status == have.Status:
		if want.Message == have.Message || time.Since(h.told) < healthRewrite {
			return
		}
	}
	if err := h.write(ctx, instance); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		h.w.logger.Error(err, "Writing the health of the application failed, will try again")
	}
}

func (h *wellness) write(ctx context.Context, instance *shardv1.ShardInstance) error {
	status := applyv1.ShardInstanceStatus()
	want := h.wants()
	if want != nil {
		status.WithConditions(conditionApply(*want, instance.Status.Conditions))
	}
	apply := applyv1.ShardInstance(instance.Name, instance.Namespace).WithUID(instance.UID).WithStatus(status)
	written, err := h.w.shards.ShardV1().ShardInstances(instance.Namespace).ApplyStatus(ctx, apply,
		metav1.ApplyOptions{FieldManager: healthFieldManager, Force: true})
	if err != nil {
		return err
	}
	h.told = time.Now()
	h.instance.Store(written)
	if err := h.check(); err != nil {
		h.w.logger.Info("The application is not healthy, the shard gets no new objects", "cause", err)
	} else if want != nil {
		h.w.logger.Info("The application is healthy")
	}
	return nil
}

// isUnwell says whether the shard has said that its application is not well.
func isUnwell(instance *shardv1.ShardInstance) bool {
	return instance != nil && meta.IsStatusConditionFalse(instance.Status.Conditions, conditionHealthy)
}

package sharding

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
)

const eventWarning = corev1.EventTypeWarning

// recorder records Events about objects; nil before the worker starts.
type recorder = events.EventRecorder

// startEvents makes the worker able to record Events on the events.k8s.io API until ctx is done.
func (w *Worker) startEvents(ctx context.Context) {
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: w.kube.EventsV1()})
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		w.logger.Error(err, "Events can't be recorded")
	}
	context.AfterFunc(ctx, broadcaster.Shutdown)
	w.recorder = broadcaster.NewRecorder(scheme.Scheme, "shard-worker")
}

// event records an Event about an object. It does not block.
func (w *Worker) event(regarding runtime.Object, kind, reason, action, note string, args ...any) {
	w.recorder.Eventf(regarding, nil, kind, reason, action, note, args...)
}

//go:build unix

package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/internal/faults/trial"
	"github.com/shard-io/shard-controller/sharding"
)

const (
	requestLimit = 10 * time.Second       // of one write
	hammerPace   = 5 * time.Millisecond   // between two writes of a hammer
	workPause    = 400 * time.Millisecond // between two reconciles of an object
)

// operator reconciles Secrets.
type operator struct {
	options options
	kube    kubernetes.Interface
	secrets corelisters.SecretLister
	window  *window
	number  atomic.Int64 // of the last stamp

	mu       sync.Mutex
	hammered map[types.UID]bool
}

func (o *operator) reconcile(ctx context.Context, key types.NamespacedName) (sharding.Result, error) {
	root, err := o.secrets.Secrets(key.Namespace).Get(key.Name)
	if err != nil {
		return sharding.Result{}, nil // deleted
	}
	// Careless: what comes now ends when it has ended, whatever becomes of the reconcile.
	own := context.WithoutCancel(ctx)
	switch root.Annotations[trial.ModeAnnotation] {
	case trial.Idle:
		return sharding.Result{}, nil
	case trial.Hammer:
		go o.hammer(own, root)
		return sharding.Result{}, nil
	}
	o.window.enter()
	time.Sleep(o.options.work)
	o.window.leave()
	if err := o.write(own, root); err != nil && !isGone(err) {
		return sharding.Result{}, err
	}
	return sharding.Result{RequeueAfter: workPause}, nil
}

// hammer writes to an object as fast as it can for as long as that exists,
// whoever owns it: as a goroutine does that was forgotten. There is one for
// each object.
func (o *operator) hammer(ctx context.Context, root *corev1.Secret) {
	o.mu.Lock()
	running := o.hammered[root.UID]
	o.hammered[root.UID] = true
	o.mu.Unlock()
	if running {
		return
	}
	for !isGone(o.write(ctx, root)) {
		time.Sleep(hammerPace)
	}
}

// isGone says whether a write failed since there is no such object: an apply
// with a UID has a conflict then, and no other.
func isGone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }

// write puts a stamp on the object, or on its child, as the object wants it.
func (o *operator) write(ctx context.Context, root *corev1.Secret) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	stamp := trial.Stamp{
		Shard: o.options.id, Process: o.options.process, Epoch: sharding.EpochOf(root, o.options.ring), Number: o.number.Add(1),
	}
	err := verbs[root.Annotations[trial.VerbAnnotation]](ctx, o, root, stamp.String())
	switch {
	case errors.Is(err, sharding.ErrFenced):
		klog.InfoS(trial.FencedMessage, "object", klog.KObj(root), "stamp", stamp)
	case err != nil && !isGone(err):
		klog.V(5).InfoS("A write was refused or lost", "object", klog.KObj(root), "stamp", stamp, "err", err)
	}
	return err
}

// verbs are the ways to write.
var verbs = map[string]func(context.Context, *operator, *corev1.Secret, string) error{
	trial.Patch: func(ctx context.Context, o *operator, root *corev1.Secret, stamp string) error {
		_, err := o.kube.CoreV1().Secrets(root.Namespace).Patch(ctx, root.Name, types.MergePatchType, trial.StampPatch(stamp), metav1.PatchOptions{})
		return err
	},
	trial.Put: func(ctx context.Context, o *operator, root *corev1.Secret, stamp string) error {
		root = root.DeepCopy()
		root.ResourceVersion = "" // last write wins
		root.Annotations[trial.StampAnnotation] = stamp
		_, err := o.kube.CoreV1().Secrets(root.Namespace).Update(ctx, root, metav1.UpdateOptions{})
		return err
	},
	trial.Apply: func(ctx context.Context, o *operator, root *corev1.Secret, stamp string) error {
		_, err := o.kube.CoreV1().Secrets(root.Namespace).Patch(ctx, root.Name, types.ApplyYAMLPatchType, trial.ApplyBody(root.Name, string(root.UID), stamp),
			metav1.PatchOptions{FieldManager: trial.OperatorAgent, Force: new(true)})
		return err
	},
	trial.Child: func(ctx context.Context, o *operator, root *corev1.Secret, stamp string) error {
		_, err := o.kube.CoreV1().ConfigMaps(root.Namespace).Patch(ctx, root.Name, types.MergePatchType, trial.StampPatch(stamp), metav1.PatchOptions{})
		if apierrors.IsNotFound(err) {
			err = o.createChild(ctx, root, stamp)
		}
		return err
	},
}

// createChild makes the child of a root, on its shard from the beginning. A root that is deleted gets none: its child went with it, and whoever
// created that again would go on for ever, and load the API server for those that come after.
func (o *operator) createChild(ctx context.Context, root *corev1.Secret, stamp string) error {
	now, err := o.kube.CoreV1().Secrets(root.Namespace).Get(ctx, root.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if now.UID != root.UID {
		return apierrors.NewNotFound(corev1.Resource("secrets"), root.Name)
	}
	child := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: root.Name, Namespace: root.Namespace, Annotations: map[string]string{trial.StampAnnotation: stamp},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(root, corev1.SchemeGroupVersion.WithKind("Secret"))},
	}}
	sharding.CopyOwner(child, root, o.options.ring)
	_, err = o.kube.CoreV1().ConfigMaps(root.Namespace).Create(ctx, child, metav1.CreateOptions{})
	return err
}

package certaudit

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/sharding"
)

// maxSleep is the longest time until a Secret is looked at again. Timers run on
// the monotonic clock and certificates on the wall clock; a machine that was
// suspended or whose clock was set must not miss an expiry by more than this.
const maxSleep = Day

// checkpoints is how often at most the history of a Secret is written down
// between two moves, for the case that this process dies. It changes when the
// certificate is replaced or crosses a threshold, so this is rarely.
const checkpoints = time.Second

// Options configure an Auditor. All fields but Now are required.
type Options struct {
	// Ring and Shard say whose objects these are.
	Ring, Shard string
	// Client writes reports and Events. It is to be made from the worker's
	// fenced configuration.
	Client kubernetes.Interface
	// Secrets and Reports read the caches of this shard's Secrets and ConfigMaps.
	Secrets corelisters.SecretLister
	Reports corelisters.ConfigMapLister
	// Now is the wall clock. Default time.Now.
	Now func() time.Time
}

// Auditor audits Secrets. It is safe for concurrent use on different Secrets.
type Auditor struct {
	options   Options
	histories Histories
}

// New returns an Auditor, or an error that names the option that is missing.
func New(o Options) (*Auditor, error) {
	switch {
	case o.Ring == "":
		return nil, errors.New("certaudit: Ring: must not be empty")
	case o.Shard == "":
		return nil, errors.New("certaudit: Shard: must not be empty")
	case o.Client == nil:
		return nil, errors.New("certaudit: Client: must not be nil")
	case o.Secrets == nil:
		return nil, errors.New("certaudit: Secrets: must not be nil")
	case o.Reports == nil:
		return nil, errors.New("certaudit: Reports: must not be nil")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Auditor{options: o}, nil
}

// Histories are the rotation histories of the Secrets that were audited.
func (a *Auditor) Histories() *Histories { return &a.histories }

// State makes the history of a Secret go with it from shard to shard. It is
// the Controller.State for Reconcile.
func (a *Auditor) State() *sharding.StateTransfer {
	state := sharding.JSONState[History]{
		Get:    func(secret types.NamespacedName) (History, bool) { return a.histories.Get(secret.String()) },
		Set:    func(secret types.NamespacedName, h History) { a.histories.Set(secret.String(), h) },
		Delete: a.Forget,
	}
	return &sharding.StateTransfer{Exporter: state, Importer: state, Forgetter: state, Checkpoint: checkpoints}
}

// Forget drops what is known about a Secret that left this shard.
func (a *Auditor) Forget(secret types.NamespacedName) { a.histories.Forget(secret.String()) }

// Reconcile audits one Secret of this shard and asks to be called again when the
// next threshold will be crossed. Secrets of other types are none of its
// business. An unreadable certificate is a report and not an error; errors are
// what the API server says, terminal where asking again will not help.
func (a *Auditor) Reconcile(ctx context.Context, key types.NamespacedName) (sharding.Result, error) {
	secret, err := a.options.Secrets.Secrets(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		a.Forget(key) // the report goes with its controller
		return sharding.Result{}, nil
	}
	if err != nil {
		return sharding.Result{}, err
	}
	if secret.Type != corev1.SecretTypeTLS || secret.DeletionTimestamp != nil {
		return sharding.Result{}, nil
	}
	now := a.options.Now()
	report := Audit(Bundle{
		Certificate: secret.Data[corev1.TLSCertKey],
		Key:         secret.Data[corev1.TLSPrivateKeyKey],
		CA:          secret.Data["ca.crt"],
	}, now)
	if history, changed := a.histories.Observe(key.String(), string(secret.UID), report, now); changed && len(history.Rotations) > 1 {
		klog.FromContext(ctx).Info("Certificate was replaced", "secret", klog.KRef(key.Namespace, key.Name),
			"serial", report.Serial, "expires", report.ExpiresAt)
	}
	if err := a.publish(ctx, secret, report, now); err != nil {
		return sharding.Result{}, classify(err)
	}
	return sharding.Result{RequeueAfter: sleep(report, now)}, nil
}

// sleep is how long the report stays true; zero means forever.
func sleep(r Report, now time.Time) time.Duration {
	next, ok := r.NextChange(now)
	if !ok {
		return 0
	}
	return min(next.Sub(now), maxSleep)
}

// publish writes the Event, if one is due, and then the report. In this order
// nothing is lost if the process ends in between: the Event has a name that
// makes creating it twice impossible.
func (a *Auditor) publish(ctx context.Context, secret *corev1.Secret, r Report, now time.Time) error {
	have, err := a.existing(ctx, secret)
	if err != nil {
		return err
	}
	if err := a.alert(ctx, have, secret, r, now); err != nil {
		return err
	}
	if have == nil {
		return a.create(ctx, secret, r)
	}
	return a.update(ctx, have, secret, r)
}

// alert creates the Event, unless the history or the report says that it has
// been created before: Events don't last, and the same is not to be said again.
func (a *Auditor) alert(ctx context.Context, have *corev1.ConfigMap, secret *corev1.Secret, r Report, now time.Time) error {
	said, key := announcement(r), secret.Namespace+"/"+secret.Name
	if have != nil && have.Annotations[AnnouncedAnnotation] != "" && metav1.IsControlledBy(have, secret) {
		// The last Event of a shard that died before it had written its history down.
		a.histories.Alert(key, string(secret.UID), have.Annotations[AnnouncedAnnotation], now)
	}
	history, _ := a.histories.Get(key)
	if said == "" || history.Alerted(said) {
		return nil
	}
	if have == nil || have.Annotations[AnnouncedAnnotation] != said {
		event := newEvent(secret, r, a.options.Shard, now)
		_, err := a.options.Client.EventsV1().Events(secret.Namespace).Create(ctx, event, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating the Event %s: %w", event.Reason, err)
		}
	}
	a.histories.Alert(key, string(secret.UID), said, now)
	return nil
}

// existing returns the report that the cache has, nil if it has none.
func (a *Auditor) existing(ctx context.Context, secret *corev1.Secret) (*corev1.ConfigMap, error) {
	have, err := a.options.Reports.ConfigMaps(secret.Namespace).Get(ReportName(secret.Name))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return have, a.mine(have, secret)
}

func (a *Auditor) create(ctx context.Context, secret *corev1.Secret, r Report) error {
	report := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: ReportName(secret.Name), Namespace: secret.Namespace}}
	if err := apply(report, secret, r); err != nil {
		return err
	}
	sharding.CopyOwner(report, secret, a.options.Ring)
	configMaps := a.options.Client.CoreV1().ConfigMaps(secret.Namespace)
	_, err := configMaps.Create(ctx, report, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	// It is not in this shard's cache, or not yet: look at the thing itself.
	have, err := configMaps.Get(ctx, report.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if err := a.mine(have, secret); err != nil {
		return err
	}
	return a.update(ctx, have, secret, r)
}

// update writes the report over the one that is there, if that changes anything
// and if nobody has written it in the meantime.
func (a *Auditor) update(ctx context.Context, have *corev1.ConfigMap, secret *corev1.Secret, r Report) error {
	want := have.DeepCopy() // with its resourceVersion
	if err := apply(want, secret, r); err != nil {
		return err
	}
	if same(want, have) {
		return nil
	}
	_, err := a.options.Client.CoreV1().ConfigMaps(want.Namespace).Update(ctx, want, metav1.UpdateOptions{})
	return err
}

// errForeign is returned for a ConfigMap that has a report's name and is none.
var errForeign = errors.New("is not a report of this Secret and is left alone")

// mine refuses a ConfigMap that this shard must not write: one of somebody else
// for good, a report that is still with another shard for now.
func (a *Auditor) mine(have *corev1.ConfigMap, secret *corev1.Secret) error {
	if !isReportOf(have, secret) {
		return fmt.Errorf("ConfigMap %s/%s: %w", have.Namespace, have.Name, errForeign)
	}
	if owner, ok := sharding.OwnerOf(have, a.options.Ring); ok && owner != a.options.Shard {
		return fmt.Errorf("ConfigMap %s/%s is still with shard %s", have.Namespace, have.Name, owner)
	}
	return nil
}

// classify marks the errors that asking again will not mend. A change of the
// Secret leads to another try in any case.
func classify(err error) error {
	switch {
	case errors.Is(err, errForeign),
		apierrors.IsInvalid(err),
		apierrors.IsRequestEntityTooLargeError(err),
		apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return sharding.TerminalError(err)
	}
	return err
}

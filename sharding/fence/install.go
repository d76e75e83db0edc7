package fence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/internal/fencing"
)

// FieldManager is the field manager that Install applies with.
const FieldManager = "shard-fence"

const (
	// pollInterval is how often Install looks whether the policy is in force. That takes a server up to a second.
	pollInterval = 100 * time.Millisecond

	// agreement is how many times in a row the answer has to be the wanted one: behind one address there may be several servers.
	agreement = 5
)

// Install creates the fence of the ring, or brings the one that is there up to date, by server-side apply, and waits until the API server
// enforces it: until a dry run that it has to refuse is refused. Without [Options.RestoreLabels] a policy that restored labels is
// deleted. The namespace of the ring must exist.
//
// The caller needs the right to get, patch and delete the objects of the fence, and to create Leases in the ring's
// namespace. That is an installer's work: who may change the fence can take it away, so neither managers nor workers should
// have this right. An error names the object; ctx bounds the wait. Install can be repeated.
//
// With several API servers behind one address Install can't know that each of them enforces the fence: they follow within a second.
func Install(ctx context.Context, client kubernetes.Interface, config *shardv1.ShardConfig, o Options) error {
	objects, err := Objects(config, o)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if err := apply(ctx, client, object); err != nil {
			return err
		}
	}
	if !o.RestoreLabels {
		if err := uninstallRestoring(ctx, client, Name(config.Namespace, config.Name)); err != nil {
			return err
		}
	}
	return wait(ctx, client, config.Namespace, config.Name, true)
}

// Uninstall deletes the fence of the ring, all parts of it that exist, and waits until the API server does not enforce it any more.
func Uninstall(ctx context.Context, client kubernetes.Interface, namespace, ring string) error {
	name, options := Name(namespace, ring), metav1.DeleteOptions{}
	if err := uninstallRestoring(ctx, client, name); err != nil {
		return err
	}
	api := client.AdmissionregistrationV1()
	for _, name := range []string{fencing.Shards(namespace, ring), name} {
		if err := api.ValidatingAdmissionPolicyBindings().Delete(ctx, name, options); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("fence: deleting ValidatingAdmissionPolicyBinding %s: %w", name, err)
		}
		if err := api.ValidatingAdmissionPolicies().Delete(ctx, name, options); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("fence: deleting ValidatingAdmissionPolicy %s: %w", name, err)
		}
	}
	return wait(ctx, client, namespace, ring, false)
}

// uninstallRestoring does not mind a server that does not know such policies.
func uninstallRestoring(ctx context.Context, client kubernetes.Interface, name string) error {
	api, options := client.AdmissionregistrationV1(), metav1.DeleteOptions{}
	if err := api.MutatingAdmissionPolicyBindings().Delete(ctx, name, options); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("fence: deleting MutatingAdmissionPolicyBinding %s: %w", name, err)
	}
	if err := api.MutatingAdmissionPolicies().Delete(ctx, name, options); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("fence: deleting MutatingAdmissionPolicy %s: %w", name, err)
	}
	return nil
}

func apply(ctx context.Context, client kubernetes.Interface, object runtime.Object) error {
	fields, err := manifest(object)
	if err != nil {
		return err
	}
	data, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	api, options := client.AdmissionregistrationV1(), metav1.PatchOptions{FieldManager: FieldManager, Force: ptr.To(true)}
	name := ""
	switch o := object.(type) {
	case *admissionv1.ValidatingAdmissionPolicy:
		name = o.Name
		_, err = api.ValidatingAdmissionPolicies().Patch(ctx, name, types.ApplyPatchType, data, options)
	case *admissionv1.ValidatingAdmissionPolicyBinding:
		name = o.Name
		_, err = api.ValidatingAdmissionPolicyBindings().Patch(ctx, name, types.ApplyPatchType, data, options)
	case *admissionv1.MutatingAdmissionPolicy:
		name = o.Name
		_, err = api.MutatingAdmissionPolicies().Patch(ctx, name, types.ApplyPatchType, data, options)
	case *admissionv1.MutatingAdmissionPolicyBinding:
		name = o.Name
		_, err = api.MutatingAdmissionPolicyBindings().Patch(ctx, name, types.ApplyPatchType, data, options)
	}
	if err != nil {
		return fmt.Errorf("fence: applying %s %s: %w", object.GetObjectKind().GroupVersionKind().Kind, name, err)
	}
	return nil
}

// wait returns when the fence is, or is not, in force: both of its policies.
func wait(ctx context.Context, client kubernetes.Interface, namespace, ring string, wanted bool) error {
	for _, p := range []struct {
		policy string
		lease  *coordinationv1.Lease
	}{
		{Name(namespace, ring), fencing.ProbeLease(ring, sharding.OwnerLabel(ring))},
		{fencing.Shards(namespace, ring), fencing.ShardsProbeLease(ring)},
	} {
		ask := func() (bool, error) { return probe(ctx, client, namespace, ring, p.policy, p.lease) }
		if err := agreed(ctx, p.policy, wanted, ask); err != nil {
			return err
		}
	}
	return nil
}

// agreed returns when a policy is, or is not, in force.
func agreed(ctx context.Context, policy string, wanted bool, ask func() (bool, error)) error {
	for agreed := 0; agreed < agreement; {
		enforced, err := ask()
		switch {
		case err == nil && enforced == wanted:
			agreed++
			continue
		case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
			return err // it will not get better
		}
		agreed = 0
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("fence: waiting for ValidatingAdmissionPolicy %s: %w", policy, context.Cause(ctx)), err)
		case <-time.After(pollInterval):
		}
	}
	return nil
}

// probe asks for what the policy has to refuse, and would not be done if it did not.
func probe(ctx context.Context, client kubernetes.Interface, namespace, ring, policy string, lease *coordinationv1.Lease) (enforced bool, err error) {
	_, err = client.CoordinationV1().Leases(namespace).Create(ctx, lease, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if rule, refused := fencing.RefusalBy(err, policy, ring); refused {
		return rule == fencing.ProbeRule, nil
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return false, fmt.Errorf("fence: dry run of a Lease in namespace %s: %w", namespace, err)
	}
	return false, nil
}

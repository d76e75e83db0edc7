package controlplane

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// FinalizeNamespace deletes a namespace and does what kube-controller-manager
// would do about it: deletes everything in it, of all resources, waits until
// nothing is left (objects with finalizers stay until those who set them have
// removed them), and finalizes the namespace. A namespace that does not exist
// is not an error.
func (c *ControlPlane) FinalizeNamespace(ctx context.Context, name string) error {
	if err := c.finalizeNamespace(ctx, name); err != nil {
		return fmt.Errorf("controlplane: FinalizeNamespace %q: %w", name, err)
	}
	return nil
}

func (c *ControlPlane) finalizeNamespace(ctx context.Context, name string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	err = client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil && !apierrors.IsConflict(err) { // conflict: it is being deleted already
		return err
	}
	config := c.Config()
	config.WarningHandlerWithContext = rest.NoWarnings{} // of resources that are deprecated
	objects, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	resources, err := deletable(ctx, client)
	if err != nil {
		return err
	}
	for {
		left, err := empty(ctx, objects, resources, name)
		if err != nil {
			return err
		}
		if left == "" {
			return finalize(ctx, client, name)
		}
		if !pause(ctx) {
			return fmt.Errorf("there are still %s in it: %w", left, context.Cause(ctx))
		}
	}
}

// deletable lists the namespaced resources whose objects can be deleted.
func deletable(ctx context.Context, client kubernetes.Interface) ([]schema.GroupVersionResource, error) {
	lists, err := discovery.ServerPreferredNamespacedResourcesWithContext(ctx, discovery.ToDiscoveryInterfaceWithContext(client.Discovery()))
	if err != nil {
		return nil, err
	}
	var all []schema.GroupVersionResource
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			if slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "deletecollection") {
				all = append(all, gv.WithResource(r.Name))
			}
		}
	}
	return all, nil
}

// empty deletes all objects of a namespace and names a resource of which there
// are still some.
func empty(ctx context.Context, client metadata.Interface, resources []schema.GroupVersionResource, namespace string) (left string, err error) {
	for _, r := range resources {
		in := client.Resource(r).Namespace(namespace)
		list, err := in.List(ctx, metav1.ListOptions{Limit: 1})
		if apierrors.IsNotFound(err) { // the resource itself is gone
			continue
		}
		if err != nil {
			return "", fmt.Errorf("list of %s: %w", r.GroupResource(), err)
		}
		if len(list.Items) == 0 {
			continue
		}
		left = r.GroupResource().String()
		// A Pod without a kubelet would wait for its grace period forever.
		now := int64(0)
		err = in.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return "", fmt.Errorf("deletion of %s: %w", r.GroupResource(), err)
		}
	}
	return left, nil
}

func finalize(ctx context.Context, client kubernetes.Interface, name string) error {
	ns, err := client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	ns.Spec.Finalizers = nil
	_, err = client.CoreV1().Namespaces().Finalize(ctx, ns, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

//go:build unix

package main

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/shard-io/shard-controller/examples/deploy"
)

// rbacResources are the resources of the kinds in the files.
var rbacResources = map[string]string{
	"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings", "Role": "roles", "RoleBinding": "rolebindings",
}

// rbacObjects are the roles of manager and worker and who has them, for a ring
// in this namespace: those that are shipped, under other names.
func rbacObjects(namespace string) ([]*unstructured.Unstructured, error) {
	all, err := deploy.Objects("base/manager", "base/scaling", "base/worker", "worker-deployment")
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, o := range all {
		if rbacResources[o.GetKind()] == "" {
			continue
		}
		data, err := o.MarshalJSON()
		if err != nil {
			return nil, err
		}
		text := strings.NewReplacer(`"namespace":"audit"`, `"namespace":"`+namespace+`"`, `"name":"audit-`, `"name":"`+namespace+`-`).Replace(string(data))
		if err := o.UnmarshalJSON([]byte(text)); err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil
}

func rbacClient(client dynamic.Interface, o *unstructured.Unstructured) dynamic.ResourceInterface {
	resource := schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: rbacResources[o.GetKind()]}
	return client.Resource(resource).Namespace(o.GetNamespace())
}

// applyRBAC creates the roles or brings them up to date.
func applyRBAC(ctx context.Context, client dynamic.Interface, namespace string) error {
	objects, err := rbacObjects(namespace)
	if err != nil {
		return err
	}
	for _, o := range objects {
		_, err := rbacClient(client, o).Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		if err != nil {
			return fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// deleteRBAC deletes what does not go with the namespace.
func deleteRBAC(ctx context.Context, client dynamic.Interface, namespace string) error {
	objects, err := rbacObjects(namespace)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if o.GetNamespace() != "" {
			continue
		}
		err := rbacClient(client, o).Delete(ctx, o.GetName(), metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

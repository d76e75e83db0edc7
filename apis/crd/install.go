package crd

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// FieldManager is the field manager that Install applies with.
const FieldManager = "shard-controller"

// pollInterval is how often Install looks whether the server is done. A server takes about a second, five where there are several.
const pollInterval = 100 * time.Millisecond

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// Install creates the CustomResourceDefinitions on the server of cfg, or brings those that are there up to date, and waits until
// they are established and served. It needs the right to get and patch customresourcedefinitions. Call it from an
// installer or a test; a manager that runs with few rights should not.
//
// It returns an error when the server refuses a definition, when another group owns one of the names, and when ctx ends; the error
// names the definition. Definitions before that one have then been applied already, and Install can be called again.
func Install(ctx context.Context, cfg *rest.Config) error {
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("installing custom resource definitions: %w", err)
	}
	objects, err := Objects()
	if err != nil {
		return err
	}
	for _, object := range objects {
		_, err := client.Resource(definitions).Apply(ctx, object.GetName(), object,
			metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
		if err != nil {
			return fmt.Errorf("applying custom resource definition %s: %w", object.GetName(), err)
		}
	}
	for _, object := range objects {
		if err := waitServed(ctx, client, object.GetName()); err != nil {
			return fmt.Errorf("waiting for custom resource definition %s: %w", object.GetName(), err)
		}
	}
	return nil
}

// waitServed returns when the definition called name is established and its resources can be read. Errors of single reads are
// retried: the definition has been accepted, so they can only be passing ones.
func waitServed(ctx context.Context, client dynamic.Interface, name string) error {
	last := error(fmt.Errorf("not established yet"))
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		object, err := client.Resource(definitions).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			last = err
			return false, nil
		}
		established, err := isEstablished(object)
		if !established || err != nil {
			return false, err
		}
		last = probe(ctx, client, object)
		return last == nil, nil
	})
	if ctx.Err() != nil {
		return fmt.Errorf("%w (last: %w)", context.Cause(ctx), last)
	}
	return err
}

// isEstablished reads the conditions of a definition. A refused name is an error: it stays refused until somebody removes the other
// definition.
func isEstablished(definition *unstructured.Unstructured) (bool, error) {
	value, _, err := unstructured.NestedFieldNoCopy(definition.Object, "status", "conditions")
	if err != nil {
		return false, err
	}
	conditions, _ := value.([]any) // null as long as the server has not looked at the definition
	established := false
	for _, item := range conditions {
		condition, _ := item.(map[string]any)
		switch {
		case condition["type"] == "NamesAccepted" && condition["status"] == "False":
			return false, fmt.Errorf("names not accepted: %v", condition["message"])
		case condition["type"] == "Established":
			established = condition["status"] == "True"
		}
	}
	return established, nil
}

// probe asks for one object of the definition's resource. That we may not read it is an answer too: the server knows the
// resource.
func probe(ctx context.Context, client dynamic.Interface, definition *unstructured.Unstructured) error {
	group, _, _ := unstructured.NestedString(definition.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "plural")
	resource := schema.GroupVersionResource{Group: group, Version: "v1", Resource: plural}
	_, err := client.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
	if apierrors.IsForbidden(err) {
		return nil
	}
	return err
}

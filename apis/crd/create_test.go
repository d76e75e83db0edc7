package crd_test

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
)

// createUntyped creates the object with strict field validation, and then writes its status, if it has one.
func createUntyped(ctx context.Context, client dynamic.Interface, ns string, object *unstructured.Unstructured) error {
	resource := client.Resource(resourceOf(object)).Namespace(ns)
	created, err := resource.Create(ctx, object, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	status, found := object.Object["status"]
	if err != nil || !found {
		return err
	}
	created.Object["status"] = status
	_, err = resource.UpdateStatus(ctx, created, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict})
	return err
}

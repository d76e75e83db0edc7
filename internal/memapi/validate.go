package memapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var metaPath = field.NewPath("metadata")

// validate checks what the real server checks of every kind's metadata. old is nil for a creation.
// Only what changed is looked at, so that a write costs what it changes.
func (t *table) validate(old *object, data map[string]any) error {
	m := metadataOf(data)
	var was map[string]any
	if old != nil {
		was = metadataOf(old.data)
	}
	var errs field.ErrorList
	if old == nil {
		for _, msg := range validation.NameIsDNSSubdomain(stringAt(m, "name"), false) {
			errs = append(errs, field.Invalid(metaPath.Child("name"), stringAt(m, "name"), msg))
		}
	} else if stringAt(m, "uid") != stringAt(was, "uid") {
		errs = append(errs, field.Invalid(metaPath.Child("uid"), stringAt(m, "uid"), validation.FieldImmutableErrorMsg))
	}
	errs = append(errs, validateStrings(m, was, "labels", metav1validation.ValidateLabels)...)
	errs = append(errs, validateStrings(m, was, "annotations", validation.ValidateAnnotations)...)
	errs = append(errs, validateFinalizers(m, was)...)
	errs = append(errs, validateOwners(m, was)...)
	if len(errs) > 0 {
		if t.typed == nil && old != nil { // As the real server, which checks custom resources twice.
			errs = append(errs, errs...)
		}
		return apierrors.NewInvalid(t.GVK().GroupKind(), stringAt(m, "name"), errs)
	}
	return nil
}

// validateStrings checks a map of strings, such as labels, when it changed.
func validateStrings(m, was map[string]any, key string, check func(map[string]string, *field.Path) field.ErrorList) field.ErrorList {
	if m[key] == nil || (was != nil && reflect.DeepEqual(m[key], was[key])) {
		return nil
	}
	raw, ok := m[key].(map[string]any)
	if !ok {
		return field.ErrorList{field.TypeInvalid(metaPath.Child(key), m[key], "want a map of strings")}
	}
	set := make(map[string]string, len(raw))
	for k, v := range raw {
		text, ok := v.(string)
		if !ok {
			return field.ErrorList{field.TypeInvalid(metaPath.Child(key).Key(k), v, "want a string")}
		}
		set[k] = text
	}
	return check(set, metaPath.Child(key))
}

// validateFinalizers refuses a new finalizer on an object that is being deleted.
func validateFinalizers(m, was map[string]any) field.ErrorList {
	if was == nil || was["deletionTimestamp"] == nil {
		return nil
	}
	before, _ := was["finalizers"].([]any)
	now, _ := m["finalizers"].([]any)
	for _, f := range now {
		if !slices.Contains(before, f) {
			return field.ErrorList{field.Forbidden(metaPath.Child("finalizers"), fmt.Sprintf(
				"no new finalizers can be added if the object is being deleted, found new finalizers []string{%q}", f))}
		}
	}
	return nil
}

// validateOwners refuses incomplete references, and two controllers.
func validateOwners(m, was map[string]any) field.ErrorList {
	if m["ownerReferences"] == nil || (was != nil && reflect.DeepEqual(m["ownerReferences"], was["ownerReferences"])) {
		return nil
	}
	path := metaPath.Child("ownerReferences")
	var refs []metav1.OwnerReference
	raw, err := json.Marshal(m["ownerReferences"])
	if err == nil {
		err = json.Unmarshal(raw, &refs)
	}
	if err != nil {
		return field.ErrorList{field.TypeInvalid(path, m["ownerReferences"], err.Error())}
	}
	return validation.ValidateOwnerReferences(refs, path)
}

func invalidOption(name, message string) error {
	return invalidOptions("ListOptions", field.Forbidden(field.NewPath(name), message))
}

func invalidOptions(kind string, err *field.Error) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", field.ErrorList{err})
}

func (t *table) unsupportedMedia() error {
	accepted := "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
	if t.typed != nil {
		accepted = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType,
		Reason: metav1.StatusReasonUnsupportedMediaType, Message: "the body of the request was in an unknown format - accepted media types include: " + accepted}}
}

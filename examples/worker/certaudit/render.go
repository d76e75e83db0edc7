package certaudit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	// SeverityLabel is on every report; its value is the Severity.
	SeverityLabel = "certaudit.shard.io/severity"
	// AnnouncedAnnotation says for which certificate and severity an Event
	// has been created, so that the next shard does not repeat it.
	AnnouncedAnnotation = "certaudit.shard.io/announced"
	// ReportKey is the entry of the ConfigMap with the Report as JSON.
	ReportKey = "report.json"
)

// Limits of Kubernetes for the names of objects.
const (
	reportSuffix  = "-certaudit"
	maxNameLength = 253
)

// ReportName is the name of the ConfigMap with the report on the Secret called
// secret. Different Secrets have different reports, also where a name is so
// long that it has to be shortened: then a hash of the whole takes part.
func ReportName(secret string) string {
	if len(secret)+len(reportSuffix) <= maxNameLength {
		return secret + reportSuffix
	}
	tail := "-" + shortHash(secret) + reportSuffix
	// A part of a name must not end in a dash or be empty.
	return strings.TrimRight(secret[:maxNameLength-len(tail)], "-.") + tail
}

// shortHash is enough of a SHA-256 to make names unique: 16 hexadecimal digits.
func shortHash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// announcement is the value of AnnouncedAnnotation for a report; "" for one
// that needs no Event. A replaced certificate is announced anew.
func announcement(r Report) string {
	if !r.Severity.Urgent() {
		return ""
	}
	return fmt.Sprintf("%s/%.16s", r.Severity, r.Fingerprint)
}

// apply puts the report into a ConfigMap and makes the Secret its controller. It
// leaves everything else in the ConfigMap as it is, the owner label too.
func apply(to *corev1.ConfigMap, secret *corev1.Secret, r Report) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("report on Secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	if to.Labels == nil {
		to.Labels = map[string]string{}
	}
	to.Labels[SeverityLabel] = string(r.Severity)
	if to.Annotations == nil {
		to.Annotations = map[string]string{}
	}
	if said := announcement(r); said != "" {
		to.Annotations[AnnouncedAnnotation] = said
	} else {
		delete(to.Annotations, AnnouncedAnnotation)
	}
	to.Data = map[string]string{ReportKey: string(text) + "\n"}
	to.BinaryData = nil
	to.OwnerReferences = withController(to.OwnerReferences, secret)
	return nil
}

func withController(references []metav1.OwnerReference, secret *corev1.Secret) []metav1.OwnerReference {
	references = slices.DeleteFunc(slices.Clone(references), func(o metav1.OwnerReference) bool {
		return o.Controller != nil && *o.Controller
	})
	return append(references, metav1.OwnerReference{
		APIVersion: "v1", Kind: "Secret", Name: secret.Name, UID: secret.UID,
		Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(false),
	})
}

// isReportOf reports whether the ConfigMap is a report on a Secret of this name:
// on this one, or on one that was deleted and created again.
func isReportOf(have *corev1.ConfigMap, secret *corev1.Secret) bool {
	controller := metav1.GetControllerOf(have)
	return controller != nil && controller.Kind == "Secret" && controller.APIVersion == "v1" &&
		controller.Name == secret.Name && have.Labels[SeverityLabel] != ""
}

// same reports whether writing a in place of b would change nothing.
func same(a, b *corev1.ConfigMap) bool {
	return maps.Equal(a.Data, b.Data) && len(a.BinaryData) == len(b.BinaryData) &&
		maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations) &&
		slices.EqualFunc(a.OwnerReferences, b.OwnerReferences, sameReference)
}

func sameReference(a, b metav1.OwnerReference) bool {
	return a.APIVersion == b.APIVersion && a.Kind == b.Kind && a.Name == b.Name && a.UID == b.UID &&
		ptr.Equal(a.Controller, b.Controller) && ptr.Equal(a.BlockOwnerDeletion, b.BlockOwnerDeletion)
}

package certaudit

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ReportingController is who the Events are from.
const ReportingController = "shard.io/certaudit"

// maxNote is the API server's limit for the text of an Event, in bytes.
const maxNote = 1024

// eventName is made of all that an Event is to be said once for: two shards that
// want to say the same find that it has been said.
func eventName(secret *corev1.Secret, r Report) string {
	hash := shortHash(string(secret.UID), announcement(r))
	prefix := secret.Name
	if most := maxNameLength - len(hash) - 1; len(prefix) > most {
		prefix = prefix[:most]
	}
	return strings.TrimRight(prefix, "-.") + "." + hash
}

// newEvent says that a threshold was crossed.
func newEvent(secret *corev1.Secret, r Report, shard string, now time.Time) *eventsv1.Event {
	reason, note := describe(r)
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote-3], "") + "..."
	}
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: eventName(secret, r), Namespace: secret.Namespace},
		EventTime:  metav1.NewMicroTime(now),
		Type:       eventType(r.Severity), Reason: reason, Action: "Audit", Note: note,
		ReportingController: ReportingController, ReportingInstance: shard,
		Regarding: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Secret", Namespace: secret.Namespace, Name: secret.Name, UID: secret.UID,
		},
	}
}

func eventType(s Severity) string {
	if s == Notice {
		return corev1.EventTypeNormal
	}
	return corev1.EventTypeWarning
}

func describe(r Report) (reason, note string) {
	expires := r.ExpiresAt.Format(time.RFC3339)
	switch r.Severity {
	case Invalid:
		return "CertificateInvalid", "There is no certificate that can be read: " + strings.Join(r.Problems, "; ")
	case Expired:
		return "CertificateExpired", fmt.Sprintf("The certificate of %s expired at %s.", r.Subject, expires)
	case Critical:
		return "CertificateExpiresInADay", fmt.Sprintf("The certificate of %s expires at %s, within a day.", r.Subject, expires)
	case Warning:
		return "CertificateExpiresInAWeek", fmt.Sprintf("The certificate of %s expires at %s, within 7 days.", r.Subject, expires)
	}
	return "CertificateExpiresInAMonth", fmt.Sprintf("The certificate of %s expires at %s, within 30 days.", r.Subject, expires)
}

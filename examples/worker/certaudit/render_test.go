package certaudit

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

// longNames are valid names of Secrets around the limits.
func longNames() []string {
	var names []string
	for n := 225; n <= 253; n++ {
		names = append(names, strings.Repeat("a", n), strings.Repeat("a", n-1)+"b")
	}
	// A dot or a dash may be where the name is cut.
	for n := 220; n <= 240; n++ {
		names = append(names, strings.Repeat("a", n)+"-"+strings.Repeat("c", 252-n), strings.Repeat("a", n)+"."+strings.Repeat("c", 252-n))
	}
	return append(names, "a", "a.b", "x-certaudit")
}

func TestNamesAreValidAndUnique(t *testing.T) {
	seen := map[string]string{}
	for _, secret := range longNames() {
		if problems := validation.IsDNS1123Subdomain(secret); len(problems) > 0 {
			t.Fatalf("the test's own name %q: %v", secret, problems)
		}
		o := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secret, UID: "uid"}}
		for kind, name := range map[string]string{"report": ReportName(secret), "event": eventName(o, Report{Severity: Expired})} {
			if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
				t.Errorf("the %s of %q is called %q: %v", kind, secret, name, problems)
			}
			// The event's name depends on the UID, so equal prefixes are no clash.
			if other := seen[name]; other != "" && kind == "report" {
				t.Errorf("%q and %q have the same report %q", other, secret, name)
			}
			seen[name] = secret
		}
	}
	if got := ReportName("web"); got != "web-certaudit" {
		t.Errorf("ReportName(web) = %q", got)
	}
}

func TestEventNamesSayWhatIsSaidOnce(t *testing.T) {
	names := map[string]bool{}
	for _, uid := range []types.UID{"u1", "u2"} {
		for _, fingerprint := range []string{"f1", "f2"} {
			for _, severity := range []Severity{Notice, Warning, Critical, Expired} {
				s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: uid}}
				r := Report{Severity: severity, Fingerprint: fingerprint, ExpiresAt: now}
				name := eventName(s, r)
				names[name] = true
				r.Problems, s.ResourceVersion = []string{"news"}, "2"
				if again := eventName(s, r); again != name {
					t.Errorf("the same Event is called %q and %q", name, again)
				}
			}
		}
	}
	if len(names) != 16 {
		t.Errorf("%d names for 16 different Events", len(names))
	}
}

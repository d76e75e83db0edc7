package certaudit

import (
	"slices"
	"time"
)

// Severity grades how soon a certificate has to be replaced.
type Severity string

const (
	// OK means that more than 30 days are left.
	OK Severity = "ok"
	// Notice means that at most 30 days are left.
	Notice Severity = "notice"
	// Warning means that at most 7 days are left.
	Warning Severity = "warning"
	// Critical means that at most one day is left.
	Critical Severity = "critical"
	// Expired means that nothing is left.
	Expired Severity = "expired"
	// Invalid means that there is no certificate that could be read.
	Invalid Severity = "invalid"
)

// Day is the unit of the thresholds. It is always 24 hours long.
const Day = 24 * time.Hour

// thresholds are in the order in which time crosses them.
var thresholds = []struct {
	left     time.Duration
	severity Severity
}{
	{30 * Day, Notice},
	{7 * Day, Warning},
	{1 * Day, Critical},
	{0, Expired},
}

// SeverityAt grades a certificate that expires at the given time. A threshold is
// crossed when exactly that much is left; a certificate is valid at its
// notAfter, so it is expired only after it.
func SeverityAt(expires, now time.Time) Severity {
	grade := OK
	for _, t := range thresholds {
		if now.Before(crossing(expires, t.left)) {
			break
		}
		grade = t.severity
	}
	return grade
}

// NextCrossing returns when the grade of a certificate changes next; false if it
// is expired and never changes again.
func NextCrossing(expires, now time.Time) (time.Time, bool) {
	for _, t := range thresholds {
		if at := crossing(expires, t.left); now.Before(at) {
			return at, true
		}
	}
	return time.Time{}, false
}

// crossing is the first moment at which the threshold counts as crossed.
func crossing(expires time.Time, left time.Duration) time.Time {
	if left == 0 {
		return expires.Add(1) // valid until and including notAfter
	}
	return expires.Add(-left)
}

// DaysLeft is the number of whole days until the certificate expires. It is
// negative once it has expired: -1 on the first day after that.
func DaysLeft(expires, now time.Time) int {
	left := expires.Sub(now)
	days := int(left / Day)
	if left < 0 && left%Day != 0 {
		days--
	}
	return days
}

// Urgent reports whether the severity deserves an Event.
func (s Severity) Urgent() bool {
	return s == Invalid || slices.ContainsFunc(thresholds, func(t struct {
		left     time.Duration
		severity Severity
	}) bool {
		return t.severity == s
	})
}

package certaudit

import (
	"testing"
	"time"
)

func TestSeverityAndNextCrossing(t *testing.T) {
	at := now // of expiry
	tests := []struct {
		left     time.Duration
		severity Severity
		days     int
		next     time.Duration // before expiry; -2 means never
	}{
		{365 * Day, OK, 365, 30 * Day},
		{30*Day + 1, OK, 30, 30 * Day},
		{30 * Day, Notice, 30, 7 * Day},
		{7*Day + 1, Notice, 7, 7 * Day},
		{7 * Day, Warning, 7, 1 * Day},
		{Day + 1, Warning, 1, 1 * Day},
		{Day, Critical, 1, -1},
		{1, Critical, 0, -1},
		{0, Critical, 0, -1},
		{-1, Expired, -1, -2},
		{-Day, Expired, -1, -2},
		{-Day - 1, Expired, -2, -2},
		{-1000 * Day, Expired, -1000, -2},
	}
	for _, tc := range tests {
		now := at.Add(-tc.left)
		if got := SeverityAt(at, now); got != tc.severity {
			t.Errorf("%v left: SeverityAt = %s, want %s", tc.left, got, tc.severity)
		}
		if got := DaysLeft(at, now); got != tc.days {
			t.Errorf("%v left: DaysLeft = %d, want %d", tc.left, got, tc.days)
		}
		next, ok := NextCrossing(at, now)
		switch {
		case tc.next == -2 && ok:
			t.Errorf("%v left: NextCrossing = %v, want never", tc.left, next)
		case tc.next != -2 && (!ok || !next.Equal(at.Add(-tc.next))):
			t.Errorf("%v left: NextCrossing = %v, %t, want %v", tc.left, next, ok, at.Add(-tc.next))
		}
	}
}

// TestCrossingsLeadThroughAllSeverities walks from crossing to crossing, as an
// auditor does that sleeps until the next one, and must miss none.
func TestCrossingsLeadThroughAllSeverities(t *testing.T) {
	expires := now.Add(400 * Day)
	at, seen := now, []Severity{SeverityAt(expires, now)}
	for {
		next, ok := NextCrossing(expires, at)
		if !ok {
			break
		}
		if !next.After(at) {
			t.Fatalf("the crossing after %v is at %v", at, next)
		}
		at = next
		seen = append(seen, SeverityAt(expires, at))
	}
	want := []Severity{OK, Notice, Warning, Critical, Expired}
	if len(seen) != len(want) {
		t.Fatalf("seen %v, want %v", seen, want)
	}
	for i := range want {
		if seen[i] != want[i] || seen[i].Urgent() != (want[i] != OK) {
			t.Errorf("step %d: %s (urgent %t), want %s", i, seen[i], seen[i].Urgent(), want[i])
		}
	}
	if !Invalid.Urgent() {
		t.Error("an unreadable certificate is not urgent")
	}
}

package certaudit

import (
	"slices"
	"sync"
	"time"
)

const (
	// maxRotations is how many certificates of one Secret are remembered.
	maxRotations = 16
	// maxAlerts is how many Events about one Secret are remembered: all that
	// there can be about the certificates that are.
	maxAlerts = 5 * maxRotations
)

// Rotation is a certificate that was seen in a Secret.
type Rotation struct {
	Serial      string    `json:"serial"`
	Fingerprint string    `json:"fingerprint"`
	NotAfter    time.Time `json:"notAfter"`
	// SeenAt is when this process, or one before it, saw it for the first
	// time after another certificate.
	SeenAt time.Time `json:"seenAt"`
}

// Alert is an Event that was created about a Secret.
type Alert struct {
	// Of names the severity and the certificate that it was about.
	Of string `json:"of"`
	// At is when it was created.
	At time.Time `json:"at"`
}

// History is what has happened to one Secret: the processing state that a
// shard has about it, and that goes with it from shard to shard. It is plain
// data and encodes as JSON.
type History struct {
	// UID is that of the Secret; a new Secret of the same name has no history.
	UID string `json:"uid"`
	// Rotations are at most 16, oldest first.
	Rotations []Rotation `json:"rotations,omitempty"`
	// Forgotten counts the older ones that were dropped.
	Forgotten int `json:"forgotten,omitempty"`
	// Alerts are at most 80, oldest first.
	Alerts []Alert `json:"alerts,omitempty"`
}

// Alerted reports whether there has been an Event of this.
func (h History) Alerted(of string) bool {
	return slices.ContainsFunc(h.Alerts, func(a Alert) bool { return a.Of == of })
}

// alert returns the history after an Event.
func (h History) alert(of string, at time.Time) History {
	if h.Alerted(of) {
		return h
	}
	h.Alerts = append(slices.Clone(h.Alerts), Alert{Of: of, At: at.UTC()})
	if surplus := len(h.Alerts) - maxAlerts; surplus > 0 {
		h.Alerts = h.Alerts[surplus:]
	}
	return h
}

// Observe returns the history after r was seen at the given time, and whether
// that is a change. An unreadable certificate changes nothing.
func (h History) Observe(r Report, now time.Time) (History, bool) {
	if r.Fingerprint == "" {
		return h, false
	}
	if n := len(h.Rotations); n > 0 && h.Rotations[n-1].Fingerprint == r.Fingerprint {
		return h, false
	}
	h.Rotations = append(slices.Clone(h.Rotations), Rotation{
		Serial: r.Serial, Fingerprint: r.Fingerprint, NotAfter: r.NotAfter, SeenAt: now.UTC(),
	})
	if surplus := len(h.Rotations) - maxRotations; surplus > 0 {
		h.Rotations = h.Rotations[surplus:]
		h.Forgotten += surplus
	}
	return h, true
}

// Histories keeps the history of every Secret of a shard in memory. Its zero
// value is empty; it is safe for concurrent use.
type Histories struct {
	mu    sync.Mutex
	byKey map[string]History
}

// Observe notes what was seen in the Secret with this key and UID, and returns
// its history and whether that changed. The caller must not modify the result.
func (s *Histories) Observe(key, uid string, r Report, now time.Time) (History, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.byKey[key]
	if h.UID != uid {
		h = History{UID: uid}
	}
	h, changed := h.Observe(r, now)
	if s.byKey == nil {
		s.byKey = map[string]History{}
	}
	s.byKey[key] = h
	return h, changed
}

// Alert notes that there has been an Event about the Secret.
func (s *Histories) Alert(key, uid, of string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.byKey[key]; ok && h.UID == uid {
		s.byKey[key] = h.alert(of, at)
	}
}

// Set replaces the history of the Secret with this key: it comes from the
// shard that had the Secret before.
func (s *Histories) Set(key string, h History) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey == nil {
		s.byKey = map[string]History{}
	}
	s.byKey[key] = h
}

// Get returns the history of the Secret with this key; false if there is none.
func (s *Histories) Get(key string) (History, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.byKey[key]
	return h, ok
}

// Forget drops the history of a Secret that is gone or has moved away.
func (s *Histories) Forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byKey, key)
}

// Len is the number of Secrets with a history.
func (s *Histories) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byKey)
}

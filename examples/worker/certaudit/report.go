package certaudit

import "time"

// Report is what Audit found. It says nothing that depends on the time of the
// audit except DaysLeft, which is not part of the JSON, and what changes at a
// crossing; so the reports of one Secret differ only if there is news.
type Report struct {
	// Severity grades the certificate by ExpiresAt; Invalid if there is none.
	Severity Severity `json:"severity"`
	// ExpiresAt is the earliest notAfter in the verified chain, or the leaf's
	// if no chain could be verified.
	ExpiresAt time.Time `json:"expiresAt,omitzero"`
	// DaysLeft is the number of whole days from the audit to ExpiresAt.
	DaysLeft int `json:"-"`

	// Subject, Issuer and Serial (hexadecimal) identify the leaf certificate.
	Subject string `json:"subject,omitempty"`
	Issuer  string `json:"issuer,omitempty"`
	Serial  string `json:"serial,omitempty"`
	// Fingerprint is the SHA-256 of the leaf's DER form in hexadecimal.
	Fingerprint string `json:"fingerprint,omitempty"`
	// DNSNames are the DNS names and IP addresses that the leaf is valid for,
	// the first 100 of them.
	DNSNames  []string  `json:"dnsNames,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
	// KeyAlgorithm is the leaf's, with its size: "ECDSA P-256", "RSA 2048".
	KeyAlgorithm string `json:"keyAlgorithm,omitempty"`
	// SignatureAlgorithm is how the leaf was signed: "ECDSA-SHA256".
	SignatureAlgorithm string `json:"signatureAlgorithm,omitempty"`

	// Chain is the verified chain from the leaf to the root, or the
	// certificates in the order of the Secret if none could be verified.
	Chain []Link `json:"chain,omitempty"`
	// Verified says that the leaf chains to a root that is in the Secret.
	Verified bool `json:"verified"`
	// Key says whether the private key belongs to the leaf.
	Key KeyState `json:"key"`
	// Problems are sentences for people, in a fixed order.
	Problems []string `json:"problems,omitempty"`
}

// Link is one certificate of a chain.
type Link struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"notAfter"`
}

// KeyState is the outcome of comparing the private key with the certificate.
type KeyState string

const (
	// KeyMatches means that the key's public half is the certificate's.
	KeyMatches KeyState = "matches"
	// KeyDiffers means that the key belongs to another certificate.
	KeyDiffers KeyState = "differs"
	// KeyAbsent means that the Secret has no key.
	KeyAbsent KeyState = "absent"
	// KeyUnreadable means that the key is of no form that is known here.
	KeyUnreadable KeyState = "unreadable"
	// KeyUnchecked means that there was no certificate to compare it with.
	KeyUnchecked KeyState = "unchecked"
)

// NextChange returns when an audit of the same bytes will come to another
// result; false if it never will.
func (r Report) NextChange(now time.Time) (time.Time, bool) {
	if r.Severity == Invalid {
		return time.Time{}, false
	}
	next, ok := NextCrossing(r.ExpiresAt, now)
	if now.Before(r.NotBefore) && (!ok || r.NotBefore.Before(next)) {
		return r.NotBefore, true
	}
	return next, ok
}

// Package certaudit audits the X.509 certificates in Secrets of type
// kubernetes.io/tls. It is the operator that the reference worker shards: small
// enough to read, and with real work per object.
//
// Audit is the core: a pure function of the bytes in a Secret and the time. It
// parses the chain, verifies it against the roots that are in the Secret itself,
// compares the key with the certificate and grades what is left of the validity.
// It accepts any bytes; what it cannot read is a problem in the report, never an
// error.
//
// Auditor is the shell around it, a reconciler of one Secret. It keeps a report
// per Secret in a ConfigMap that the Secret controls (a child, which lives on the
// shard of its Secret), and says in one Event per certificate and threshold that
// 30 days, 7 days, 1 day or nothing is left.
//
// Promises:
//
//   - A private key never leaves the Secret: it is decoded into memory that is
//     cleared again, only its public half is compared, and nothing derived from it
//     is logged, reported or put into an error.
//   - A report is written only if it differs from the one that is there, with the
//     resourceVersion that the decision was based on. A ConfigMap of the same name
//     that is not a report of this Secret is never touched.
//   - An Event is created once per Secret, certificate and threshold, whichever
//     shards audit the Secret and however often they are restarted. The history of
//     a Secret, its certificates and its Events, goes with it from shard to shard
//     (Auditor.State) and is written down when it changes.
//
// It does not promise that a certificate is good: it asks no revocation list and
// does not know which names the clients will ask for. The trust anchors are the
// roots found in the Secret, not those of the system.
package certaudit

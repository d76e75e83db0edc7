package certaudit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/shard-io/shard-controller/sharding"
)

const (
	ring  = "auditor"
	shard = "shard-001"
)

var webKey = types.NamespacedName{Namespace: "shop", Name: "web"}

// bench is an Auditor with caches that are filled by hand and a server that
// notes every write.
type bench struct {
	t       *testing.T
	client  *fake.Clientset
	secrets cache.Indexer
	reports cache.Indexer
	now     time.Time
	auditor *Auditor
}

func newBench(t *testing.T) *bench {
	b := &bench{
		t: t, client: fake.NewClientset(), now: now,
		secrets: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{}),
		reports: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{}),
	}
	b.restart()
	return b
}

// restart replaces the Auditor by one that remembers nothing.
func (b *bench) restart() {
	b.t.Helper()
	auditor, err := New(Options{
		Ring: ring, Shard: shard, Client: b.client, Now: func() time.Time { return b.now },
		Secrets: corelisters.NewSecretLister(b.secrets), Reports: corelisters.NewConfigMapLister(b.reports),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.auditor = auditor
}

// tlsSecret puts a Secret of this shard into the cache.
func (b *bench) tlsSecret(uid string, crt, key, ca []byte) *corev1.Secret {
	b.t.Helper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: webKey.Namespace, Name: webKey.Name, UID: types.UID(uid),
			Labels: map[string]string{sharding.OwnerLabel(ring): shard},
		},
		Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": crt, "tls.key": key, "ca.crt": ca},
	}
	if err := b.secrets.Add(secret); err != nil {
		b.t.Fatal(err)
	}
	return secret
}

// goodSecret expires 80 days from now.
func (b *bench) goodSecret() *corev1.Secret {
	w := newWorld(b.t, valid(-9, 900), valid(-9, 900), valid(-9, 80))
	return b.tlsSecret("uid-1", join(w.leaf, w.middle.PEM()), w.key, w.root.PEM())
}

// reconcile audits the Secret, brings the reports' cache up to date and returns
// what was written: "create configmaps", "create events", ...
func (b *bench) reconcile() (writes []string, after time.Duration, err error) {
	b.t.Helper()
	b.client.ClearActions()
	result, err := b.auditor.Reconcile(b.t.Context(), webKey)
	for _, action := range b.client.Actions() {
		if verb := action.GetVerb(); verb != "get" {
			writes = append(writes, verb+" "+action.GetResource().Resource)
		}
	}
	if report, getErr := b.client.CoreV1().ConfigMaps(webKey.Namespace).Get(b.t.Context(), "web-certaudit", metav1.GetOptions{}); getErr == nil {
		if err := b.reports.Update(report); err != nil {
			b.t.Fatal(err)
		}
	}
	return writes, result.RequeueAfter, err
}

func (b *bench) report() *corev1.ConfigMap {
	b.t.Helper()
	report, err := b.client.CoreV1().ConfigMaps(webKey.Namespace).Get(b.t.Context(), "web-certaudit", metav1.GetOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return report
}

func (b *bench) events() []eventsv1.Event {
	b.t.Helper()
	list, err := b.client.EventsV1().Events("").List(b.t.Context(), metav1.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	slices.SortFunc(list.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	return list.Items
}

// TestLifeOfACertificate goes through the life of one Secret; each step says what
// may be written, and "again" that a second look writes nothing.
func TestLifeOfACertificate(t *testing.T) {
	b := newBench(t)
	b.goodSecret()
	steps := []struct {
		name   string
		at     time.Time
		do     func()
		writes []string
		label  Severity
		after  time.Duration
	}{
		{name: "first seen", at: days(0), writes: []string{"create configmaps"}, label: OK, after: Day},
		{name: "a day before the first threshold", at: days(49), label: OK, after: Day},
		{name: "an hour before", at: days(50).Add(-time.Hour), label: OK, after: time.Hour},
		{name: "30 days left", at: days(50), writes: []string{"create events", "update configmaps"}, label: Notice, after: Day},
		{name: "another process", at: days(51), do: b.restart, label: Notice, after: Day},
		{name: "7 days left", at: days(73), writes: []string{"create events", "update configmaps"}, label: Warning, after: Day},
		{name: "half a day too late for 1 day", at: days(79).Add(12 * time.Hour), writes: []string{"create events", "update configmaps"},
			label: Critical, after: 12*time.Hour + 1},
		{name: "expired", at: days(80).Add(1), writes: []string{"create events", "update configmaps"}, label: Expired},
		{name: "replaced", at: days(81), label: OK, after: Day, writes: []string{"update configmaps"}, do: func() {
			w := newWorld(t, valid(80, 900), valid(80, 900), valid(80, 170))
			b.tlsSecret("uid-1", join(w.leaf, w.middle.PEM()), w.key, w.root.PEM())
		}},
		{name: "garbage", at: days(82), label: Invalid, writes: []string{"create events", "update configmaps"}, do: func() {
			b.tlsSecret("uid-1", []byte("garbage"), nil, nil)
		}},
	}
	for _, step := range steps {
		b.now = step.at
		if step.do != nil {
			step.do()
		}
		writes, after, err := b.reconcile()
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if diff := cmp.Diff(step.writes, writes); diff != "" {
			t.Errorf("%s: writes (-want +got):\n%s", step.name, diff)
		}
		if got := Severity(b.report().Labels[SeverityLabel]); got != step.label || after != step.after {
			t.Errorf("%s: %s, again in %v, want %s, %v", step.name, got, after, step.label, step.after)
		}
		if writes, _, err := b.reconcile(); err != nil || len(writes) > 0 {
			t.Errorf("%s, again: writes %v, error %v, want none", step.name, writes, err)
		}
	}
	var reasons []string
	for _, e := range b.events() {
		reasons = append(reasons, e.Type+" "+e.Reason)
	}
	want := []string{
		"Normal CertificateExpiresInAMonth", "Warning CertificateExpiresInAWeek", "Warning CertificateExpiresInADay",
		"Warning CertificateExpired", "Warning CertificateInvalid",
	}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if h, _ := b.auditor.Histories().Get(webKey.String()); len(h.Rotations) != 2 {
		t.Errorf("the history has %d certificates, want 2: %+v", len(h.Rotations), h)
	}
}

func TestReportIsAChild(t *testing.T) {
	b := newBench(t)
	secret := b.goodSecret()
	if _, _, err := b.reconcile(); err != nil {
		t.Fatal(err)
	}
	report := b.report()
	if owner, _ := sharding.OwnerOf(report, ring); owner != shard {
		t.Errorf("the report's owner is %q from its creation, want %q", owner, shard)
	}
	if !metav1.IsControlledBy(report, secret) {
		t.Errorf("the Secret does not control its report: %+v", report.OwnerReferences)
	}
	var content Report
	if err := json.Unmarshal([]byte(report.Data[ReportKey]), &content); err != nil {
		t.Fatal(err)
	}
	want := Audit(Bundle{Certificate: secret.Data["tls.crt"], Key: secret.Data["tls.key"], CA: secret.Data["ca.crt"]}, now)
	want.DaysLeft = 0 // not written: it would be stale the next day
	if diff := cmp.Diff(want, content); diff != "" {
		t.Errorf("the report's content (-want +got):\n%s", diff)
	}
	if !content.Verified || content.Key != KeyMatches {
		t.Errorf("verified %t, key %s, want true, %s", content.Verified, content.Key, KeyMatches)
	}
}

func TestEventsHaveWhatTheServerDemands(t *testing.T) {
	b := newBench(t)
	secret := b.tlsSecret("uid-1", []byte(strings.Repeat("garbage\n", 500)), nil, nil)
	if _, _, err := b.reconcile(); err != nil {
		t.Fatal(err)
	}
	events := b.events()
	if len(events) != 1 {
		t.Fatalf("%d events, want 1", len(events))
	}
	e := events[0]
	if !e.EventTime.Time.Equal(now) || e.Action == "" || e.ReportingController == "" || e.ReportingInstance != shard || len(e.Note) > 1024 {
		t.Errorf("the server would refuse or nobody could use %+v", e)
	}
	want := corev1.ObjectReference{APIVersion: "v1", Kind: "Secret", Namespace: "shop", Name: "web", UID: secret.UID}
	if diff := cmp.Diff(want, e.Regarding); diff != "" {
		t.Errorf("regarding (-want +got):\n%s", diff)
	}
}

func TestAnEventIsCreatedOnceAlsoIfTheReportCannotBeWritten(t *testing.T) {
	b := newBench(t)
	b.tlsSecret("uid-1", []byte("garbage"), nil, nil)
	broken := true
	b.client.PrependReactor("create", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
		return broken, nil, errors.New("the server is out of order")
	})
	if _, _, err := b.reconcile(); err == nil {
		t.Fatal("no error although the report was not written")
	}
	broken = false
	b.restart()
	b.now = now.Add(time.Minute)
	if _, _, err := b.reconcile(); err != nil {
		t.Fatal(err)
	}
	if n := len(b.events()); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	b.report()
}

// TestNothingIsSaidTwice moves a Secret to another process after its Event has expired and its report was deleted.
func TestNothingIsSaidTwice(t *testing.T) {
	b := newBench(t)
	b.goodSecret()
	b.now = days(60)
	if _, _, err := b.reconcile(); err != nil || len(b.events()) != 1 {
		t.Fatalf("error %v, %d Events, want none, 1", err, len(b.events()))
	}
	exported, err := b.auditor.State().Exporter.Export(t.Context(), webKey)
	if err != nil {
		t.Fatal(err)
	}
	forgetAll := func() {
		report := b.report()
		if err := b.client.EventsV1().Events("shop").Delete(t.Context(), b.events()[0].Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := b.client.CoreV1().ConfigMaps("shop").Delete(t.Context(), report.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := b.reports.Delete(report); err != nil {
			t.Fatal(err)
		}
		b.restart()
	}
	forgetAll()
	if err := b.auditor.State().Importer.Import(t.Context(), webKey, sharding.State{Version: 1, Data: exported}); err != nil {
		t.Fatal(err)
	}
	if writes, _, err := b.reconcile(); err != nil || !slices.Equal(writes, []string{"create configmaps"}) {
		t.Errorf("with the history: writes %v, error %v, want the report alone", writes, err)
	}
	b.restart()
	b.now = days(73) // without a history, but with the report: the Event before this one is remembered
	if _, _, err := b.reconcile(); err != nil {
		t.Fatal(err)
	}
	if h, _ := b.auditor.Histories().Get(webKey.String()); len(h.Alerts) != 2 {
		t.Errorf("the history has %d Events, want 2: %+v", len(h.Alerts), h.Alerts)
	}
	forgetAll()
	if writes, _, err := b.reconcile(); err != nil || !slices.Contains(writes, "create events") {
		t.Errorf("without anything: writes %v, error %v, want an Event", writes, err)
	}
}

func TestUpdatesCarryTheResourceVersion(t *testing.T) {
	b := newBench(t)
	b.goodSecret()
	if _, _, err := b.reconcile(); err != nil {
		t.Fatal(err)
	}
	cached := b.report()
	cached.ResourceVersion = "4711"
	if err := b.reports.Update(cached); err != nil {
		t.Fatal(err)
	}
	var got string
	b.client.PrependReactor("update", "configmaps", func(action clienttesting.Action) (bool, runtime.Object, error) {
		got = action.(clienttesting.UpdateAction).GetObject().(*corev1.ConfigMap).ResourceVersion
		return true, nil, apierrors.NewConflict(corev1.Resource("configmaps"), "web-certaudit", errors.New("overtaken"))
	})
	b.now = days(60)
	if _, _, err := b.reconcile(); !apierrors.IsConflict(err) {
		t.Errorf("error = %v, want the conflict, to be tried again", err)
	}
	if got != "4711" {
		t.Errorf("the update was conditional on resourceVersion %q, want that of the cache, 4711", got)
	}
}

// TestConfigMapsThatAreThere tries every kind of ConfigMap that can already have
// the report's name, on the server and perhaps in the cache.
func TestConfigMapsThatAreThere(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "uid-1"}}
	ours := func(change func(*corev1.ConfigMap)) *corev1.ConfigMap {
		c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Name: "web-certaudit", Namespace: "shop", Labels: map[string]string{"keep": "me", sharding.OwnerLabel(ring): shard},
		}}
		if err := apply(c, secret, Report{Severity: Expired}); err != nil {
			t.Fatal(err)
		}
		change(c)
		return c
	}
	tests := []struct {
		name     string
		have     *corev1.ConfigMap
		cached   bool
		updated  bool
		terminal bool
		err      string
	}{
		{name: "a report", have: ours(func(*corev1.ConfigMap) {}), cached: true, updated: true},
		{name: "a report that the cache has not seen", have: ours(func(*corev1.ConfigMap) {}), updated: true},
		{name: "a report on a former Secret of that name", cached: true, updated: true,
			have: ours(func(c *corev1.ConfigMap) { c.OwnerReferences[0].UID = "uid-0" })},
		{name: "a report that is still with another shard", err: "still with shard shard-002",
			have: ours(func(c *corev1.ConfigMap) { c.Labels[sharding.OwnerLabel(ring)] = "shard-002" })},
		{name: "somebody's own ConfigMap", err: "left alone", terminal: true,
			have: ours(func(c *corev1.ConfigMap) { c.OwnerReferences, c.Labels = nil, nil })},
		{name: "somebody's own, in the cache", err: "left alone", terminal: true, cached: true,
			have: ours(func(c *corev1.ConfigMap) { c.OwnerReferences = nil })},
		{name: "controlled by something else", err: "left alone", terminal: true, cached: true,
			have: ours(func(c *corev1.ConfigMap) { c.OwnerReferences[0].Kind = "Widget" })},
		{name: "controlled by the Secret, and no report", err: "left alone", terminal: true,
			have: ours(func(c *corev1.ConfigMap) { delete(c.Labels, SeverityLabel) })},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			b.goodSecret()
			if err := b.client.Tracker().Add(tc.have); err != nil {
				t.Fatal(err)
			}
			if tc.cached {
				if err := b.reports.Add(tc.have); err != nil {
					t.Fatal(err)
				}
			}
			writes, _, err := b.reconcile()
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error = %v, want one with %q", err, tc.err)
			}
			if got := isTerminal(err); got != tc.terminal {
				t.Errorf("terminal = %t, want %t", got, tc.terminal)
			}
			after := b.report()
			if updated := !cmp.Equal(after, tc.have); updated != tc.updated || slices.Contains(writes, "delete configmaps") {
				t.Errorf("updated = %t, want %t; writes %v", updated, tc.updated, writes)
			}
			if tc.updated && (after.Labels["keep"] != "me" || after.OwnerReferences[0].UID != "uid-1" || len(after.OwnerReferences) != 1) {
				t.Errorf("after the update: %+v", after.ObjectMeta)
			}
		})
	}
}

// isTerminal reports whether the worker would not try again.
func isTerminal(err error) bool {
	return err != nil && fmt.Sprintf("%T", err) == fmt.Sprintf("%T", sharding.TerminalError(errors.New("x")))
}

func TestErrorsOfTheServer(t *testing.T) {
	terminating := apierrors.NewForbidden(corev1.Resource("configmaps"), "x", errors.New("terminating"))
	terminating.ErrStatus.Details.Causes = append(terminating.ErrStatus.Details.Causes, metav1.StatusCause{Type: corev1.NamespaceTerminatingCause})
	tests := []struct {
		name     string
		err      error
		terminal bool
	}{
		{"no longer a namespace", terminating, true},
		{"refused", apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("ConfigMap").GroupKind(), "x", nil), true},
		{"too large", apierrors.NewRequestEntityTooLargeError("3 MiB"), true},
		{"no permission, which may come", apierrors.NewForbidden(corev1.Resource("configmaps"), "x", nil), false},
		{"busy", apierrors.NewTooManyRequests("later", 1), false},
		{"fenced", context.Canceled, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			b.goodSecret()
			b.client.PrependReactor("create", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, tc.err })
			_, _, err := b.reconcile()
			if !errors.Is(err, tc.err) || isTerminal(err) != tc.terminal {
				t.Errorf("error %v, terminal %t, want %v, %t", err, isTerminal(err), tc.err, tc.terminal)
			}
		})
	}
}

func TestWhatIsNotAudited(t *testing.T) {
	b := newBench(t)
	if writes, after, err := b.reconcile(); err != nil || len(writes) > 0 || after != 0 {
		t.Errorf("no Secret: writes %v, after %v, error %v", writes, after, err)
	}
	secret := b.goodSecret()
	secret.Type = corev1.SecretTypeOpaque
	if writes, after, err := b.reconcile(); err != nil || len(writes) > 0 || after != 0 {
		t.Errorf("another type: writes %v, after %v, error %v", writes, after, err)
	}
	secret.Type = corev1.SecretTypeTLS
	secret.DeletionTimestamp = &metav1.Time{Time: now}
	if writes, after, err := b.reconcile(); err != nil || len(writes) > 0 || after != 0 {
		t.Errorf("being deleted: writes %v, after %v, error %v", writes, after, err)
	}
	secret.DeletionTimestamp = nil
	if _, _, err := b.reconcile(); err != nil || b.auditor.Histories().Len() != 1 {
		t.Fatalf("error %v, %d histories, want none, 1", err, b.auditor.Histories().Len())
	}
	if err := b.secrets.Delete(secret); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.reconcile(); err != nil || b.auditor.Histories().Len() != 0 {
		t.Errorf("after deletion: error %v, %d histories, want none, 0", err, b.auditor.Histories().Len())
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	b := newBench(t)
	full := b.auditor.options
	tests := map[string]func(*Options){
		"Ring":    func(o *Options) { o.Ring = "" },
		"Shard":   func(o *Options) { o.Shard = "" },
		"Client":  func(o *Options) { o.Client = nil },
		"Secrets": func(o *Options) { o.Secrets = nil },
		"Reports": func(o *Options) { o.Reports = nil },
	}
	for field, clear := range tests {
		o := full
		clear(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("without %s: %v, want an error that names it", field, err)
		}
	}
	full.Now = nil
	if a, err := New(full); err != nil || a.options.Now == nil {
		t.Errorf("the zero Now: %v, want the default", err)
	}
}

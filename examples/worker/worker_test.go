package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/shard-io/shard-controller/examples/internal/journal"
	"github.com/shard-io/shard-controller/health"
	"github.com/shard-io/shard-controller/sharding"
)

func parse(t *testing.T, args ...string) *options {
	t.Helper()
	var o options
	set := flag.NewFlagSet("worker", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	o.register(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &o
}

func TestFlags(t *testing.T) {
	const least = "--ring=auditor --namespace=shop --id=shard-001 "
	tests := []struct{ name, args, err string }{
		{"the least", least, ""},
		{"all", least + "--weight=3 --concurrency=9 --keep-on-stop --stop-timeout=1m --journal=j --audit-time=1s", ""},
		{"no ring", "--namespace=shop --id=shard-001", "--ring"},
		{"a ring that is no label", least + "--ring=Auditor", "--ring"},
		{"no namespace", "--ring=auditor --id=shard-001", "--namespace"},
		{"no identity", "--ring=auditor --namespace=shop", "--id"},
		{"no weight", least + "--weight=0", "--weight: 0"},
		{"a weight beyond all", least + "--weight=1001", "--weight: 1001"},
		{"nothing at once", least + "--concurrency=0", "--concurrency: 0"},
		{"audits without end", least + "--audit-time=61s", "--audit-time: 1m1s"},
		{"no time to stop", least + "--stop-timeout=0", "--stop-timeout: 0s"},
	}
	t.Setenv("POD_NAMESPACE", "")
	t.Setenv("POD_NAME", "")
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			err := parse(t, strings.Fields(tc.args)...).validate()
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
		})
	}
	t.Setenv("POD_NAMESPACE", "shop")
	t.Setenv("POD_NAME", "shard-001")
	if o := parse(t, "--ring=auditor"); o.Namespace != "shop" || o.ID != "shard-001" || o.validate() != nil {
		t.Errorf("from the Pod: namespace %q, id %q, error %v", o.Namespace, o.ID, o.validate())
	}
}

// TestProlonged: the wait is part of the reconcile, and ends with the right to act.
func TestProlonged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls int
		reconcile := prolonged(time.Second, func(context.Context, types.NamespacedName) (sharding.Result, error) {
			calls++
			return sharding.Result{RequeueAfter: time.Hour}, nil
		})
		begin := time.Now()
		result, err := reconcile(t.Context(), types.NamespacedName{})
		if took := time.Since(begin); took != time.Second || calls != 1 || err != nil || result.RequeueAfter != time.Hour {
			t.Errorf("took %v, %d calls, %+v, %v", took, calls, result, err)
		}
		lost := errors.New("lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(100*time.Millisecond, func() { cancel(lost) })
		begin = time.Now()
		if _, err := reconcile(ctx, types.NamespacedName{}); !errors.Is(err, lost) || calls != 1 || time.Since(begin) != 100*time.Millisecond {
			t.Errorf("after the right was lost: %v, %d calls, %v", err, calls, time.Since(begin))
		}
	})
}

// TestWitnessed reconciles once in each way a reconcile can end, and reads what
// the journal says about it.
func TestWitnessed(t *testing.T) {
	secrets := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	err := secrets.Add(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "web", UID: "uid-1", Annotations: map[string]string{sharding.EpochAnnotation("auditor"): "7"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	failed := errors.New("failed")
	tests := []struct {
		name   string
		object string
		cause  error // of the end of the context; nil: it does not end
		idle   bool  // not active any more
		err    error
		want   []journal.Record
	}{
		{name: "success", object: "web", want: []journal.Record{{Event: journal.Start}, {Event: journal.Act, What: "PUT /x"}, {Event: journal.End}}},
		{name: "an error", object: "web", err: failed, want: []journal.Record{{Event: journal.Start}, {Event: journal.Act, What: "PUT /x"}, {Event: journal.End}}},
		{name: "fenced", object: "web", cause: health.ErrFenced, want: []journal.Record{{Event: journal.Start}, {Event: journal.Act, What: "PUT /x"}, {Event: journal.Fenced}}},
		{name: "cancelled for a hand-over", object: "web", cause: context.Canceled, want: []journal.Record{{Event: journal.Start}, {Event: journal.Act, What: "PUT /x"}, {Event: journal.End}}},
		{name: "just woken up", object: "web", idle: true, want: []journal.Record{{Event: journal.Start}, {Event: journal.Act, What: "PUT /x"}, {Event: journal.Fenced}}},
		{name: "deleted", object: "gone", want: []journal.Record{{Event: journal.Start}, {Event: journal.Act, What: "PUT /x"}, {Event: journal.End}}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal")
			w, err := journal.Open(path, "shard-001")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			reconcile := witnessed(w, corelisters.NewSecretLister(secrets), "auditor", func() bool { return !tc.idle },
				func(ctx context.Context, key types.NamespacedName) (sharding.Result, error) {
					if err := journal.FromContext(ctx).Act("PUT /x"); err != nil {
						t.Error(err)
					}
					if tc.cause != nil {
						cancel(tc.cause)
					}
					return sharding.Result{RequeueAfter: 3}, tc.err
				})
			result, err := reconcile(ctx, types.NamespacedName{Namespace: "shop", Name: tc.object})
			if err != tc.err || result.RequeueAfter != 3 {
				t.Errorf("result %v, error %v, want those of the auditor", result, err)
			}
			got, err := journal.ReadFiles(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := range tc.want {
				tc.want[i].Shard, tc.want[i].Run, tc.want[i].Key = "shard-001", 1, "/Secret/shop/"+tc.object
				if tc.object == "web" {
					tc.want[i].UID, tc.want[i].Epoch = "uid-1", 7
				}
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreFields(journal.Record{}, "Time", "Process")); diff != "" {
				t.Errorf("journal (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoWorkWithoutAWitness(t *testing.T) {
	w, err := journal.Open(filepath.Join(t.TempDir(), "journal"), "shard-001")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil { // as a full disk would
		t.Fatal(err)
	}
	secrets := corelisters.NewSecretLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{}))
	reconcile := witnessed(w, secrets, "auditor", func() bool { return true },
		func(context.Context, types.NamespacedName) (sharding.Result, error) {
			t.Error("it was reconciled")
			return sharding.Result{}, nil
		})
	if _, err := reconcile(t.Context(), types.NamespacedName{Namespace: "shop", Name: "web"}); err == nil {
		t.Error("no error")
	}
}

func TestCachesKeepLittle(t *testing.T) {
	fields := []metav1.ManagedFieldsEntry{{Manager: "somebody"}}
	data := map[string][]byte{"tls.crt": []byte("x")}
	tls := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{ManagedFields: fields}, Type: corev1.SecretTypeTLS, Data: data}
	opaque := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{ManagedFields: fields, Name: "o"}, Type: corev1.SecretTypeOpaque, Data: data}
	for _, secret := range []*corev1.Secret{tls, opaque} {
		if _, err := slim(secret); err != nil {
			t.Fatal(err)
		}
	}
	if tls.ManagedFields != nil || len(tls.Data) != 1 {
		t.Errorf("of a TLS Secret are kept: %d managed fields, %d entries, want 0, 1", len(tls.ManagedFields), len(tls.Data))
	}
	if opaque.ManagedFields != nil || opaque.Data != nil || opaque.Name != "o" {
		t.Errorf("of another Secret is kept: %+v, want its name alone", opaque)
	}
	gone := cache.DeletedFinalStateUnknown{Key: "shop/web"}
	if got, err := slim(gone); err != nil || got != gone {
		t.Errorf("something without metadata: %v, %v, want it unchanged", got, err)
	}
}

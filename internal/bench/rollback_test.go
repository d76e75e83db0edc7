//go:build unix

package main

import (
	"context"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"

	"github.com/shard-io/shard-controller/sharding"
)

// The target can't import the states of some objects, and can't reconcile some others. These go back, with the states that they had; the others move.
func TestObjectsThatTheTargetCannotTakeGoBack(t *testing.T) {
	const objects = 30
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	p := processes(ctx, t, objects, func(p *pair) { p.flags = map[string][]string{"w-2": {"--refuse=5", "--fail=7"}} })
	m, err := p.migrate(ctx, objects)
	if m.status.Phase != "Failed" || m.status.Reason != "NotAllMoved" {
		t.Fatalf("the migration is %s (%s), want Failed (NotAllMoved): %v", m.status.Phase, m.status.Reason, err)
	}
	// secret-00000, 7, 14, … can't be reconciled, 0, 5, 10, … can't even be imported.
	refused := func(i int) bool { return i%5 == 0 }
	failed := func(i int) bool { return i%7 == 0 && !refused(i) }
	want, back := map[string]string{}, int64(0)
	for i := range objects {
		want[secretName(i)] = "w-2"
		if refused(i) || failed(i) {
			want[secretName(i)] = "w-1"
			back++
		}
	}
	if n := m.status.Objects; n.Moved != objects-back || n.Failed != back {
		t.Errorf("%+v, want %d moved and %d failed", n, objects-back, back)
	}
	if len(m.status.Failures) == 0 || m.status.LastError == "" {
		t.Errorf("the status does not say what failed: %+v", m.status)
	}
	for name, owner := range owners(ctx, t, p.meta, p) {
		if owner != want[name] {
			t.Errorf("%s is at %q, want %q", name, owner, want[name])
		}
	}
	// What was refused has been imported once, by the source, as it was exported; what failed once by each.
	err = until(ctx, func() (bool, error) {
		notes, err := readJournal(p.journals["w-1"])
		return len(taken(notes)) == int(back), err
	})
	if err != nil {
		t.Fatal(err)
	}
	hops := map[string][]int{}
	for _, id := range []string{"w-2", "w-1"} {
		notes, err := readJournal(p.journals[id])
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range taken(notes) {
			hops[n.name] = append(hops[n.name], n.hops)
		}
	}
	for i := range objects {
		wanted := []int{1}
		if failed(i) {
			wanted = []int{1, 2}
		}
		if got := hops[secretName(i)]; !slices.Equal(got, wanted) {
			t.Errorf("%s: hops of the states that were imported: %v, want %v", secretName(i), got, wanted)
		}
	}
}

// taken are the imports among notes.
func taken(notes []note) []note {
	return slices.DeleteFunc(notes, func(n note) bool { return n.what != "taken" })
}

func owners(ctx context.Context, t *testing.T, client metadata.Interface, p *pair) map[string]string {
	t.Helper()
	list, err := client.Resource(secrets).Namespace(p.objects).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owners := map[string]string{}
	for i := range list.Items {
		owners[list.Items[i].Name], _ = sharding.OwnerOf(&list.Items[i], p.ring)
	}
	return owners
}

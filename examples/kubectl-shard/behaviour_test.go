package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/shard-io/shard-controller/sharding"
)

// A quiet ring: everything is as it should be, and every command says so.
func TestQuietRing(t *testing.T) {
	inMemory(t, func(w *world) {
		w.busy(60, "w-1", "w-2", "w-3")
		w.settle(10 * time.Minute) // until the manager's audit has been round
		w.expect(0, "status", "r      sys", "3/3", "w-1     Running", "v1")
		w.expect(0, "status -A -ojson")
		w.expect(0, "ring", "65536 slots", "33.33%")
		w.expect(0, "owner secrets/ns/tls-001", "secrets/ns/tls-001", "configmaps/ns/tls-001-child")
		w.expect(0, "owner cm tls-001-child -n ns", "configmaps/ns/tls-001-child", "secrets/ns/tls-001")
		w.expect(0, "explain secret/tls-001 --namespace=ns", "/Secret/ns/tls-001", "It is where it belongs.")
		w.expect(0, "rebalance --dry-run", "0 of 60 objects to move")
		w.expect(0, "verify", "60 objects and 60 children on 3 live shards, 0 in hand-over: all well", "Covered=True")
	})
}

func TestReportsForPrograms(t *testing.T) {
	inMemory(t, func(w *world) {
		w.busy(10, "w-1", "w-2")
		w.settle(10 * time.Minute)
		var status statusReport
		if r := w.expect(0, "status -o json"); json.Unmarshal([]byte(r.out), &status) != nil || len(status.Rings) != 1 || len(status.Rings[0].Members) != 2 {
			t.Errorf("%+v", status)
		}
		var verified verifyReport
		if r := w.expect(0, "verify --output=json"); json.Unmarshal([]byte(r.out), &verified) != nil || verified.Objects != 10 || verified.Children != 10 || len(verified.Live) != 2 {
			t.Errorf("%+v", verified)
		}
		w.expect(0, "owner secrets/ns/tls-001 -oyaml", "epoch: 1", "object: secrets/ns/tls-001", "children:")
		w.expect(0, "ring -o yaml", "slots: 65536", "fair: 0.5")
		w.expect(0, "cordon w-1 -o json", `"result": "cordoned"`)
	})
}

func TestPictureOfTheRing(t *testing.T) {
	inMemory(t, func(w *world) {
		w.busy(1, "w-1", "w-2")
		path := filepath.Join(t.TempDir(), "ring.svg")
		w.expect(0, "ring --svg "+path, "w-2")
		data, err := os.ReadFile(path)
		if err != nil || xml.Unmarshal(data, new(any)) != nil || !strings.Contains(string(data), "w-2") {
			t.Errorf("%v\n%s", err, data)
		}
		if r := w.expect(0, "ring --svg -"); r.out != string(data) {
			t.Errorf("another picture: %s", r.out)
		}
		w.expect(2, "ring --svg "+t.TempDir(), "--svg")
	})
}

// count is how many roots have the label of a shard.
func (w *world) count(shard string) int {
	return len(w.server.List(secrets, "", sharding.ShardSelector("r", shard)))
}

func TestCordonDrainUncordon(t *testing.T) {
	inMemory(t, func(w *world) {
		w.busy(60, "w-1", "w-2", "w-3")
		w.expect(0, "cordon w-1", "shard/w-1 cordoned")
		w.expect(0, "cordon w-1", "shard/w-1 already cordoned")
		w.settle(time.Second) // until the manager has seen it
		had := w.count("w-1")
		w.root("late-1")
		w.root("late-2")
		w.root("late-3")
		w.settle(5 * time.Second)
		if w.count("w-1") != had || had == 0 {
			t.Errorf("%d objects while cordoned, had %d", w.count("w-1"), had)
		}
		w.expect(0, "drain w-1 --wait", "shard/w-1 drained")
		if w.count("w-1") != 0 {
			t.Errorf("%d objects after the drain", w.count("w-1"))
		}
		w.expect(0, "drain w-1", "shard/w-1 already draining")
		w.expect(0, "uncordon w-1", "shard/w-1 uncordoned")
		w.settle(20 * time.Second)
		if w.count("w-1") == 0 {
			t.Error("nothing after uncordon")
		}
		w.expect(0, "drain w-2 --wait", "drained")
		w.expect(0, "cordon w-3")
		w.settle(5 * time.Second)
		w.expect(1, "drain w-1 --wait", "no other shard may receive them")
		w.expect(2, "drain w-9", `has no shard "w-9"`, "w-1 w-2 w-3")
		w.expect(2, "drain w-1 --wait --timeout=-1s", "--timeout")
	})
}

// A drain goes on although nobody waits for it, and a shard that its own process drains is not put back.
func TestDrainThatIsNotFinished(t *testing.T) {
	inMemory(t, func(w *world) {
		kill := w.busy(20, "w-1", "w-2")
		kill["manager"]()
		w.expect(1, "drain w-1 --wait --timeout=30s", "the drain goes on", "the time is over")
		ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
		defer cancel()
		if r := w.runFor(ctx, "drain", "w-1", "--wait"); r.code != 1 {
			t.Errorf("interrupted: %+v", r)
		}
		w.server.Client("w-1").StallWatches(time.Second) // else it says at once that it does not leave, which takes the drain back
		w.edit(shardsOf, "sys", "w-1", func(o *unstructured.Unstructured) { o.SetAnnotations(map[string]string{leavingAnnotation: "true"}) })
		w.expect(1, "uncordon w-1", "is leaving")
		w.edit(shardsOf, "sys", "w-1", func(o *unstructured.Unstructured) { o.SetAnnotations(nil) })
		w.manager("m-2")
		w.settle(2 * time.Minute)
		if w.count("w-1") != 0 {
			t.Error("the drain did not go on")
		}
	})
}

func TestMigrate(t *testing.T) {
	inMemory(t, func(w *world) {
		w.busy(60, "w-1", "w-2")
		had := w.count("w-1")
		w.expect(0, "migrate --from w-1 --to w-2 --dry-run --count 3", "3 objects would move from w-1 to w-2", "secrets/ns/tls-0")
		for _, o := range w.server.List(migrations, "", labels.Everything()) {
			if reason, _, _ := unstructured.NestedString(o.Object, "spec", "reason"); reason == "Manual" {
				t.Errorf("%s is left of the dry run", o.GetName())
			}
		}
		w.expect(0, "migrate --from w-1 --to w-2 --count 3 --wait --rate 100 --max-in-flight 5 --deadline 10m --name first", "first", "Succeeded", "   3       3 ")
		if w.count("w-1") != had-3 {
			t.Errorf("%d objects, want %d", w.count("w-1"), had-3)
		}
		moved := ""
		for _, o := range w.server.List(secrets, "", labels.Everything()) {
			if o.GetLabels()[sharding.PinLabel("r")] == "w-2" {
				moved = o.GetName()
			}
		}
		w.expect(0, "explain secrets/ns/"+moved, "moved last by first: w-1 to w-2, Succeeded", "pinned")
		w.expect(0, "owner secrets/ns/"+moved, "first")
		w.expect(0, "migrate --from w-2 --to w-1 --wait secrets/ns/"+moved, "Succeeded")
		w.expect(1, "migrate --from w-2 --to w-1 --wait secret/ns/"+moved, "Failed", "ObjectsNotAtSource")
		w.expect(1, "migrate --from w-2 --to w-1 --wait -l tier=gold", "NothingSelected")
		w.label(secrets, moved, "tier", "gold")
		w.expect(0, "migrate --from w-1 --to w-2 -l tier=gold", "created")
		w.settle(time.Minute)
		if owner := w.server.Get(secrets, "ns", moved).GetLabels()[sharding.OwnerLabel("r")]; owner != "w-2" {
			t.Errorf("%s is on %s", moved, owner)
		}
	})
}

func TestMigrationThatNobodyCarriesOut(t *testing.T) {
	inMemory(t, func(w *world) {
		kill := w.busy(10, "w-1", "w-2")
		kill["manager"]()
		w.expect(1, "migrate --from w-1 --to w-2 --wait --timeout 20s", "goes on, in phase Pending")
		if r := w.run("status"); !strings.Contains(r.out, "w-1      w-2      Pending") {
			t.Errorf("the migration is missing in\n%s", r.out)
		}
	})
}

// What a manager that is away leaves undone is seen.
func TestRebalanceWithoutAManager(t *testing.T) {
	inMemory(t, func(w *world) {
		kill := w.busy(40, "w-1", "w-2")
		kill["manager"]()
		w.edit(shardsOf, "sys", "w-2", func(o *unstructured.Unstructured) {
			_ = unstructured.SetNestedField(o.Object, true, "spec", "draining")
		})
		r := w.expect(1, "rebalance --dry-run -ojson")
		var report rebalanceReport
		if err := json.Unmarshal([]byte(r.out), &report); err != nil {
			t.Fatal(err)
		}
		if want := int64(w.count("w-2")); len(report.Moves) != 1 || report.Moves[0] != (move{"w-2", "w-1", want}) || len(report.SlotMoves) != 1 {
			t.Errorf("%+v, want %d from w-2", report, want)
		}
		w.expect(2, "rebalance", "only --dry-run")
	})
}

package crd_test

import (
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/shard-io/shard-controller/apis/shard/v1"
)

const migrationFile = "shardmigration.yaml"

var refusedMigrations = []refusal{
	{`ring: null`, "spec.ring: Required value"},
	{`ring: ""`, "spec.ring: Invalid value: \"\""},
	{`ring: not a name`, "spec.ring: Invalid value: \"not a name\""},
	{`ring: ` + long(64), "spec.ring: Too long"},
	{`source: null`, "spec.source: Invalid value: source is required"},
	{`source: ""`, "spec.source: Invalid value: \"\""},
	{`source: Shard_1`, "spec.source: Invalid value: \"Shard_1\""},
	{`source: ` + long(64), "spec.source: Too long"},
	{`source: shard-002`, "spec.target: Invalid value: target must be another shard than source"},
	{`{source: shard-002, reason: Rebalance}`, "target must be another shard than source"},
	{`target: null`, "spec.target: Invalid value: target is required"},
	{`target: ""`, "spec.target: Invalid value: \"\""},
	{`target: a.b`, "spec.target: Invalid value: \"a.b\""},
	{`target: ` + long(64), "spec.target: Too long"},
	{`reason: Whim`, "spec.reason: Unsupported value: \"Whim\""},
	{`reason: ""`, "spec.reason: Unsupported value: \"\""},
	{`deadline: tomorrow`, "spec.deadline: Invalid value: \"tomorrow\""},
	{`deadline: 17`, "spec.deadline: Invalid value: \"int64\""},
	{`maxInFlight: 0`, "spec.maxInFlight: Invalid value: 0"},
	{`maxInFlight: 10001`, "spec.maxInFlight: Invalid value: 10001"},
	{`objectsPerSecond: 0`, "spec.objectsPerSecond: Invalid value: 0"},
	{`objectsPerSecond: 100001`, "spec.objectsPerSecond: Invalid value: 100001"},
	{`dryRun: "yes"`, "spec.dryRun: Invalid value: \"string\""},
	{`dryrun: true`, "unknown field \"spec.dryrun\""},
	{`selection: {}`, "spec.selection: Invalid value: must say which objects"},
	{`selection: {all: false}`, "spec.selection: Invalid value: must say which objects"},
	{`selection: {all: true, count: 1}`, "spec.selection.all: Invalid value: all can't be combined with anything else"},
	{`selection: {all: true, hashRanges: [{start: 0, end: 1}]}`, "all can't be combined with anything else"},
	{`selection: {all: true, labelSelector: {}}`, "all can't be combined with anything else"},
	{`selection: {all: true, objects: [{name: a}]}`, "all can't be combined with anything else"},
	{`selection: {objects: [{name: a}], count: 1}`, "spec.selection.objects: Invalid value: objects can't be combined with anything else"},
	{`selection: {objects: [{name: a}], labelSelector: {}}`, "objects can't be combined with anything else"},
	{`selection: {objects: []}`, "spec.selection.objects: Invalid value: 0"},
	{`selection: {objects: ` + items(1001, "{name: a}") + `}`, "spec.selection.objects: Too many"},
	{`selection: {objects: [{namespace: ns}]}`, "spec.selection.objects[0].name: Required value"},
	{`selection: {objects: [{name: ""}]}`, "spec.selection.objects[0].name: Invalid value: \"\""},
	{`selection: {objects: [{name: ` + long(254) + `}]}`, "spec.selection.objects[0].name: Too long"},
	{`selection: {objects: [{name: a, namespace: A}]}`, "spec.selection.objects[0].namespace: Invalid value: \"A\""},
	{`selection: {objects: [{name: a, namespace: ` + long(64) + `}]}`, "spec.selection.objects[0].namespace: Too long"},
	{`selection: {objects: [{name: a, resource: Secret}]}`, "spec.selection.objects[0].resource: Invalid value: \"Secret\""},
	{`selection: {objects: [{name: a, group: Apps}]}`, "spec.selection.objects[0].group: Invalid value: \"Apps\""},
	{`selection: {objects: [{name: a, kind: Secret}]}`, "unknown field \"spec.selection.objects[0].kind\""},
	{`selection: {hashRanges: []}`, "spec.selection.hashRanges: Invalid value: 0"},
	{`selection: {hashRanges: ` + items(257, "{start: 0, end: 0}") + `}`, "spec.selection.hashRanges: Too many"},
	{`selection: {hashRanges: [{start: 2, end: 1}]}`, "spec.selection.hashRanges[0].start: Invalid value: start must not be greater than end"},
	{`selection: {hashRanges: [{start: 0, end: 4294967296}]}`, "spec.selection.hashRanges[0].end: Invalid value: 4294967296"},
	{`selection: {count: 0}`, "spec.selection.count: Invalid value: 0"},
	{`selection: {count: 10000001}`, "spec.selection.count: Invalid value: 10000001"},
	{`selection: {labelSelector: {matchLabels: {a: 1}}}`, "spec.selection.labelSelector.matchLabels.a"},
}

var refusedMigrationStatuses = []refusal{
	{`phase: half way`, "status.phase: Invalid value: \"half way\""},
	{`reason: it was late`, "status.reason: Invalid value: \"it was late\""},
	{`objects: {total: -1}`, "status.objects.total: Invalid value: -1"},
	{`bytes: -1`, "status.bytes: Invalid value: -1"},
	{`started: now`, "status.started: Invalid value: \"now\""},
	{`lastError: ` + long(1025), "status.lastError: Too long"},
	{`failures: ` + items(11, "{object: a}"), "status.failures: Too many"},
	{`failures: [{reason: R}]`, "status.failures[0].object: Required value"},
	{`wouldMove: ` + items(11, "a"), "status.wouldMove: Too many"},
}

func TestBadMigrationsAreRefused(t *testing.T) {
	cfg := server(t)
	_, client := clients(t, cfg)
	ns := namespace(t, cfg)
	for _, test := range refusedMigrations {
		object := manifest(t, migrationFile)
		lay(t, object, "spec", test.change)
		checkRefused(t, createUntyped(t.Context(), client, ns, object), test)
	}
	for _, name := range []string{"a.b", long(55)} {
		object := manifest(t, migrationFile)
		object.SetName(name)
		checkRefused(t, createUntyped(t.Context(), client, ns, object), refusal{"metadata.name " + name, "metadata.name is part of a label on the objects and must be a DNS label of at most 54 characters"})
	}
	object := manifest(t, migrationFile)
	if err := createUntyped(t.Context(), client, ns, object); err != nil {
		t.Fatal(err)
	}
	migrations := client.Resource(resourceOf(object)).Namespace(ns)
	for _, test := range refusedMigrationStatuses {
		stored, err := migrations.Get(t.Context(), object.GetName(), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		lay(t, stored, "status", test.change)
		_, err = migrations.UpdateStatus(t.Context(), stored, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict})
		checkRefused(t, err, test)
	}
}

// What a migration is about can't be changed while it goes on; how fast it is, and until when, can.
func TestMigrationIsImmutable(t *testing.T) {
	cfg := server(t)
	_, client := clients(t, cfg)
	ns := namespace(t, cfg)
	object := manifest(t, migrationFile)
	if err := createUntyped(t.Context(), client, ns, object); err != nil {
		t.Fatal(err)
	}
	migrations := client.Resource(resourceOf(object)).Namespace(ns)
	update := func(change string) error {
		stored, err := migrations.Get(t.Context(), object.GetName(), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		lay(t, stored, "spec", change)
		_, err = migrations.Update(t.Context(), stored, metav1.UpdateOptions{})
		return err
	}
	for _, allowed := range []string{`deadline: "2031-01-15T10:30:00Z"`, `deadline: null`, `maxInFlight: 7`, `maxInFlight: null`, `objectsPerSecond: 3`} {
		if err := update(allowed); err != nil {
			t.Errorf("%s: %v", allowed, err)
		}
	}
	for _, change := range []string{
		`ring: other`, `source: shard-003`, `target: shard-003`, `{target: null, reason: Leave}`, `reason: Rebalance`, `dryRun: false`, `dryRun: null`,
		`selection: null`, `selection: {all: true}`, `selection: {count: 100}`,
	} {
		checkRefused(t, update(change), refusal{change, "spec is immutable but for deadline, maxInFlight and objectsPerSecond"})
	}
}

// A plan of the manager needs no source or no target, and what is left out gets its default.
func TestMigrationDefaults(t *testing.T) {
	cfg := server(t)
	typed, untyped := clients(t, cfg)
	ns := namespace(t, cfg)
	for name, spec := range map[string]string{
		"join": `{ring: r, target: a, reason: Join}`, "leave": `{ring: r, source: a, reason: Leave}`, "rebalance": `{ring: r, reason: Rebalance}`,
		"by-hand": `{ring: r, source: a, target: b}`, "by-name": `{ring: r, source: a, target: b, selection: {objects: [{namespace: ns, name: x}]}}`,
	} {
		object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "shard.io/v1", "kind": "ShardMigration",
			"metadata": map[string]any{"name": name}, "spec": map[string]any{}}}
		lay(t, object, "spec", spec)
		if err := createUntyped(t.Context(), untyped, ns, object); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := typed.ShardV1().ShardMigrations(ns).Get(t.Context(), "by-hand", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	inProcess := v1.ShardMigration{}
	inProcess.SetDefaults()
	if got.Spec.Reason != v1.MigrationManual || inProcess.Spec.Reason != v1.MigrationManual {
		t.Errorf("reason: %q from the server, %q in process; want Manual", got.Spec.Reason, inProcess.Spec.Reason)
	}
}

// The manifest comes back as it was written, through the typed client as well.
func TestMigrationRoundTrip(t *testing.T) {
	cfg := server(t)
	typed, untyped := clients(t, cfg)
	ns := namespace(t, cfg)
	want := manifest(t, migrationFile)
	var object v1.ShardMigration
	if err := yaml.UnmarshalStrict(manifestBytes(t, migrationFile), &object); err != nil {
		t.Fatal(err)
	}
	created, err := typed.ShardV1().ShardMigrations(ns).Create(t.Context(), &object, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	created.Status = object.Status
	written, err := typed.ShardV1().ShardMigrations(ns).UpdateStatus(t.Context(), created, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	read, err := untyped.Resource(resourceOf(want)).Namespace(ns).Get(t.Context(), want.GetName(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, difference := range missing("", want.Object, read.Object) {
		t.Errorf("read by the dynamic client: %s", difference)
	}
	data, err := json.Marshal(written)
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := utiljson.Unmarshal(data, &values); err != nil {
		t.Fatal(err)
	}
	values["apiVersion"], values["kind"] = want.GetAPIVersion(), want.GetKind()
	for _, difference := range missing("", want.Object, values) {
		t.Errorf("read by the typed client: %s", difference)
	}
}

// kubectl get shm shows what the columns name.
func TestMigrationColumns(t *testing.T) {
	content := string(manifestBytes(t, "../shard.io_shardmigrations.yaml"))
	for _, column := range []string{"Source", "Target", "Phase", "Moved", "Total", "Age"} {
		if !strings.Contains(content, "name: "+column+"\n") {
			t.Errorf("there is no column %s", column)
		}
	}
}

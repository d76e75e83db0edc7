package crd_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

var (
	long    = func(n int) string { return strings.Repeat("a", n) }
	targets = func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("{resource: r%d}", i))
		}
		return "targets: [" + strings.Join(list, ", ") + "]"
	}
	items = func(n int, item string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+", ", n), ", ") + "]"
	}
)

// refusal is a change to the user's manifest that makes it one that the server refuses.
type refusal struct {
	change string // YAML that is laid over spec or status, key by key; null removes a key
	want   string // what the message must contain: the field, and enough of the reason
}

var refusedConfigs = []refusal{
	{`minShards: 0`, "spec.minShards: Invalid value: 0: spec.minShards in body should be greater than or equal to 1"},
	{`minShards: 1001`, "spec.minShards: Invalid value: 1001"},
	{`minShards: 2.5`, "spec.minShards: Invalid value: \"float64\": spec.minShards in body must be of type int32"},
	{`minShards: "2"`, "spec.minShards: Invalid value: \"string\""},
	{`minShards: 11`, "spec.minShards: Invalid value: minShards must not be greater than maxShards"},
	{`maxShards: 0`, "spec.maxShards: Invalid value: 0"},
	{`maxShards: 1001`, "spec.maxShards: Invalid value: 1001"},
	{`maxShards: 1`, "minShards must not be greater than maxShards"},
	{`scaleUpThreshold: 0`, "spec.scaleUpThreshold: Invalid value: 0"},
	{`scaleUpThreshold: 1.5`, "spec.scaleUpThreshold: Invalid value: 1.5"},
	{`scaleUpThreshold: "0.8"`, "spec.scaleUpThreshold: Invalid value: \"string\""},
	{`scaleUpThreshold: 0.81234`, "spec.scaleUpThreshold: Invalid value: 0.81234: must have at most 3 decimals"},
	{`scaleDownThreshold: -0.1`, "spec.scaleDownThreshold: Invalid value: -0.1"},
	{`scaleDownThreshold: 0`, "spec.scaleDownThreshold: Invalid value: 0"},
	{`scaleDownThreshold: 0.9`, "spec.scaleDownThreshold: Invalid value: scaleDownThreshold must be less than scaleUpThreshold"},
	{`scaleDownThreshold: 0.8`, "spec.scaleDownThreshold: Invalid value: scaleDownThreshold must be less than scaleUpThreshold"},
	{`{scaleDownThreshold: 1, scaleUpThreshold: 1}`, "scaleDownThreshold must be less than scaleUpThreshold"},
	{`scaleDownThreshold: 0.6`, "scaleDownThreshold * (minShards + 1) must be less than scaleUpThreshold * minShards"},
	{`{scaleDownThreshold: 0.2, scaleUpThreshold: 0.3}`, "scaleDownThreshold * (minShards + 1) must be less than"}, // equal
	{`{scaleDownThreshold: 0.4, minShards: 1}`, "scaleDownThreshold * (minShards + 1) must be less than"},          // equal
	{`loadBalanceStrategy: ""`, "spec.loadBalanceStrategy"},
	{`loadBalanceStrategy: Round Robin`, "spec.loadBalanceStrategy: Invalid value: \"Round Robin\""},
	{`loadBalanceStrategy: ` + long(64), "spec.loadBalanceStrategy: Too long"},
	{`healthCheckInterval: 30`, "spec.healthCheckInterval: Invalid value: \"integer\""},
	{`healthCheckInterval: "30"`, "spec.healthCheckInterval: Invalid value: \"30\""},
	{`healthCheckInterval: 1d`, "spec.healthCheckInterval: Invalid value: \"1d\""},
	{`healthCheckInterval: -30s`, "spec.healthCheckInterval: Invalid value: \"-30s\""},
	{`healthCheckInterval: 999ms`, "spec.healthCheckInterval: Invalid value: \"999ms\": must be a duration from 1s to 1h"},
	{`healthCheckInterval: 1h0m1s`, "spec.healthCheckInterval: Invalid value: \"1h0m1s\": must be a duration from 1s to 1h"},
	{`healthCheckInterval: 99999999999999999999h`, "spec.healthCheckInterval: Invalid value"},
	{`healthCheckInterval: "` + strings.Repeat("1s", 17) + `"`, "spec.healthCheckInterval: Too long"},
	{`resources: {requests: {cpu: lots}}`, "spec.resources.requests.cpu"},
	{`resources: {request: {cpu: 1}}`, "unknown field \"spec.resources.request\""},
	{`minShard: 2`, "unknown field \"spec.minShard\""},
	{`targets: [{group: apps}]`, "spec.targets[0].resource: Required value"},
	{`targets: [{resource: Secrets}]`, "spec.targets[0].resource: Invalid value: \"Secrets\""},
	{`targets: [{resource: pods/status}]`, "spec.targets[0].resource: Invalid value: \"pods/status\""},
	{`targets: [{resource: ` + long(64) + `}]`, "spec.targets[0].resource: Too long"},
	{`targets: [{group: Apps, resource: deployments}]`, "spec.targets[0].group: Invalid value: \"Apps\""},
	{`targets: [{group: ` + long(254) + `, resource: deployments}]`, "spec.targets[0].group: Too long"},
	{`targets: [{group: apps, resource: deployments}, {group: apps, resource: deployments}]`, "spec.targets[1]: Duplicate value"},
	{`targets: [{resource: secrets}, {group: "", resource: secrets}]`, "spec.targets[1]: Duplicate value"},
	{targets(17), "spec.targets: Too many"},
	{`targets: [{resource: secrets, controlled: [{resource: pods}, {resource: pods}]}]`, "spec.targets[0].controlled[1]: Duplicate value"},
	{`targets: [{resource: secrets, controlled: [{resource: secrets}]}]`, "spec.targets: Invalid value: a controlled resource must not be a target"},
	{`targets: [{resource: secrets, controlled: [{resource: pods}]}, {resource: pods}]`, "a controlled resource must not be a target of the same ring"},
	{`targets: [{resource: secrets, controlled: [{resource: Pods}]}]`, "spec.targets[0].controlled[0].resource: Invalid value: \"Pods\""},
	{`targets: [{resource: secrets, controlled: [{group: apps}]}]`, "spec.targets[0].controlled[0].resource: Required value"},
	{`targets: [{resource: secrets, controlled: ` + items(17, "{resource: pods}") + `}]`, "spec.targets[0].controlled: Too many"},
	{`targets: [{resource: secrets, labelSelector: {matchLabels: {a: 1}}}]`, "spec.targets[0].labelSelector.matchLabels.a"},
	{`workload: {apiVersion: apps/v1, kind: StatefulSet}`, "spec.workload.name: Required value"},
	{`workload: {apiVersion: apps/v1, kind: statefulsets, name: w}`, "spec.workload.kind: Invalid value: \"statefulsets\""},
	{`workload: {apiVersion: apps, kind: StatefulSet, name: w}`, "spec.workload.apiVersion: Invalid value: \"apps\""},
	{`workload: {apiVersion: apps/v1, kind: StatefulSet, name: My Worker}`, "spec.workload.name: Invalid value: \"My Worker\""},
	{`shards: 0`, "spec.shards: Invalid value: 0"},
	{`shards: 1001`, "spec.shards: Invalid value: 1001"},
	{`rebalance: {tolerance: 0}`, "spec.rebalance.tolerance: Invalid value: 0: spec.rebalance.tolerance in body should be greater than 0"},
	{`rebalance: {tolerance: 1.1}`, "spec.rebalance.tolerance: Invalid value: 1.1"},
	{`rebalance: {interval: 0s}`, "spec.rebalance.interval: Invalid value: \"0s\": must be a duration from 1s to 1h"},
	{`rebalance: {rounds: 11}`, "spec.rebalance.rounds: Invalid value: 11"},
	{`rebalance: {maxMovesPerRound: 0}`, "spec.rebalance.maxMovesPerRound: Invalid value: 0"},
	{`rebalance: {cooldownPeriod: 61m}`, "spec.rebalance.cooldownPeriod: Invalid value: \"61m\": must be a duration from 1s to 1h"},
	{`rebalance: {dryRun: "yes"}`, "spec.rebalance.dryRun: Invalid value: \"string\""},
	{`rebalance: {cooldown: 1m}`, "unknown field \"spec.rebalance.cooldown\""},
	{`scaling: {tolerance: 0}`, "spec.scaling.tolerance: Invalid value: 0"},
	{`scaling: {tolerance: 2}`, "spec.scaling.tolerance: Invalid value: 2"},
	{`scaling: {sustainedPeriod: 2h}`, "spec.scaling.sustainedPeriod: Invalid value: \"2h\": must be a duration from 1s to 1h"},
	{`scaling: {cooldownPeriod: soon}`, "spec.scaling.cooldownPeriod: Invalid value: \"soon\""},
	{`scaling: {maxStepUp: 0}`, "spec.scaling.maxStepUp: Invalid value: 0"},
	{`scaling: {maxStepDown: 1001}`, "spec.scaling.maxStepDown: Invalid value: 1001"},
	{`scaling: {upPeriod: 0s}`, "spec.scaling.upPeriod: Invalid value: \"0s\": must be a duration from 1s to 1h"},
	{`scaling: {downPeriod: 90000s}`, "spec.scaling.downPeriod: Invalid value: \"90000s\": must be a duration from 1s to 1h"},
	{`scaling: {queueLimit: 0}`, "spec.scaling.queueLimit: Invalid value: 0"},
	{`scaling: {queueLimit: 1000001}`, "spec.scaling.queueLimit: Invalid value: 1000001"},
	{`scaling: {ageLimit: 5}`, "spec.scaling.ageLimit: Invalid value: \"integer\""},
	{`scaling: {staleAfter: 5s}`, "spec.scaling.staleAfter: Invalid value: \"5s\": must be a duration from 10s to 1h"},
	{`scaling: {horizon: never}`, "spec.scaling.horizon: Invalid value: \"never\""},
	{`scaling: {forecast: Astrology}`, "spec.scaling.forecast: Unsupported value: \"Astrology\""},
	{`scaling: {consolidateBelow: 0}`, "spec.scaling.consolidateBelow: Invalid value: 0"},
	{`scaling: {consolidateBelow: 1.5}`, "spec.scaling.consolidateBelow: Invalid value: 1.5"},
	{`scaling: {consolidateBelow: 0.2}`, "spec.scaling.consolidateBelow: Invalid value: consolidateBelow must be from scaleDownThreshold to scaleUpThreshold"},
	{`scaling: {consolidateBelow: 0.81}`, "spec.scaling.consolidateBelow: Invalid value: consolidateBelow must be from scaleDownThreshold to scaleUpThreshold"},
	{`{scaling: {consolidateBelow: 0.7}, scaleUpThreshold: 0.69}`, "consolidateBelow must be from scaleDownThreshold to scaleUpThreshold"},
	{`handover: {drainTimeout: 500ms}`, "spec.handover.drainTimeout: Invalid value: \"500ms\": must be a duration from 1s to 1h"},
	{`handover: {maxInFlight: 0}`, "spec.handover.maxInFlight: Invalid value: 0"},
	{`handover: {maxInFlight: 10001}`, "spec.handover.maxInFlight: Invalid value: 10001"},
}

var refusedInstances = []refusal{
	{`shardId: null`, "spec.shardId: Required value"},
	{`shardId: shard-002`, "spec.shardId: Invalid value: shardId must be equal to metadata.name"},
	{`shardId: Shard_001`, "spec.shardId: Invalid value: \"Shard_001\""},
	{`shardId: ` + long(64), "spec.shardId: Too long"},
	{`ring: not a name`, "spec.ring: Invalid value: \"not a name\""},
	{`ring: ` + long(64), "spec.ring: Too long"},
	{`hashRange: {start: 2, end: 1}`, "spec.hashRange.start: Invalid value: start must not be greater than end"},
	{`hashRange: {start: -1, end: 1}`, "spec.hashRange.start: Invalid value: -1"},
	{`hashRange: {start: 0, end: 4294967296}`, "spec.hashRange.end: Invalid value: 4294967296"},
	{`hashRange: {start: 0}`, "spec.hashRange.end: Required value"},
	{`hashRange: {end: 1}`, "spec.hashRange.start: Required value"},
	{`hashRange: {start: 0.5, end: 1}`, "spec.hashRange.start in body must be of type int64"},
	{`hashRanges: [{start: 0, end: 1}, {start: 9, end: 8}]`, "spec.hashRanges[1].start: Invalid value: start must not be greater than end"},
	{`hashRanges: ` + items(4097, "{start: 0, end: 0}"), "spec.hashRanges: Too many"},
	{`weight: 0`, "spec.weight: Invalid value: 0"},
	{`weight: 1001`, "spec.weight: Invalid value: 1001"},
	{`cordoned: "yes"`, "spec.cordoned: Invalid value: \"string\""},
	{`draining: 1`, "spec.draining: Invalid value: \"integer\""},
	{`hashrange: {start: 0, end: 1}`, "unknown field \"spec.hashrange\""},
}

const condition = `lastTransitionTime: "2024-01-15T10:30:00Z", reason: R, message: ""`

var refusedInstanceStatuses = []refusal{
	{`phase: running`, "status.phase: Invalid value: \"running\""},
	{`phase: R` + long(32), "status.phase: Too long"},
	{`load: -0.1`, "status.load: Invalid value: -0.1"},
	{`load: 1000.5`, "status.load: Invalid value: 1000.5"},
	{`load: 0.6543`, "status.load: Invalid value: 0.6543: must have at most 3 decimals"},
	{`load: high`, "status.load: Invalid value: \"string\""},
	{`work: {busy: -1}`, "status.work.busy: Invalid value: -1"},
	{`work: {donePerMinute: -1}`, "status.work.donePerMinute: Invalid value: -1"},
	{`work: {errorsPerMinute: 0.5}`, "status.work.errorsPerMinute: Invalid value: \"float64\""},
	{`work: {waiting: many}`, "status.work.waiting: Invalid value: \"string\""},
	{`work: {oldestSeconds: -1}`, "status.work.oldestSeconds: Invalid value: -1"},
	{`slotLoads: ` + long(32769), "status.slotLoads: Too long"},
	{`slotLoads: "not base64"`, "status.slotLoads: Invalid value: \"not base64\""},
	{`costliestObjects: ` + items(33, "{key: a, share: 0.1}"), "status.costliestObjects: Too many"},
	{`costliestObjects: [{share: 0.1}]`, "status.costliestObjects[0].key: Required value"},
	{`costliestObjects: [{key: "", share: 0.1}]`, "status.costliestObjects[0].key: Invalid value: \"\""},
	{`costliestObjects: [{key: a}]`, "status.costliestObjects[0].share: Required value"},
	{`costliestObjects: [{key: a, share: 1.5}]`, "status.costliestObjects[0].share: Invalid value: 1.5"},
	{`costliestObjects: [{key: a, share: -0.1}]`, "status.costliestObjects[0].share: Invalid value: -0.1"},
	{`lastHeartbeat: yesterday`, "status.lastHeartbeat: Invalid value: \"yesterday\""},
	{`assignedResources: ` + items(101, "a"), "status.assignedResources: Too many"},
	{`assignedResources: [` + long(1025) + `]`, "status.assignedResources[0]: Too long"},
	{`assignedResourceCount: -1`, "status.assignedResourceCount: Invalid value: -1"},
	{`observedGeneration: -1`, "status.observedGeneration: Invalid value: -1"},
	{`version: ` + long(129), "status.version: Too long"},
	{`conditions: [{type: Ready, status: Maybe, ` + condition + `}]`, "status.conditions[0].status: Unsupported value: \"Maybe\""},
	{`conditions: ` + items(2, `{type: Ready, status: "True", `+condition+`}`), "status.conditions[1]: Duplicate value"},
}

var refusedConfigStatuses = []refusal{
	{`shards: -1`, "status.shards: Invalid value: -1"},
	{`readyShards: 100001`, "status.readyShards: Invalid value: 100001"},
	{`selector: ` + long(1025), "status.selector: Too long"},
	{`unownedObjects: -1`, "status.unownedObjects: Invalid value: -1"},
	{`ringGeneration: -1`, "status.ringGeneration: Invalid value: -1"},
	{`load: 1001`, "status.load: Invalid value: 1001"},
	{`desiredShards: -1`, "status.desiredShards: Invalid value: -1"},
	{`recommendedShards: 100001`, "status.recommendedShards: Invalid value: 100001"},
	{`imbalance: 1001`, "status.imbalance: Invalid value: 1001"},
	{`largestShare: 1.5`, "status.largestShare: Invalid value: 1.5"},
	{`forecastError: -1`, "status.forecastError: Invalid value: -1"},
	{`forecastMemory: ` + long(16385), "status.forecastMemory: Too long"},
	{`forecastMemory: "two words"`, "status.forecastMemory: Invalid value: \"two words\""},
	{`lastScaling: {reason: LoadHigh}`, "status.lastScaling.time: Required value"},
	{`lastPlan: {reason: "two words", time: "2024-01-15T10:30:00Z"}`, "status.lastPlan.reason: Invalid value: \"two words\""},
	{`lastPlan: {time: "2024-01-15T10:30:00Z"}`, "status.lastPlan.reason: Required value"},
}

func TestBadSpecsAreRefused(t *testing.T) {
	cfg := server(t)
	_, client := clients(t, cfg)
	ns := namespace(t, cfg)
	for file, refusals := range map[string][]refusal{"shardconfig.yaml": refusedConfigs, "shardinstance.yaml": refusedInstances} {
		for _, test := range refusals {
			object := manifest(t, file)
			lay(t, object, "spec", test.change)
			checkRefused(t, createUntyped(t.Context(), client, ns, object), test)
		}
	}
}

func TestBadStatusesAreRefused(t *testing.T) {
	cfg := server(t)
	_, client := clients(t, cfg)
	ns := namespace(t, cfg)
	for file, refusals := range map[string][]refusal{"shardconfig.yaml": refusedConfigStatuses, "shardinstance.yaml": refusedInstanceStatuses} {
		object := manifest(t, file)
		delete(object.Object, "status")
		if err := createUntyped(t.Context(), client, ns, object); err != nil {
			t.Fatal(err)
		}
		resource := client.Resource(resourceOf(object)).Namespace(ns)
		for _, test := range refusals {
			stored, err := resource.Get(t.Context(), object.GetName(), metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			lay(t, stored, "status", test.change)
			_, err = resource.UpdateStatus(t.Context(), stored, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict})
			checkRefused(t, err, test)
		}
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	cfg := server(t)
	_, client := clients(t, cfg)
	ns := namespace(t, cfg)
	for _, name := range []string{"a.b", long(64)} {
		config := manifest(t, "shardconfig.yaml")
		config.SetName(name)
		checkRefused(t, createUntyped(t.Context(), client, ns, config), refusal{"metadata.name " + name, "metadata.name is the name of the ring and must be a DNS label"})

		instance := manifest(t, "shardinstance.yaml")
		instance.SetName(name)
		lay(t, instance, "spec", "shardId: "+name)
		checkRefused(t, createUntyped(t.Context(), client, ns, instance), refusal{"metadata.name " + name, "spec.shardId"})
	}
	for _, file := range []string{"shardconfig.yaml", "shardinstance.yaml"} {
		object := manifest(t, file)
		delete(object.Object, "spec")
		delete(object.Object, "status")
		checkRefused(t, createUntyped(t.Context(), client, ns, object), refusal{"no spec", "spec: Required value"})
	}
}

// What must not change once it is written.
func TestBadUpdatesAreRefused(t *testing.T) {
	cfg := server(t)
	_, client := clients(t, cfg)
	ns := namespace(t, cfg)
	resource := client.Resource(shardInstances).Namespace(ns)
	stored := manifest(t, "shardinstance.yaml")
	if err := createUntyped(t.Context(), client, ns, stored); err != nil {
		t.Fatal(err)
	}
	update := func(change string) error {
		object, err := resource.Get(t.Context(), stored.GetName(), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		lay(t, object, "spec", change)
		_, err = resource.Update(t.Context(), object, metav1.UpdateOptions{})
		return err
	}
	for _, allowed := range []string{`ring: ""`, `ring: one`, `{ring: one, draining: true}`, `hashRange: null`} {
		if err := update(allowed); err != nil {
			t.Errorf("%s: %v", allowed, err)
		}
	}
	for _, test := range []refusal{
		{`shardId: shard-002`, "spec.shardId: Invalid value: \"shard-002\": shardId is immutable"},
		{`ring: two`, "spec.ring: Invalid value: ring is immutable once it is set"},
		{`ring: ""`, "ring is immutable once it is set"},
		{`ring: null`, "ring is immutable once it is set"},
	} {
		checkRefused(t, update(test.change), test)
	}
}

// lay puts the keys of the YAML text into object's spec or status. A key with the value null is removed.
func lay(t *testing.T, object *unstructured.Unstructured, field, text string) {
	t.Helper()
	var changes map[string]any
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := utiljson.Unmarshal(data, &changes); err != nil {
		t.Fatal(err)
	}
	values, _, _ := unstructured.NestedMap(object.Object, field)
	if values == nil {
		values = map[string]any{}
	}
	maps.Copy(values, changes)
	maps.DeleteFunc(values, func(_ string, value any) bool { return value == nil })
	object.Object[field] = values
}

func checkRefused(t *testing.T, err error, test refusal) {
	t.Helper()
	change := test.change
	if len(change) > 100 {
		change = change[:100] + "..."
	}
	switch {
	case err == nil:
		t.Errorf("%s: accepted; want an error with %q", change, test.want)
	case !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err):
		t.Errorf("%s: %v; want the object refused as invalid", change, err)
	case !strings.Contains(err.Error(), test.want):
		t.Errorf("%s:\n got %v\nwant %s", change, err, test.want)
	}
}

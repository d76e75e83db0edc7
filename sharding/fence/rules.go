package fence

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/internal/fencing"
)

// podName is what the API server calls the Pod of a bound token.
const podName = "authentication.kubernetes.io/pod-name"

// condition keeps the policy from being evaluated for what can't concern it: writes of others to objects without an owner, and
// deletions by others, which the garbage collector makes many of. A member is a manager or a worker.
const condition = `request.userInfo.username in $MEMBERS || (request.operation != "DELETE" && (` +
	`(object != null && object.?metadata.?labels[?$OWNER].hasValue()) || (oldObject != null && oldObject.?metadata.?labels[?$OWNER].hasValue())))`

// usual is the condition that an owner writes to its object as owners do all day, with the fence's own labels as they were, or somebody
// who is no member changes no labels or annotations at all. The verdict would be the same, and cost several times as much: each
// variable is a program of its own.
const usual = `(request.operation == "UPDATE" && (request.userInfo.username in $MEMBERS ? ` + ownersUsual + ` : ` +
	`object.?metadata.?labels == oldObject.?metadata.?labels && object.?metadata.?annotations == oldObject.?metadata.?annotations))`

const ownersUsual = `request.userInfo.username in $WORKERS && request.?subResource.orValue("") != "scale" && ` +
	`oldObject.?metadata.?labels[?$OWNER].orValue("") != "" && oldObject.metadata.labels[$OWNER] == (` + shardOfCaller + `) && ` +
	`object.?metadata.?labels[?$OWNER] == oldObject.?metadata.?labels[?$OWNER] && ` +
	`object.?metadata.?labels[?$DRAIN] == oldObject.?metadata.?labels[?$DRAIN] && ` +
	`object.?metadata.?annotations[?$EPOCH] == oldObject.?metadata.?annotations[?$EPOCH]`

// shardOfCaller is the shard that a worker is, "" if its credential does not say.
const shardOfCaller = `request.userInfo.username in $SHARDS ? $SHARDS[request.userInfo.username] : request.userInfo.?extra[?"` + podName + `"][?0].orValue("")`

// variables are evaluated when they are first used, and once.
var variables = []struct{ name, expression string }{
	// What the request is for.
	{"resource", `request.resource.group + "/" + request.resource.resource`},
	{"subresource", `request.?subResource.orValue("")`},
	{"name", `request.?namespace.orValue("") + "/" + request.?name.orValue("")`},
	{"probe", `request.resource.resource == "leases" && request.resource.group == "coordination.k8s.io" && variables.name == $PROBE`},
	{"root", `variables.resource in $ROOTS`},
	{"namespaceLabels", `namespaceObject == null ? {} : namespaceObject.metadata.?labels.orValue({})`},
	{"guarded", `variables.resource in $RESOURCES && (namespaceObject == null || $INNAMESPACE)`},

	// Who has sent it.
	{"user", `request.userInfo.username`},
	{"manager", `variables.user in $MANAGERS`},
	{"worker", `variables.user in $WORKERS`},
	{"shard", shardOfCaller},
	{"controlPlane", `"system:serviceaccounts:kube-system" in request.userInfo.?groups.orValue([]) || variables.user == "system:kube-controller-manager"`},
	{"caller", `"the caller is " + (variables.manager ? "a manager" : !variables.worker ? "neither manager nor worker" : ` +
		`variables.shard == "" ? "a worker of unknown shard" : "shard \"" + variables.shard + "\"") + " (" + variables.user + ")"`},

	// What the object was, and what it is to be.
	{"oldLabels", `oldObject == null ? {} : oldObject.?metadata.?labels.orValue({})`},
	{"newLabels", `object == null ? {} : object.?metadata.?labels.orValue({})`},
	{"oldNotes", `oldObject == null ? {} : oldObject.?metadata.?annotations.orValue({})`},
	{"newNotes", `object == null ? {} : object.?metadata.?annotations.orValue({})`},
	{"oldOwner", `variables.oldLabels[?$OWNER].orValue("")`},
	{"newOwner", `variables.newLabels[?$OWNER].orValue("")`},
	{"oldDrain", `variables.oldLabels[?$DRAIN].orValue("")`},
	{"newDrain", `variables.newLabels[?$DRAIN].orValue("")`},
	{"oldEpoch", `variables.oldNotes[?$EPOCH].orValue("")`},
	{"newEpoch", `variables.newNotes[?$EPOCH].orValue("")`},
	{"owner", `variables.oldOwner == "" ? "the object has no owner" : "the owner is shard \"" + variables.oldOwner + "\""`},
	// An object of the ring that has yet to get its owner. What belongs to the machinery of rings is none.
	{"unassigned", `request.operation != "CREATE" && variables.oldOwner == "" && (variables.root ? ` +
		`!$MACHINERY.exists(k, k in variables.oldLabels) && $SELECTED : ` +
		`oldObject.?metadata.?ownerReferences.orValue([]).exists(r, r.?controller.orValue(false) && $ROOTKIND))`},
	{"concerned", `variables.oldOwner != "" || variables.newOwner != "" || variables.unassigned`},
	// The count of changes of owner grows. One that is no number, or too long to be one of ours, is nobody's, and is not compared.
	{"epochGrows", `variables.oldEpoch != "" && !variables.oldEpoch.matches("^(0|[1-9][0-9]{0,14})$") || ` +
		`variables.newEpoch.matches("^[1-9][0-9]{0,15}$") && (variables.newEpoch.size() > variables.oldEpoch.size() || ` +
		`variables.newEpoch.size() == variables.oldEpoch.size() && variables.newEpoch > variables.oldEpoch)`},
	{"ringLabelsKept", kept("variables.oldLabels", "variables.newLabels")},
	{"ringNotesKept", kept("variables.oldNotes", "variables.newNotes")},
	// Whether a manager's write changes nothing but labels and annotations of rings.
	{"metadataOnly", `dyn(object).all(k, k == "metadata" || k in oldObject && object[k] == oldObject[k]) && dyn(oldObject).all(k, k in object) && ` +
		`object.metadata.?finalizers.orValue([]) == oldObject.metadata.?finalizers.orValue([]) && ` +
		`object.metadata.?ownerReferences.orValue([]) == oldObject.metadata.?ownerReferences.orValue([]) && ` +
		ringsOnly("variables.oldLabels", "variables.newLabels") + ` && ` + ringsOnly("variables.oldNotes", "variables.newNotes")},

	// The verdicts: "" or why the request is refused, beginning with the rule.
	{"ofWorker", verdict(
		rule{`variables.shard == "" && variables.concerned`, "Unbound", `"the credential is not bound to a Pod, so nobody can tell which shard it is"`},
		rule{`variables.subresource != "" && (request.operation == "CREATE" || variables.subresource == "scale") && !(request.resource.resource + "/" + variables.subresource in $UNCHECKED)`,
			"OwnerNotShown", `"the API server does not show whose object a request to " + variables.subresource + " is for"`},
		rule{`request.operation != "CREATE" && variables.oldOwner != "" && variables.oldOwner != variables.shard`, "NotOwner", `variables.owner`},
		rule{`variables.unassigned`, "Unassigned", `"the object has no owner yet, the manager will give it one"`},
		rule{`request.operation == "DELETE"`, "", ""},
		rule{`request.operation == "CREATE" ? variables.newOwner in ["", variables.shard] : false`, "", ""},
		rule{`request.operation == "CREATE"`, "OtherOwner", `"a worker creates objects with its own label or without one, not for shard \"" + variables.newOwner + "\""`},
		rule{`variables.newOwner == variables.oldOwner && (!variables.root || variables.oldOwner == "" || variables.newDrain == variables.oldDrain && variables.newEpoch == variables.oldEpoch)`, "", ""},
		rule{`variables.newOwner == variables.oldOwner`, "RingKeys", `"drain label and epoch are changed by the manager, or in the write that hands over"`},
		rule{`variables.oldOwner == "" && (variables.root || variables.newOwner != variables.shard)`, "OtherOwner", `"only the manager gives objects to shards"`},
		rule{`variables.newOwner == ""`, "HandOver", `"the owner does not take the owner label off: keep the labels of the object when it is replaced"`},
		rule{`!variables.root`, "", ""},
		rule{`variables.newOwner != variables.oldDrain`, "HandOver", `variables.oldDrain == "" ? "the manager has not asked for a hand-over" : "the manager has asked for a hand-over to shard \"" + variables.oldDrain + "\" only"`},
		rule{`variables.newDrain != ""`, "HandOver", `"the write that hands over takes the drain label off"`},
		rule{`!variables.epochGrows`, "Epoch", `"the epoch grows at a change of owner"`},
	)},
	{"ofManager", verdict(
		rule{`!variables.concerned || $WORKLOAD`, "", ""},
		rule{`request.operation != "UPDATE" || variables.subresource != "" || !variables.metadataOnly`,
			"ManagerScope", `"a manager changes labels and annotations of rings and nothing else, and no webhook may do it in a manager's request"`},
		rule{`variables.root && variables.newOwner != variables.oldOwner && variables.newOwner != "" && !variables.epochGrows`, "Epoch", `"the epoch grows at a change of owner"`},
	)},
	{"ofOthers", verdict(
		rule{`request.operation == "DELETE" || !variables.root && (variables.controlPlane || variables.newOwner == variables.oldOwner)`, "", ""},
		rule{`request.operation == "CREATE" && variables.newOwner != ""`, "NewObject", `"new objects get their owner from the manager: leave the labels and annotations of the ring out"`},
		rule{`!variables.root || !variables.ringLabelsKept || !variables.ringNotesKept && !variables.controlPlane`,
			"RingKeys", `"only the manager changes labels and annotations of the ring: keep them as they are"`},
	)},
	{"verdict", `variables.probe ? "[` + fencing.ProbeRule + `]" : !variables.guarded ? "" : variables.manager ? variables.ofManager : variables.worker ? variables.ofWorker : variables.ofOthers`},
}

// rule is a case of a verdict: the first whose condition holds decides. A rule without a name lets the request through.
type rule struct{ when, name, why string }

func verdict(rules ...rule) string {
	var b strings.Builder
	for _, r := range rules {
		if r.name == "" {
			fmt.Fprintf(&b, "(%s) ? \"\" :\n", r.when)
			continue
		}
		fmt.Fprintf(&b, "(%s) ? \"[%s]: \" + (%s) + \"; \" :\n", r.when, r.name, r.why)
	}
	return b.String() + `""`
}

// kept is the condition that what the ring has written in a map is the same in another.
func kept(before, after string) string {
	return fmt.Sprintf(`%[1]s.all(k, k != $OWNER && !k.endsWith($SUFFIX) || k in %[2]s && %[2]s[k] == %[1]s[k]) && `+
		`%[2]s.all(k, k != $OWNER && !k.endsWith($SUFFIX) || k in %[1]s)`, before, after)
}

// ringsOnly is the condition that two maps are the same but for what rings have written.
func ringsOnly(before, after string) string {
	return fmt.Sprintf(`%[1]s.all(k, k.startsWith("shard.io/") || k.contains(".shard.io/") || k in %[2]s && %[2]s[k] == %[1]s[k]) && `+
		`%[2]s.all(k, k.startsWith("shard.io/") || k.contains(".shard.io/") || k in %[1]s)`, before, after)
}

// rules fills in what is different from ring to ring.
func rules(config *shardv1.ShardConfig, o Options) (match, usually string, all []admissionv1.Variable) {
	ring := config.Name
	workers := append(slices.Sorted(maps.Keys(o.Shards)), o.Workers...)
	roots, resources := resourcesOf(config)
	fill := strings.NewReplacer(
		"$MEMBERS", list(append(slices.Clone(o.Managers), workers...)), "$MANAGERS", list(o.Managers),
		"$WORKERS", list(workers), "$SHARDS", dictionary(o.Shards), "$UNCHECKED", list(o.Unchecked),
		"$PROBE", quote(config.Namespace+"/"+fencing.Probe(ring)),
		"$OWNER", quote(sharding.OwnerLabel(ring)), "$DRAIN", quote(sharding.DrainLabel(ring)), "$EPOCH", quote(sharding.EpochAnnotation(ring)),
		"$MACHINERY", list([]string{sharding.RingLabel, sharding.StateLabel}), "$SUFFIX", quote("."+sharding.OwnerLabel(ring)),
		"$ROOTS", list(roots), "$RESOURCES", list(resources), "$ROOTKIND", rootKind(config),
		"$INNAMESPACE", inNamespace(config), "$SELECTED", selected(config), "$WORKLOAD", workload(config),
	)
	for _, v := range variables {
		all = append(all, admissionv1.Variable{Name: v.name, Expression: fill.Replace(v.expression)})
	}
	return fill.Replace(condition), fill.Replace(usual), all
}

// resourcesOf are the roots, and roots and children, as the variable resource has them.
func resourcesOf(config *shardv1.ShardConfig) (roots, all []string) {
	for _, t := range config.Spec.Targets {
		roots = append(roots, t.Group+"/"+t.Resource)
	}
	all = slices.Clone(roots)
	for _, t := range config.Spec.Targets {
		for _, c := range t.Controlled {
			if name := c.Group + "/" + c.Resource; !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return roots, all
}

// inNamespace is the condition that the namespace is one in which the ring has objects of the resource.
func inNamespace(config *shardv1.ShardConfig) string {
	var conditions []string
	for _, t := range config.Spec.Targets {
		resources := []string{t.Group + "/" + t.Resource}
		for _, c := range t.Controlled {
			resources = append(resources, c.Group+"/"+c.Resource)
		}
		conditions = append(conditions, fmt.Sprintf("variables.resource in %s && %s", list(resources), selects(t.NamespaceSelector, "variables.namespaceLabels")))
	}
	return anyOf(conditions)
}

// selected is the condition that a root is one that the ring wants.
func selected(config *shardv1.ShardConfig) string {
	var conditions []string
	for _, t := range config.Spec.Targets {
		conditions = append(conditions, fmt.Sprintf("variables.resource == %s && %s", quote(t.Group+"/"+t.Resource), selects(t.LabelSelector, "variables.oldLabels")))
	}
	return anyOf(conditions)
}

// rootKind is the condition that the owner reference r is to a root.
func rootKind(config *shardv1.ShardConfig) string {
	var conditions []string
	for _, t := range config.Spec.Targets {
		group := `!r.apiVersion.contains("/")`
		if t.Group != "" {
			group = "r.apiVersion.startsWith(" + quote(t.Group+"/") + ")"
		}
		conditions = append(conditions, fmt.Sprintf("%s && r.kind.lowerAscii() in %s", group, list(kinds(t.Resource))))
	}
	return anyOf(conditions)
}

// workload is the condition that the request scales the workers.
func workload(config *shardv1.ShardConfig) string {
	w := config.Spec.Workload
	if w == nil {
		return "false"
	}
	return fmt.Sprintf(`variables.subresource == "scale" && variables.name == %s`, quote(config.Namespace+"/"+w.Name))
}

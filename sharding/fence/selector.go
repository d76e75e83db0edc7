package fence

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// quote is a CEL string. CEL has the escapes of Go for valid UTF-8.
func quote(text string) string { return strconv.Quote(text) }

// list is a CEL list of strings.
func list(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = quote(item)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// dictionary is a CEL map of strings.
func dictionary(entries map[string]string) string {
	quoted := make([]string, 0, len(entries))
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		quoted = append(quoted, quote(key)+": "+quote(entries[key]))
	}
	return "{" + strings.Join(quoted, ", ") + "}"
}

// any of no conditions is false.
func anyOf(conditions []string) string {
	if len(conditions) == 0 {
		return "false"
	}
	return "(" + strings.Join(conditions, " || ") + ")"
}

// selects is the CEL condition that the labels, themselves a CEL expression, match a selector that has been checked. Like everywhere in
// this API, no selector selects everything.
func selects(selector *metav1.LabelSelector, labels string) string {
	if selector == nil || len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		return "true"
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(selector.MatchLabels)) {
		all = append(all, fmt.Sprintf("(%[1]s in %[2]s && %[2]s[%[1]s] == %[3]s)", quote(key), labels, quote(selector.MatchLabels[key])))
	}
	for _, e := range selector.MatchExpressions {
		has := fmt.Sprintf("%s in %s", quote(e.Key), labels)
		in := fmt.Sprintf("%s && %s[%s] in %s", has, labels, quote(e.Key), list(e.Values))
		switch e.Operator {
		case metav1.LabelSelectorOpIn:
			all = append(all, "("+in+")")
		case metav1.LabelSelectorOpNotIn:
			all = append(all, "!("+in+")")
		case metav1.LabelSelectorOpExists:
			all = append(all, "("+has+")")
		case metav1.LabelSelectorOpDoesNotExist:
			all = append(all, "!("+has+")")
		}
	}
	return "(" + strings.Join(all, " && ") + ")"
}

// kinds are the kinds, in lower case, that a resource can be the plural of. Most are no words; what matters is that the right one is
// among them, which it is for all regular plurals.
func kinds(resource string) []string {
	all := []string{resource}
	if stem, ok := strings.CutSuffix(resource, "s"); ok {
		all = append(all, stem)
	}
	if stem, ok := strings.CutSuffix(resource, "es"); ok {
		all = append(all, stem)
	}
	if stem, ok := strings.CutSuffix(resource, "ies"); ok {
		all = append(all, stem+"y")
	}
	return all
}

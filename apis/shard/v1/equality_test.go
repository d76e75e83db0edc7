package v1

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/ptr"
)

// Controllers compare a status before they write it, in one of these ways.
func TestRatioIsComparable(t *testing.T) {
	compare := map[string]func(a, b *ShardInstanceStatus) bool{
		"cmp":               func(a, b *ShardInstanceStatus) bool { return cmp.Equal(a, b) },
		"equality.Semantic": func(a, b *ShardInstanceStatus) bool { return equality.Semantic.DeepEqual(a, b) },
	}
	for name, equal := range compare {
		a, same, other := &ShardInstanceStatus{Load: ptr.To(Ratio{milli: 650})}, &ShardInstanceStatus{Load: ptr.To(Ratio{milli: 650})}, &ShardInstanceStatus{Load: ptr.To(Ratio{milli: 651})}
		if !equal(a, same) || equal(a, other) {
			t.Errorf("%s: 0.65 equals 0.65: %v, 0.65 equals 0.651: %v", name, equal(a, same), equal(a, other))
		}
	}
}

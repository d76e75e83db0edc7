package sharding

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/ring"
)

func TestCostFuncs(t *testing.T) {
	for _, c := range []struct{ says, want float64 }{
		{0, 0}, {3.5, 3.5}, {1e15, 1e15}, {1e300, 1e15}, {math.MaxFloat64, 1e15},
		{-1, math.NaN()}, {math.NaN(), math.NaN()}, {math.Inf(1), math.NaN()}, {math.Inf(-1), math.NaN()},
	} {
		got := callCostFunc(func(metav1.Object) float64 { return c.says }, nil)
		if got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("%v counts as %v, want %v", c.says, got, c.want)
		}
	}
	if got := callCostFunc(func(metav1.Object) float64 { panic("no") }, nil); !math.IsNaN(got) {
		t.Errorf("a panic counts as %v", got)
	}
}

// costsOf reports on objects with these costs, which are called 0, 1, 2 and so on.
func costsOf(former costReport, costs ...float64) costReport {
	t, prefix := costTally{}, ring.NewPrefix("", "Secret")
	for i, cost := range costs {
		name := types.NamespacedName{Name: fmt.Sprint(i)}
		_, listed := former.hashes[prefix.Hash("", name.Name)]
		t.add(ranked{prefix: prefix, name: name, cost: cost}, listed)
	}
	return t.report()
}

func repeated(n int, cost float64) []float64 {
	list := make([]float64, n)
	for i := range list {
		list[i] = cost
	}
	return list
}

func (r costReport) String() string {
	var list []string
	for _, o := range r.listed {
		list = append(list, fmt.Sprintf("%s:%s", o.Key[strings.LastIndex(o.Key, "/")+1:], o.Share))
	}
	return strings.Join(list, " ")
}

func TestCostReports(t *testing.T) {
	unknown := math.NaN()
	for _, c := range []struct {
		name  string
		costs []float64
		want  string
	}{
		{"no objects", nil, ""},
		{"one object", []float64{5}, ""},
		{"all cost nothing", []float64{0, 0}, ""},
		{"nothing is known", []float64{unknown, unknown}, ""},
		{"all alike", repeated(50, 3), ""},
		{"nearly alike", []float64{10, 11, 12}, ""},
		{"all that are worth it", []float64{10, 60, 30, 0}, "1:0.6 2:0.3 0:0.1"},
		{"unknown ones count like the others", []float64{90, unknown, 10, unknown}, "0:0.45 2:0.05"},
		{"many: what is worth it", append(repeated(298, 1), 50, 51), "299:0.128 298:0.125"},
		{"what stands out of very many is nothing", append(repeated(10000, 1), 20, 20), ""},
		{"enormous", []float64{1e15, 1e15, 1e15, 1}, "0:0.333 1:0.333 2:0.333"},
	} {
		if got := costsOf(costReport{}, c.costs...).String(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	many := costsOf(costReport{}, append(repeated(50, 10), repeated(50, 1)...)...)
	if len(many.listed) != costliestListed || many.listed[0].Key != "/Secret//0" {
		t.Errorf("of many that cost the same: %s", many)
	}
}

func TestCostReportTells(t *testing.T) {
	former := []float64{100, 40, 40, 10, 10}
	base := costsOf(costReport{}, former...)
	for _, c := range []struct {
		name  string
		costs []float64
		want  bool
	}{
		{"the same", former, false},
		{"all twice as much", []float64{200, 80, 80, 20, 20}, false},
		{"a little more", []float64{110, 44, 36, 11, 9}, false},
		{"all alike by now", []float64{40, 40, 40, 40, 40}, true},
		{"another one is the costliest", []float64{40, 100, 40, 10, 10}, true},
		{"half of its cost is gone", []float64{50, 40, 40, 10, 10}, true},
	} {
		if got := costsOf(base, c.costs...).tells(base); got != c.want {
			t.Errorf("%s: tells %v, want %v", c.name, got, c.want)
		}
	}
	// Of 50 that cost about the same, those that are listed stay listed.
	uneven := append(repeated(50, 10), repeated(50, 1)...)
	base = costsOf(costReport{}, uneven...)
	for i := range uneven {
		uneven[i] *= 1 + float64(i%7)/50
	}
	if next := costsOf(base, uneven...); next.tells(base) {
		t.Errorf("%s after %s", next, base)
	}
}

func TestWorkMeter(t *testing.T) {
	start := time.Unix(1000, 0)
	take := func(m *workMeter, after time.Duration) string {
		sum, text := map[uint64]float64{}, []string{}
		m.take(start.Add(after), sum)
		for _, what := range []uint64{1, 7, 1<<48 | 9, 7 << 48} {
			if sum[what] > 0 {
				text = append(text, fmt.Sprintf("%x:%.2f", what, sum[what]))
			}
		}
		return strings.Join(text, " ")
	}
	m := &workMeter{}
	hashes := []uint64{1<<48 | 9, 7 << 48}
	m.add(hashes[0], time.Second)
	m.add(hashes[1], 2*time.Second)
	for i, want := range []string{"1:1.00 7:2.00", "1:1.00 7:2.00", "1:1.00 7:2.00"} {
		if got := take(m, time.Duration(i)*time.Hour); got != want {
			t.Errorf("by slot, %d hours of rest: %s, want %s", i, got, want)
		}
	}
	m.add(hashes[0], time.Second)
	m.take(start.Add(2*time.Hour+workHalfLife), map[uint64]float64{})
	if got, want := take(m, 2*time.Hour+workHalfLife), "1:1.00 7:1.00"; got != want {
		t.Errorf("after a half-life with work: %s, want %s", got, want)
	}
	m.divide(true)
	m.add(hashes[0], time.Second)
	if got, want := take(m, 3*time.Hour), "1000000000009:1.00"; got != want {
		t.Errorf("by object: %s, want %s", got, want)
	}
}

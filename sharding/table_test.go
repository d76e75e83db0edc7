package sharding

import (
	"strings"
	"testing"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// What RingOf says of ShardInstances: who has the first and the last slot, and how many problems there are.
func TestRingOf(t *testing.T) {
	const half, rest = "0-2147483647", "2147483648-4294967295"
	for _, c := range []struct {
		name      string
		instances []*shardv1.ShardInstance
		first     string
		last      string
		problems  int
		says      string
	}{
		{"whole", []*shardv1.ShardInstance{anInstance("a", half), anInstance("b", rest)}, "a", "b", 0, ""},
		{"in one range each, by hand", []*shardv1.ShardInstance{anInstance("a", "single:"+half), anInstance("b", "single:"+rest)}, "a", "b", 0, ""},
		{"one has yet to get some", []*shardv1.ShardInstance{anInstance("a", "0-4294967295"), anInstance("b")}, "a", "a", 0, ""},
		{"nobody has any", []*shardv1.ShardInstance{anInstance("a"), anInstance("b")}, "", "", 0, ""},
		{"there is nobody", nil, "", "", 0, ""},
		{"a gap", []*shardv1.ShardInstance{anInstance("a", half)}, "a", "", 1, "2147483648"},
		{"an overlap", []*shardv1.ShardInstance{anInstance("a", "0-4294967295"), anInstance("b", rest)}, "a", "", 1, "b"},
		{"no range at all", []*shardv1.ShardInstance{anInstance("a", half), anInstance("b", "9-1")}, "a", "", 2, "ShardInstance b"},
	} {
		table, err := RingOf(c.instances)
		if table == nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		first, last := table.Owner(0), table.Owner(1<<64-1)
		problems := 0
		if err != nil {
			problems = len(strings.Split(err.Error(), "\n"))
		}
		if first != c.first || last != c.last || problems != c.problems || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: from %q to %q, %d problems: %v", c.name, first, last, problems, err)
		}
	}
	if table, err := RingOf([]*shardv1.ShardInstance{anInstance("a", half), anInstance("a", rest)}); table != nil || err == nil {
		t.Errorf("two of one name: error %v", err)
	}
}

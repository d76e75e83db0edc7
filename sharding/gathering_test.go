package sharding

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// TestGathering: each look is a time in milliseconds and the standings of shards; "→" begins what is answered, in milliseconds.
func TestGathering(t *testing.T) {
	standings := map[string]standing{"p": standingPending, "s": standingServing, "d": standingDraining, "l": standingLost, "g": standingGone}
	for name, looks := range map[string][]string{
		"a term begins":                      {"0 a=s b=l → 0", "10 a=s b=l → 0"},
		"nothing changes":                    {"0 a=s → 0", "500 a=s → 0", "510 a=s → 0"},
		"one joins":                          {"0 a=s → 0", "500 a=s b=p → 100", "540 a=s b=s → 100", "600 a=s b=s → 40", "640 a=s b=s → 0", "641 a=s b=s → 0"},
		"one is drained":                     {"0 a=s b=s → 0", "500 a=s b=d → 100", "600 a=s b=d → 0"},
		"one is gone":                        {"0 a=s b=d → 0", "500 a=s b=g → 100", "600 a=s b=g → 0", "700 a=s → 100", "800 a=s → 0"},
		"one dies":                           {"0 a=s b=s → 0", "500 a=s b=l → 0", "510 a=s b=g → 0"},
		"one dies while another joins":       {"0 a=s b=s → 0", "500 a=s b=s c=p → 100", "550 a=s b=l c=p → 0", "560 a=s b=l c=p → 0"},
		"one joins while another dies":       {"0 a=s b=l → 0", "10 a=s b=l c=s → 100", "110 a=s b=l c=s → 0"},
		"they never stop":                    {"0 → 0", "100 a=s → 100", "190 b=s → 100", "280 a=s → 100", "1050 b=s → 50", "1100 a=s → 0", "1110 b=s → 100"},
		"somebody looks again and again":     {"0 → 0", "100 a=s → 100", "130 a=s → 70", "160 a=s → 40", "200 a=s → 0", "210 a=s → 0"},
		"it is long until somebody looks":    {"0 → 0", "100 a=s → 100", "9000 a=s → 0", "9001 b=s → 100"},
		"it changes when the wait is over":   {"0 → 0", "100 a=s → 100", "200 a=s b=s → 100", "300 a=s b=s → 0"},
		"it changes again just after that":   {"0 → 0", "100 a=s → 100", "200 a=s → 0", "201 b=s → 100", "301 b=s → 0"},
		"one that was lost comes back alive": {"0 a=l → 0", "100 a=s → 100", "200 a=s → 0"},
	} {
		t.Run(name, func(t *testing.T) {
			var g gathering
			for _, look := range looks {
				question, answer, _ := strings.Cut(look, "→ ")
				words := strings.Fields(question)
				seen := map[string]standing{}
				for _, word := range words[1:] {
					id, letter, _ := strings.Cut(word, "=")
					seen[id] = standings[letter]
				}
				at, err := time.ParseDuration(words[0] + "ms")
				if err != nil {
					t.Fatal(err)
				}
				if got := g.wait(seen, time.Unix(1000, 0).Add(at)).Milliseconds(); fmt.Sprint(got) != answer {
					t.Fatalf("%s: waits %d ms", look, got)
				}
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	instance := func(name, uid, version string) *shardv1.ShardInstance {
		return &shardv1.ShardInstance{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid), ResourceVersion: version}}
	}
	for _, c := range []struct {
		name     string
		answered []string // versions
		cached   *shardv1.ShardInstance
		want     string
	}{
		{"nothing was written", nil, instance("a", "u", "7"), "7"},
		{"the cache is behind", []string{"9"}, instance("a", "u", "7"), "9"},
		{"the cache is as far", []string{"9"}, instance("a", "u", "9"), "9"},
		{"the cache is ahead", []string{"9"}, instance("a", "u", "10"), "10"},
		{"two answers", []string{"9", "11"}, instance("a", "u", "10"), "11"},
		{"two answers, the first one last", []string{"11", "9"}, instance("a", "u", "10"), "11"},
		{"another object of the name", []string{"9"}, instance("a", "v", "7"), "7"},
		{"versions that say nothing", []string{"x9"}, instance("a", "u", "x7"), "x7"},
		{"another name", []string{"9"}, instance("b", "u", "7"), "7"},
	} {
		var a answers
		for _, version := range c.answered {
			a.note(instance("a", "u", version))
		}
		a.note(nil)
		if got := a.newest(c.cached).ResourceVersion; got != c.want {
			t.Errorf("%s: version %s, want %s", c.name, got, c.want)
		}
	}
	var a answers
	for _, name := range []string{"a", "b", "c"} {
		a.note(instance(name, "u", "9"))
	}
	a.retain(map[string]*shardv1.ShardInstance{"a": instance("a", "u", "7"), "c": instance("c", "u", "9")})
	a.newest(instance("c", "u", "9"))
	var left []string
	for name := range a.latest {
		left = append(left, name)
	}
	if !slices.Equal(left, []string{"a"}) {
		t.Errorf("kept: %v, want a: b is gone, and of c the cache has it", left)
	}
}

package timeline

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// script makes a timeline from lines "uid owner drain epoch [controller]"; "-" is nothing, and uid "x!" is deleted.
// Roots are called r..., children c...; the resourceVersion is the number of the line.
func script(text string) *Timeline {
	t := &Timeline{}
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		parts := strings.Fields(line)
		field := func(n int) string {
			if n >= len(parts) || parts[n] == "-" {
				return ""
			}
			return parts[n]
		}
		v := Version{Resource: "secrets", Owner: field(1), Drain: field(2), Controller: types.UID(field(4)), Number: fmt.Sprint(i + 1)}
		v.At = time.Unix(int64(i), 0)
		v.UID = types.UID(strings.TrimRight(field(0), "!?"))
		v.Deleted, v.Gap = strings.HasSuffix(field(0), "!"), strings.HasSuffix(field(0), "?")
		v.Name.Name = string(v.UID)
		_, _ = fmt.Sscan(field(3), &v.Epoch)
		if v.UID[0] == 'c' {
			v.Resource = "configmaps"
		}
		t.Add(v)
	}
	return t
}

func TestTimelineRules(t *testing.T) {
	for _, test := range []struct{ name, script, want string }{
		{"a hand-over in order", "r - - 0\nr A - 1\nc A - 0 r\nr A B 1\nc B - 0 r\nr B - 2", ""},
		{"a take-over in order", "r A - 1\nc A - 0 r\nc B - 0 r\nr B - 2", ""},
		{"a child that comes late", "r A - 1\nc A - 0 r\nr A B 1\nr B - 2\nc B - 0 r", "comes to B while its child"},
		{"a child that stays behind", "r A - 1\nc A - 0 r\nr B - 2", "is on \"A\" at the end"},
		{"a child that runs ahead and stays", "r A - 1\nc A - 0 r\nc B - 0 r", "is on \"B\" at the end"},
		{"a child that is created by the old owner", "r A - 1\nr B - 2\nc A - 0 r", "is on \"A\" at the end"},
		{"a root that loses its owner", "r A - 1\nr - - 1", "has lost its owner A"},
		{"an epoch that stands still", "r A - 1\nr B - 1", "epoch 1 → 1, want 2"},
		{"an epoch that jumps", "r A - 1\nr A - 2", "epoch 1 → 2, want 1"},
		{"an epoch that jumps over what was not seen", "r A - 1\nr? C - 3", ""},
		{"a root that is created again", "r A - 1\nc A - 0 r\nr! A - 1\nr2 - - 0\nr2 B - 1", ""},
		{"a child that is deleted before the move", "r A - 1\nc A - 0 r\nc! A - 0 r\nr B - 2", ""},
		{"a child that nobody has labelled yet", "r A - 1\nc - - 0 r\nr B - 2\nc B - 0 r", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := strings.Join(script(test.script).Violations("secrets"), "\n")
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("violations %q, want %q", got, test.want)
			}
		})
	}
}

func TestTimelineMoves(t *testing.T) {
	moves := script("r A - 1\nc A - 0 r\nr A B 1\nc B - 0 r\nr B - 2\nr B - 2\nr C - 3").Moves("secrets")
	var got []string
	for _, m := range moves {
		got = append(got, fmt.Sprintf("%s→%s %v", m.From, m.To, !m.Asked.IsZero()))
	}
	if want := "[→A false A→B true B→C false]"; fmt.Sprint(got) != want {
		t.Errorf("moves %v, want %s", got, want)
	}
}

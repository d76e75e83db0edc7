//go:build unix

package main

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/internal/faults/trial"
	"github.com/shard-io/shard-controller/internal/timeline"
)

// history makes what the witnesses have seen from lines "object owner epoch
// author[.process] how", where author is who put his stamp on this version, or
// "-", and how is a word of "watch" (no word: both have seen it), "audit", "gap"
// (a list saw it, after a time in which nobody looked) or "refused". A
// resourceVersion is the number of a line.
func history(script string) (*timeline.Timeline, []write) {
	line, writes, stamps := &timeline.Timeline{}, []write(nil), map[string]string{}
	for i, text := range strings.Split(strings.TrimSpace(script), "\n") {
		f := append(strings.Fields(text), "")
		name, author, how := f[0], f[3], f[4]
		v := timeline.Version{Resource: "secrets", UID: types.UID(name), Number: fmt.Sprint(i + 1), Owner: strings.Trim(f[1], "-"), Gap: how == "gap"}
		v.Name.Name = name
		_, _ = fmt.Sscan(f[2], &v.Epoch)
		w := write{Operator: author != "-", Name: v.Name, Code: 200}
		if author != "-" {
			shard, process, ok := strings.Cut(author, ".")
			if !ok {
				process = shard
			}
			w.Pod = shard
			if how != "refused" {
				stamps[name] = trial.Stamp{Shard: shard, Process: process, Number: int64(i)}.String()
			}
		}
		v.Note = stamps[name]
		switch how {
		case "refused":
			w.Code = 403
			writes = append(writes, w)
			continue
		case "audit":
		default:
			line.Add(v)
		}
		if how != "watch" && how != "gap" {
			w.Version = &v
			writes = append(writes, w)
		}
	}
	return line, writes
}

func TestJudge(t *testing.T) {
	const created = "race-1-0 A 1 -\n"
	for _, test := range []struct {
		name, script                    string
		late, refused, twins, uncertain int
	}{
		{name: "the owner writes", script: created + "race-1-0 A 1 A\nrace-1-0 A 1 A"},
		{name: "a hand-over", script: created + "race-1-0 A 1 A\nrace-1-0 B 2 -\nrace-1-0 B 2 B"},
		{name: "a late write", script: created + "race-1-0 B 2 -\nrace-1-0 B 2 A", late: 1},
		{name: "a late write that the audit log has lost", script: created + "race-1-0 B 2 -\nrace-1-0 B 2 A watch", late: 1},
		{name: "a late write that the watches have missed", script: created + "race-1-0 B 2 -\nrace-1-0 B 2 A audit\nrace-1-0 B 2 B", late: 1},
		{name: "a late write that takes the object back", script: created + "race-1-0 B 2 -\nrace-1-0 A 1 A", late: 1},
		{name: "a late write after a change that everybody has missed", script: created + "race-1-0 B 2 A audit", late: 1},
		{name: "a write to what has lost its owner", script: created + "race-1-0 - 1 -\nrace-1-0 - 1 A", late: 1},
		{name: "a late write that is refused", script: created + "race-1-0 B 2 -\nrace-1-0 B 2 A refused", refused: 1},
		{name: "a creation", script: "race-1-0 A 0 A"},
		{name: "a creation for somebody else", script: "race-1-0 B 0 A", late: 1},
		{name: "a creation for nobody", script: "race-1-0 - 0 A"},
		{name: "a gap without a change of owner", script: created + "race-1-0 A 1 A gap"},
		{name: "a gap with a change of owner", script: created + "race-1-0 B 2 A gap", uncertain: 1},
		{name: "a gap that the audit log fills", script: created + "race-1-0 B 2 -\nrace-1-0 B 2 A audit\nrace-1-0 B 2 - gap", late: 1},
		{name: "a second process", script: created + "race-1-0 A 1 A.1\nrace-1-0 A 1 A.2\nrace-1-0 A 1 A.2"},
		{name: "two processes in turns", script: created + "race-1-0 A 1 A.1\nrace-1-0 A 1 A.2\nrace-1-0 A 1 A.1", twins: 1},
		{name: "two processes in turns, on different objects", script: created + "race-1-0 A 1 A.1\nrace-1-1 A 1 -\nrace-1-1 A 1 A.2\nrace-1-0 A 1 A.1", twins: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := judge(history(test.script))
			refused := 0
			for _, n := range j.Refused {
				refused += n
			}
			if len(j.Late) != test.late || refused != test.refused || len(j.Twins) != test.twins || j.Unknown != test.uncertain || len(j.Disagree) > 0 {
				t.Errorf("%+v, want %d late, %d refused, %d twins, %d uncertain", j, test.late, test.refused, test.twins, test.uncertain)
			}
		})
	}
}

func TestWitnessesThatDisagree(t *testing.T) {
	line, writes := history("race-1-0 A 1 -\nrace-1-0 A 1 A")
	writes[1].Pod = "B"
	if j := judge(line, writes); len(j.Disagree) != 1 {
		t.Errorf("%+v, want a disagreement", j)
	}
}

func TestWritesWithoutAnAuditEvent(t *testing.T) {
	j := judge(history("race-1-0 A 1 -\nrace-1-0 A 1 A\nrace-1-0 A 1 A watch\nrace-1-0 A 1 A audit"))
	if j.Judged != 3 || j.Unheard != 1 {
		t.Errorf("%+v, want 3 judged, 1 of them without an audit event", j)
	}
}

func TestCount(t *testing.T) {
	j := judge(history(`
race-1-0 A 1 -
race-1-0 B 2 -
race-1-0 B 2 A
race-1-0 B 2 A
race-2-0 A 1 -
race-2-0 B 2 -
race-2-0 B 2 A refused
pause-1-0 A 1 -
pause-1-0 B 2 -
pause-1-0 B 2 A`))
	want := tally{Trials: 4, Tried: 3, Faulty: 1, Accepted: 2, Refused: 1, InClient: 5}
	if got := j.count("race", 4, map[string]int{"race-3": 5, "race-4": 0}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestParseWrite(t *testing.T) {
	const head = `{"verb":"patch","userAgent":"faults-operator","user":{"extra":{"authentication.kubernetes.io/pod-name":["w-1"]}},` +
		`"objectRef":{"resource":"secrets","namespace":"r","name":"o"},"stageTimestamp":"2026-01-02T03:04:05.000006Z",`
	w, err := parseWrite([]byte(head+`"responseStatus":{"code":200},"responseObject":{"kind":"Secret","metadata":{"namespace":"r","name":"o","uid":"u",
		"resourceVersion":"7","labels":{"shard.io/r":"w-2"},"annotations":{"epoch.shard.io/r":"3","`+trial.StampAnnotation+`":"w-1/p/2/1"}}}}`), "r")
	if err != nil || w.Version == nil {
		t.Fatalf("%+v, %v", w, err)
	}
	if v := w.Version; w.Pod != "w-1" || !w.Operator || !w.accepted() || v.Owner != "w-2" || v.Epoch != 3 || v.Number != "7" || v.UID != "u" || v.Note != "w-1/p/2/1" {
		t.Errorf("%+v of %+v", v, w)
	}
	w, err = parseWrite([]byte(head+`"responseStatus":{"code":403},"responseObject":{"kind":"Status","metadata":{}}}`), "r")
	if err != nil || w.Version != nil || !w.refused() {
		t.Errorf("a refusal: %+v, %v", w, err)
	}
	if _, err := parseWrite([]byte(head), "r"); err == nil {
		t.Error("a torn line is no error")
	}
}

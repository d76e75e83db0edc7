package migrate

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// TestScripts plays the scripts in testdata. A script is a list of blocks:
//
//	command
//	----
//	what is so afterwards
//
// separated by empty lines. Lines before the first block that begin with # say what it is about. Commands are the names of the steps
// of the world; those that are about an object have its number in front, as in "0 hand over". There are some more: see script.play.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts: %v %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := playAll(string(content))
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(content) {
				t.Errorf("got:\n%s", got)
			}
		})
	}
}

func playAll(text string) (string, error) {
	var out strings.Builder
	s := &script{}
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if strings.HasPrefix(block, "#") {
			fmt.Fprintf(&out, "%s\n\n", block)
			continue
		}
		command, _, _ := strings.Cut(block, "\n")
		answer, err := s.play(command)
		if err != nil {
			return "", fmt.Errorf("%q: %w", command, err)
		}
		fmt.Fprintf(&out, "%s\n----\n%s\n\n", command, strings.TrimRight(answer, "\n"))
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

type script struct {
	w     world
	trace []string
}

// play does what a command says, and returns how things are then.
func (s *script) play(command string) (string, error) {
	words := strings.Fields(command)
	s.trace = nil
	switch words[0] {
	case "start": // start N objects
		n, err := strconv.Atoi(words[1])
		if err != nil || n > len(s.w.objects) {
			return "", fmt.Errorf("how many objects? %v", err)
		}
		s.w = newWorld(n)
	case "dry": // dry: a dry run begins
		s.w.m = New(true)
		s.w.record()
	case "event": // event NAME ARGS...: tell the machine, and show what it answers
		return s.event(words[1:])
	case "settle": // settle: everybody goes on until nothing is left to do
		s.settle(100)
	case "manage": // manage N times: the manager alone goes on
		s.goOn(managerSteps(), 100)
	case "steal": // steal N: another migration asks for object N
		i, err := strconv.Atoi(words[1])
		if err != nil {
			return "", err
		}
		s.w.objects[i].marked, s.w.objects[i].drain = false, c
	default:
		return s.step(command)
	}
	return s.show(), nil
}

// step plays one step of the world by its name.
func (s *script) step(command string) (string, error) {
	steps, name := slices.Concat(managerSteps(), fates()), command
	if i, rest, ok := strings.Cut(command, " "); ok {
		if number, err := strconv.Atoi(i); err == nil {
			steps, name = slices.Concat(objectSteps(number), mishaps(number)), rest
		}
	}
	at := slices.IndexFunc(steps, func(s step) bool { return s.name == name })
	if at < 0 {
		return "", errors.New("there is no such step")
	}
	if !steps[at].do(&s.w) {
		return "", errors.New("it can't happen now")
	}
	return s.show(), nil
}

// settle lets the manager and the workers go on by turns. A target waits with going on without the state of an object until there is nothing
// else left to happen.
func (s *script) settle(atMost int) {
	patient := func(st step) bool { return st.name == "go on without" }
	for range atMost {
		before := s.w.forgetting()
		for i := range s.w.n {
			s.goOn(slices.DeleteFunc(objectSteps(i), patient), 10)
		}
		s.goOn(managerSteps(), 1)
		if before != s.w.forgetting() {
			continue
		}
		for i := range s.w.n {
			s.goOn(objectSteps(i), 1)
		}
		if before == s.w.forgetting() {
			return
		}
	}
}

func (w world) forgetting() world {
	w.forgetRounds()
	return w
}

func (s *script) goOn(steps []step, times int) {
	for range times {
		before := s.w.forgetting()
		for _, step := range steps {
			if step.name == "restart" {
				continue
			}
			was := s.w
			step.do(&s.w)
			if was.m.Phase != s.w.m.Phase {
				s.trace = append(s.trace, fmt.Sprintf("%s → %s", was.m.Phase, s.w.m.Phase))
			}
		}
		if before == s.w.forgetting() {
			return
		}
	}
}

// event tells the machine something and shows its answer, also if it is a refusal.
func (s *script) event(words []string) (string, error) {
	event, err := eventOf(s.w.m, words)
	if err != nil {
		return "", err
	}
	next, actions, err := Step(s.w.m, event)
	if err != nil {
		if next != s.w.m {
			return "", fmt.Errorf("a refused event left a trace: %+v, was %+v", next, s.w.m)
		}
		return fmt.Sprintf("refused: %v", err), nil
	}
	s.w.m = next
	if len(actions) > 0 && actions[0] == Record {
		s.w.record()
	}
	return fmt.Sprintf("%s\nactions: %v", s.show(), actions), nil
}

func eventOf(m State, words []string) (Event, error) {
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(words[i], 10, 64)
		return n
	}
	switch words[0] {
	case "planned":
		return Planned{number(1)}, nil
	case "reject":
		return Reject{strings.Join(words[1:], " "), "because"}, nil
	case "ready":
		return Ready{}, nil
	case "verified":
		return Verified{}, nil
	case "cleaned":
		return Cleaned{}, nil
	case "abort":
		return Abort{strings.Join(words[1:], " "), "because"}, nil
	case "lost":
		return Lost{Source: slices.Contains(words, "source"), Target: slices.Contains(words, "target")}, nil
	case "counted": // counted ROUND-RELATIVE-TO-NOW stage=n...
		e := Counted{Round: m.Round + number(1)}
		for _, word := range words[2:] {
			stage, n, _ := strings.Cut(word, "=")
			for k, _ := strconv.Atoi(n); k > 0; k-- {
				e.Counts.Add(Stage(stage))
			}
			if strings.HasPrefix(n, "-") {
				e.Counts.Arrived = -1
			}
		}
		return e, nil
	}
	return nil, errors.New("there is no such event")
}

// show renders phase, counts and objects.
func (s *script) show() string {
	var b strings.Builder
	for _, line := range s.trace {
		fmt.Fprintln(&b, line)
	}
	m := s.w.m
	fmt.Fprintf(&b, "%s", m.Phase)
	if m.Reason != "" {
		fmt.Fprintf(&b, " (%s)", m.Reason)
	}
	fmt.Fprintf(&b, ": total %d, moved %d, failed %d, gone %d", m.Total, m.Moved(), m.Failures(), m.Gone())
	for i := range s.w.n {
		fmt.Fprintf(&b, "\n  %d: %s", i, s.w.objects[i].show())
	}
	return b.String()
}

func (o *object) show() string {
	if o.gone {
		return "gone"
	}
	text := o.owner.String()
	if o.drain != none {
		text += "→" + o.drain.String()
	}
	where := []string{}
	if o.memory != none {
		where = append(where, "with "+o.memory.String())
	}
	if o.pending {
		where = append(where, "on the object")
	}
	if o.unusable {
		where = append(where, "kept for inspection")
	}
	if o.lost {
		where = append(where, "lost with its owner")
	}
	text += ", state " + strings.Join(where, " and ")
	if o.refused != none {
		text += ", refused by " + o.refused.String()
	}
	if o.declined {
		text += ", declined"
	}
	if o.failed {
		text += ", failed"
	}
	return text
}

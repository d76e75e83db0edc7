package health

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// t0 is when every script begins. The lease is 15 s: silent after 6 s, retry 2 s.
var t0 = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func seconds(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }

// TestDetectorScripts runs scripts of one step per line: the second, a verb and
// its arguments. Reads are made every 2 s from 0 on, unless "offline" says
// otherwise. "is" states what must hold then: states, and why it is held back.
func TestDetectorScripts(t *testing.T) {
	for name, script := range map[string]string{
		"alive, silent, dead": `
			1 beat a
			1 is a=Alive hold=Starting
			6.99 is a=Alive
			7 is a=Silent hold=Starting
			15.9 is a=Silent hold=
			16 is a=Silent confirm=a
			17 is a=Silent confirm=a
			17 read a
			17 is a=Dead
			18 beat a
			18 is a=Alive`,
		"first sight is no sign of life": `
			0 offline
			0 seen a
			0 online
			0 is a=Unknown
			5.9 is a=Unknown
			6 is a=Silent
			15 read a
			15 is a=Dead`,
		"an edit is no sign of life": `
			1 beat a
			6 edit a
			7 is a=Silent
			7 read a
			7 is a=Silent
			16 read a
			16 is a=Dead`,
		"a holder that announced more gets more": `
			1 beat a 40
			7 is a=Silent
			40.9 read a
			40.9 is a=Silent
			41 read a
			41 is a=Dead`,
		"a holder that announces less gets what is configured": `
			1 beat a 2
			15.9 read a
			15.9 is a=Silent
			16 read a
			16 is a=Dead`,
		"nobody gets more than the longest lease": `
			1 beat a 999999
			3601 read a
			3601 is a=Dead`,
		"a confirmation grows old": `
			20 beat a
			20 beat b
			53 read a
			55 read b
			56 is hold= a=Silent b=Dead confirm=a`,
		"a watch event confirms nothing": `
			1 beat a
			16 seen a
			16 is a=Silent confirm=a`,
		"released": `
			1 beat a
			2 release a
			2 is a=Released
			100 is a=Released
			101 gone a
			115.9 is a=Released
			116 is a=`,
		"released, gone and expected": `
			1 expect a
			1 beat a
			2 release a
			3 gone a
			100 is a=Released
			100 forget a
			100 is a=`,
		"missing": `
			1 beat a
			2 gone a
			2 is a=Unknown
			10 is a=Unknown
			16.9 readgone a
			16.9 is a=Unknown
			17 is a=Unknown confirm=a
			17 readgone a
			17 is a=Dead`,
		"missing, and back": `
			1 beat a
			2 gone a
			16 beat a
			16 is a=Alive
			22 is a=Silent`,
		"missing while events were lost": `
			1 beat a
			2 gone a
			16 gap
			17 readgone a
			17 is a=Unknown
			31 readgone a
			31 is a=Dead`,
		"expected": `
			1 expect a
			1 is a=Unknown
			16 readgone a
			16 is a=Dead
			17 forget a
			17 is a=`,
		"held by another manager": `
			1 beat a
			2 take a manager/other_1
			2 is a=Unknown
			16.9 read a
			16.9 is a=Unknown
			17 read a
			17 is a=Dead`,
		"held by ourselves": `
			1 beat a
			16 read a
			16 is a=Dead
			16 take a manager/me_1
			16 is a=Dead
			20 gone a
			20 is a=Dead
			21 beat a
			21 is a=Alive`,
		"a gap in the connection starts silence anew": `
			16 beat a
			17 offline
			22 is a=Silent
			22.1 is a=Silent hold=Disconnected
			60 online
			60 is a=Silent hold=Starting
			74.9 read a
			74.9 is a=Silent
			75 read a
			75 is a=Dead`,
		"an observer that was stopped does not conclude from it": `
			16 beat a
			16.5 offline
			1000 is a=Alive hold=Disconnected
			1000 online
			1000 read a
			1000 is a=Alive hold=Starting
			1006 is a=Silent
			1015 read a
			1015 is a=Dead`,
		"what changed before we were connected may be old": `
			16 beat a
			17 offline
			100 beat a
			100 online
			100 is a=Unknown
			102 beat a
			102 is a=Alive`,
		"mass silence, patience": `
			20 beat a
			20 beat b
			20 beat c
			24 beat c
			26 is a=Silent b=Silent c=Alive hold=MassSilence silent=2/3
			29 beat c
			34 beat c
			39 beat c
			40 is a=Silent b=Silent hold=MassSilence confirm=
			44 beat c
			49 beat c
			54 beat c
			55.9 is a=Silent b=Silent hold=MassSilence confirm=
			56 is a=Silent b=Silent hold= confirm=a,b
			56 read a
			56 is a=Dead b=Silent
			57 read b
			57 is b=Dead hold=`,
		"mass silence, one comes back when patience is over": `
			20 beat a
			20 beat b
			26 is hold=MassSilence silent=2/2
			56 is hold= confirm=a,b
			56 beat b
			56 read a
			56 is a=Dead b=Alive
			62 is b=Silent hold=`,
		"mass silence, connection lost when patience is over": `
			20 beat a
			20 beat b
			26 is hold=MassSilence
			56 is hold= confirm=a,b
			56 offline
			63 is a=Silent hold=Disconnected confirm=
			64 online
			79 is a=Silent hold=MassSilence confirm=
			94 is hold= confirm=a,b`,
		"mass silence, failed write": `
			20 beat a
			20 beat b
			26 is hold=MassSilence
			50 writefailed
			79.9 is hold=MassSilence
			80 is hold= confirm=a,b`,
		"mass silence ends in calm": `
			20 beat a
			20 beat b
			26 is hold=MassSilence
			40 beat a
			40 is a=Alive b=Silent hold=MassSilence confirm=
			44 beat a
			45.9 is hold=MassSilence
			46 is hold= confirm=b`,
		"another mass silence is another": `
			20 beat a
			20 beat b
			50 beat c
			50 beat d
			54 is a=Silent d=Alive silent=2/4 hold=MassSilence
			56 is c=Silent hold=MassSilence silent=2/2 confirm=a,b
			85.9 is hold=MassSilence confirm=a,b
			86 is hold= confirm=a,b,c,d`,
		"missing Leases count as silence": `
			20 beat a
			20 beat b
			21 gone a
			21 gone b
			27 is a=Unknown b=Unknown hold=MassSilence`,
		"the long dead do not count": `
			0 offline
			0 seen a
			0 seen b
			0 seen c
			0 online
			1 beat d
			6 is a=Silent b=Silent c=Silent d=Alive hold=Starting silent=0/1
			15 is confirm=a,b,c hold=`,
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlay(t)
			for _, line := range strings.Split(strings.TrimSpace(script), "\n") {
				p.step(strings.Fields(line))
			}
		})
	}
}

// play executes a script.
type play struct {
	t       *testing.T
	d       *Detector
	records map[string]Record
	now     time.Time
	online  bool
	clock   int64
}

func newPlay(t *testing.T) *play {
	t.Helper()
	d, err := NewDetector(second15, "manager/me_1")
	if err != nil {
		t.Fatal(err)
	}
	p := &play{t: t, d: d, records: map[string]Record{}, now: t0, online: true}
	d.Read(t0, t0)
	return p
}

// advance goes to a time, reading on the way.
func (p *play) advance(to time.Time) {
	for next := p.nextRead(); !next.After(to); next = p.nextRead() {
		p.now = next
		if p.online {
			p.d.Read(p.now, p.now)
			p.d.Evaluate(p.now)
		}
	}
	p.now = to
}

func (p *play) nextRead() time.Time {
	return t0.Add((p.now.Sub(t0)/(2*time.Second) + 1) * 2 * time.Second)
}

func (p *play) step(f []string) {
	p.t.Helper()
	var s float64
	if _, err := fmt.Sscan(f[0], &s); err != nil {
		p.t.Fatal(err)
	}
	p.advance(seconds(s))
	id := ""
	if len(f) > 2 {
		id = f[2]
	}
	switch f[1] {
	case "offline":
		p.online = false
		if s == 0 {
			p.d, _ = NewDetector(second15, "manager/me_1")
		}
	case "online":
		p.online = true
		p.d.Read(p.now, p.now)
	case "expect":
		p.d.Expect(id, p.now)
	case "forget":
		p.d.Forget(id)
	case "gap":
		p.d.Gap(p.now)
	case "writefailed":
		p.d.WriteFailed(p.now)
	case "is":
		p.check(f[2:])
	default:
		p.d.Observe(id, p.observation(f[1], id, f[3:]), p.now)
	}
}

// observation makes what a verb lets the observer see.
func (p *play) observation(verb, id string, args []string) Observation {
	p.t.Helper()
	r := p.records[id]
	o := Observation{}
	switch verb {
	case "beat", "seen":
		if r.Holder == "" || r.heldByManager() {
			r.Holder = id + "_1"
		}
		if verb == "beat" {
			p.clock--
			r.Renewed = p.clock // times of others mean nothing: these run backwards
		}
		r.LeaseDuration = 15 * time.Second
		if len(args) > 0 {
			var s int
			_, _ = fmt.Sscan(args[0], &s)
			r.LeaseDuration = time.Duration(s) * time.Second
		}
	case "edit":
		r.LeaseDuration = 14 * time.Second
	case "release":
		r.Holder = ""
	case "take":
		r.Holder = args[0]
		r.Transitions++
	case "gone":
		o.Missing = true
	case "read":
		o.Begun = p.now
	case "readgone":
		o.Begun, o.Missing = p.now, true
	default:
		p.t.Fatalf("no such step: %s", verb)
	}
	p.records[id] = r
	o.Record = r
	return o
}

func (p *play) check(wants []string) {
	p.t.Helper()
	v := p.d.Evaluate(p.now)
	for _, want := range wants {
		key, value, _ := strings.Cut(want, "=")
		got := ""
		switch key {
		case "hold":
			got = string(v.Hold)
		case "confirm":
			got = strings.Join(v.Confirm, ",")
		case "silent":
			got = fmt.Sprintf("%d/%d", v.Silent, v.Members)
		default:
			if slices.Contains(p.d.IDs(), key) {
				state, _ := p.d.State(key)
				got = string(state)
			}
		}
		if got != value {
			p.t.Errorf("at %v: %s is %q, want %q; %+v", p.now.Sub(t0), key, got, value, v)
		}
	}
}

func TestDetectorReportsTransitionsOnce(t *testing.T) {
	p := newPlay(t)
	p.step([]string{"1", "beat", "b"})
	p.step([]string{"1", "beat", "a"})
	want := []Transition{{ID: "a", To: Alive}, {ID: "b", To: Alive}}
	if v := p.d.Evaluate(p.now); !slices.Equal(v.Transitions, want) || !v.Next.Equal(seconds(6).Add(1)) {
		t.Errorf("got %+v, want %v and Next when the connection would be lost", v, want)
	}
	if v := p.d.Evaluate(p.now); len(v.Transitions) != 0 {
		t.Errorf("reported again: %v", v.Transitions)
	}
	if state, since := p.d.State("nobody"); state != Unknown || !since.IsZero() {
		t.Errorf("state of a stranger: %v %v", state, since)
	}
	if _, err := NewDetector(Timing{}, ""); err == nil {
		t.Error("an empty timing was accepted")
	}
	if err := p.d.SetTiming(Timing{LeaseDuration: -1}); err == nil {
		t.Error("a negative timing was accepted")
	}
}

package sharding

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

func TestLoadSignal(t *testing.T) {
	const second = time.Second
	own := func(f float64) *float64 { return &f }
	at := loadSignal{begun: true, known: true, load: 1, busy: 1}
	for _, test := range []struct {
		name   string
		former loadSignal
		sample loadSample
		want   string // load, busy; ? for unknown
	}{
		{"idle stays idle", loadSignal{begun: true, known: true}, loadSample{period: second, capacity: second}, "0.00 0.00"},
		{"half of what was is forgotten in a half-life", at, loadSample{period: loadHalfLife, capacity: second}, "0.50 0.50"},
		{"and half of what is new is taken", loadSignal{}, loadSample{period: loadHalfLife, busy: second, capacity: second}, "0.50 0.50"},
		{"constant load is constant", at, loadSample{period: 3 * second, busy: second, capacity: second}, "1.00 1.00"},
		{"a long queue is load", loadSignal{}, loadSample{period: loadHalfLife, capacity: second, waiting: 200}, "1.00 0.00"},
		{"an old object is load", loadSignal{}, loadSample{period: loadHalfLife, capacity: second, oldest: 30 * second}, "1.50 0.00"},
		{"no time has passed", at, loadSample{busy: second, capacity: second}, "1.00 1.00"},
		{"time went backwards", at, loadSample{period: -second, capacity: second}, "1.00 1.00"},
		{"no capacity", at, loadSample{period: second, busy: second}, "1.00 1.00"},
		{"a measure of one's own decides alone", loadSignal{begun: true, known: true, load: 0.4},
			loadSample{period: loadHalfLife, busy: second, capacity: second, waiting: 1000, own: own(0.8)}, "0.60 0.50"},
		{"… that is not known", at, loadSample{period: second, capacity: second, own: own(math.NaN())}, "? 0.93"},
		{"… infinite", at, loadSample{period: second, capacity: second, own: own(math.Inf(1))}, "? 0.93"},
		{"… negative", at, loadSample{period: second, capacity: second, own: own(-0.1)}, "? 0.93"},
		{"… enormous", at, loadSample{period: loadHalfLife, capacity: second, own: own(1e300)}, "500.50 0.50"},
		{"… that has become known counts at once", loadSignal{begun: true}, loadSample{period: second, capacity: second, own: own(0.7)}, "0.70 0.00"},
	} {
		s := test.former.next(test.sample, loadLimits{queue: 100, age: 10 * second})
		got := fmt.Sprintf("%.2f %.2f", s.load, s.busy)
		if !s.known {
			got = fmt.Sprintf("? %.2f", s.busy)
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestLoadFuncThatPanics(t *testing.T) {
	if got := callLoadFunc(func() float64 { panic("no") }); !math.IsNaN(got) {
		t.Errorf("got %v, want NaN", got)
	}
}

// TestLoadReportsInSteps: what fluctuates around a value is written once, and what ends is written as nothing.
func TestLoadReportsInSteps(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s := loadSignal{known: true, load: 0.61, busy: 0.61, done: 40, errors: 0.5, waiting: 50, oldest: 20 * time.Second}
	first := s.report(loadReport{})
	want := shardv1.ShardWork{Busy: milli(600), DonePerMinute: 2400, ErrorsPerMinute: 30, Waiting: 50, OldestSeconds: 20}
	if first.load != milli(600) && first.load != milli(620) || first.work.DonePerMinute != want.DonePerMinute || first.work.Waiting != want.Waiting ||
		first.work.ErrorsPerMinute != want.ErrorsPerMinute || first.work.OldestSeconds != want.OldestSeconds {
		t.Fatalf("first report is %+v, want about %+v", first, want)
	}
	r := first
	for range 1000 {
		near := s
		near.load += 0.008*random.Float64() - 0.004
		near.busy = near.load
		near.done *= 0.9 + 0.2*random.Float64()
		near.waiting += random.IntN(9) - 4
		near.oldest += time.Duration(random.IntN(8)-4) * time.Second
		if r = near.report(r); r != first {
			t.Fatalf("report changed to %+v from %+v", r, first)
		}
	}
	if r = (loadSignal{known: true, load: 0.009, done: 0.005}).report(r); !r.idle() || r.work != (shardv1.ShardWork{}) {
		t.Errorf("when it is over: %+v, want nothing", r)
	}
	if r = (loadSignal{load: 3, busy: 1, done: 40}).report(first); r != (loadReport{}) {
		t.Errorf("unknown: %+v", r)
	}
}

func milli(n int32) shardv1.Ratio {
	r, err := shardv1.RatioFromMilli(n)
	if err != nil {
		panic(err)
	}
	return r
}

func TestBusyMeter(t *testing.T) {
	var b busyMeter
	at := func(seconds int) time.Time { return time.Unix(int64(1000+seconds), 0) }
	b.begin(at(0))
	b.begin(at(2))
	if busy, _, _ := b.take(at(4)); busy != 6*time.Second {
		t.Errorf("busy %v while two run, want 6s", busy)
	}
	b.end(at(5))
	b.end(at(7))
	for _, result := range []reconcileResult{resultSuccess, resultRequeue, resultError, resultTerminal, resultPanic, resultCancelled} {
		b.count(result)
	}
	busy, done, errors := b.take(at(10))
	if got := fmt.Sprint(busy, done, errors); got != "4s 5 3" {
		t.Errorf("busy, done, errors: %s, want 4s 5 3", got)
	}
	busy, done, errors = b.take(at(20))
	if got := fmt.Sprint(busy, done, errors); got != "0s 0 0" {
		t.Errorf("idle: %s, want 0s 0 0", got)
	}
}

func TestOldestThatWaits(t *testing.T) {
	l := newLanes()
	key := func(name string) types.NamespacedName { return types.NamespacedName{Name: name} }
	oldest := func(now time.Time) time.Duration {
		_, oldest := l.look(now)
		return oldest
	}
	if got := oldest(time.Now()); got != 0 {
		t.Errorf("empty: %v, want 0", got)
	}
	l.add(key("a"))
	l.add(key("b"))
	later := time.Now().Add(time.Hour)
	if got := oldest(later); got < time.Hour || got > time.Hour+time.Minute {
		t.Errorf("after an hour: %v", got)
	}
	l.hurry(key("a"))
	l.add(key("a")) // keeps its age, and leaves an invalid place behind
	l.get()
	if got := oldest(later); got < time.Hour {
		t.Errorf("b still waits: %v", got)
	}
	l.get()
	if got := oldest(later); got != 0 {
		t.Errorf("empty again: %v, want 0", got)
	}
	l.addAfter(key("c"), time.Minute) // nobody is there to notice that it is due
	if got := oldest(later); got < 58*time.Minute || got > 59*time.Minute {
		t.Errorf("c waits for %v, want 59m", got)
	}
}

func TestSlotReportRoundTrips(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{0, 1, 2, 100, 5000, 65536} {
		objects, work, sum := map[uint32]uint64{}, map[uint32]float64{}, uint64(0)
		for len(objects) < n {
			slot := random.Uint32N(1 << slotBits)
			objects[slot] = 1 + uint64(random.IntN(300))
			work[slot] = random.Float64()
		}
		for _, o := range objects {
			sum += o
		}
		r := newSlotReport(objects, work)
		text := r.encode()
		if len(text) > slotReportSize {
			t.Errorf("%d slots: %d characters", n, len(text))
		}
		back, err := decodeSlotReport(text)
		if err != nil {
			t.Fatalf("%d slots: %v", n, err)
		}
		total, last := uint64(0), -1
		for _, e := range back.entries {
			total += e.objects
			if int(e.slot) <= last || e.slot >= 1<<back.bits {
				t.Fatalf("slot %d after %d", e.slot, last)
			}
			last = int(e.slot)
		}
		if total != sum {
			t.Errorf("%d slots: %d objects came back of %d", n, total, sum)
		}
		if n <= 5000 && (back.bits != slotBits || !slices.Equal(back.entries, r.entries)) {
			t.Errorf("%d slots: not the same", n)
		}
		if back.bits == r.bits && back.tells(r) {
			t.Errorf("%d slots: the same report tells something", n)
		}
		t.Logf("%d slots: %d characters, %d bits", n, len(text), back.bits)
	}
}

func TestSlotReportTells(t *testing.T) {
	report := func(objects uint64, work float64) slotReport {
		return newSlotReport(map[uint32]uint64{1: 1, 7: objects}, map[uint32]float64{1: 1, 7: work, 9: 100})
	}
	base := report(3, 0.5)
	for _, test := range []struct {
		name    string
		objects uint64
		work    float64
		want    bool
	}{
		{"the same", 3, 0.5, false}, {"a third more work", 3, 0.66, false}, {"twice the work", 3, 1, true},
		{"no work", 3, 0, true}, {"one object more", 4, 0.5, true},
	} {
		if got := report(test.objects, test.work).tells(base); got != test.want {
			t.Errorf("%s: tells %v, want %v", test.name, got, test.want)
		}
	}
}

func TestBadSlotReports(t *testing.T) {
	good := slotReport{bits: 2, entries: []slotEntry{{1, 5, 63}, {3, 1, 0}}}.encode()
	if _, err := decodeSlotReport(good); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "not base64": "!", "another format": "AgIA", "too many slots": "ARE=", "cut off": good[:len(good)-4],
		"too long": strings.Repeat("A", slotReportSize+4), "beyond the last slot": slotReport{bits: 2, entries: []slotEntry{{4, 1, 0}}}.encode(),
		"no such level":    slotReport{bits: 2, entries: []slotEntry{{0, 1, 64}}}.encode(),
		"too many objects": slotReport{bits: 2, entries: []slotEntry{{0, math.MaxUint64, 0}}}.encode(),
	} {
		if _, err := decodeSlotReport(text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzSlotReport(f *testing.F) {
	f.Add(slotReport{bits: 16, entries: []slotEntry{{1, 5, 63}, {65535, 1, 0}}}.encode())
	f.Fuzz(func(t *testing.T, text string) {
		r, err := decodeSlotReport(text)
		if err != nil {
			return
		}
		again, err := decodeSlotReport(r.encode())
		if err != nil || again.bits != r.bits || !slices.Equal(again.entries, r.entries) {
			t.Errorf("%q: %v, %v after another round", text, again, err)
		}
	})
}

func TestWhenLoadsWereMeasured(t *testing.T) {
	start := time.Unix(10000, 0)
	report := func(load int32, ago time.Duration) *shardv1.ShardInstance {
		i := &shardv1.ShardInstance{}
		i.Name = "a"
		i.Status.Load, i.Status.LastHeartbeat = ptr.To(milli(load)), &metav1.Time{Time: start.Add(-ago)}
		return i
	}
	known := func(b loadBook, i *shardv1.ShardInstance, alive bool, after time.Duration) bool {
		now := start.Add(after)
		return isKnown(b.measuredAt(i, alive, now), now, time.Minute)
	}
	b := loadBook{}
	steps := []struct {
		name  string
		i     *shardv1.ShardInstance
		alive bool
		after time.Duration
		want  bool
	}{
		{"a report that was there for long", report(500, time.Hour), true, 0, false},
		{"a new one, by a clock that is an hour behind", report(500, 59*time.Minute), true, time.Second, true},
		{"the same, nearly stale", report(500, 59*time.Minute), true, time.Minute, true},
		{"the same, stale", report(500, 59*time.Minute), true, 2 * time.Minute, false},
		{"idle, and old", report(0, 58*time.Minute), true, 30 * time.Minute, true},
		{"idle, and old, and not alive", report(0, 58*time.Minute), false, 60 * time.Minute, false},
		{"a report from the future", report(500, -time.Hour), true, time.Hour, true},
	}
	for _, s := range steps {
		if got := known(b, s.i, s.alive, s.after); got != s.want {
			t.Errorf("%s: known is %v, want %v", s.name, got, s.want)
		}
	}
	if known(b, &shardv1.ShardInstance{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, true, 0) || len(b) != 0 {
		t.Error("a shard that has reported nothing is known")
	}
}

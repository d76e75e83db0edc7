package scaling

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// The saved form is a row of numbers, without names: how many models there are; for each of them its kind, its settings, how good it was, and what it
// has learnt. Whole numbers are varints, others have 8 bytes, and the means of a season 4. Times are nanoseconds since 1970, with 0 for none.

// Kinds of models.
const (
	kindTrend    = 1
	kindSeasonal = 2
)

type encoder struct {
	data []byte
	err  error // the first one
}

func (e *encoder) count(n int)   { e.data = binary.AppendUvarint(e.data, uint64(n)) }
func (e *encoder) whole(n int64) { e.data = binary.AppendVarint(e.data, n) }

func (e *encoder) number(v float64) {
	e.data = binary.BigEndian.AppendUint64(e.data, math.Float64bits(v))
}

func (e *encoder) time(t time.Time) {
	if t.IsZero() {
		e.whole(0)
		return
	}
	if n := t.UnixNano(); !time.Unix(0, n).Equal(t) && e.err == nil {
		e.err = fmt.Errorf("the time %v, must be from 1678 to 2261", t)
	}
	e.whole(t.UnixNano())
}

// tracker appends one, and returns an error if it would be refused.
func (e *encoder) tracker(t *tracker) error {
	begin := len(e.data)
	switch model := t.model.(type) {
	case Trend:
		e.count(kindTrend)
		e.settings(model.levelHalfLife(), model.slopeHalfLife())
		e.record(t)
		e.time(model.Since)
		e.time(model.At)
		e.number(model.Level)
		e.number(model.Slope)
		e.number(model.Latest)
	case Seasonal:
		e.count(kindSeasonal)
		e.settings(model.period(), model.part())
		e.record(t)
		e.time(model.Started)
		e.time(model.At)
		e.number(model.Sum)
		e.count(max(0, model.Count))
		e.number(model.Differs)
		e.means(model)
	default:
		return fmt.Errorf("%s has no saved form", t.model.Name())
	}
	if e.err != nil {
		return e.err
	}
	d := decoder{data: e.data[begin:], latest: time.Unix(0, math.MaxInt64)}
	d.tracker(t.model)
	return d.err
}

func (e *encoder) settings(a, b time.Duration) {
	e.whole(int64(a))
	e.whole(int64(b))
}

func (e *encoder) record(t *tracker) {
	e.count(t.due)
	e.time(t.last)
	e.number(t.errors)
	e.number(t.naive)
	e.number(t.demand)
}

func (e *encoder) means(s Seasonal) {
	e.count(len(s.Means))
	for _, mean := range s.Means {
		if !isValue(mean) {
			mean = -1
		}
		e.data = binary.BigEndian.AppendUint32(e.data, math.Float32bits(float32(mean)))
	}
}

// decoder reads what encoder has written. Nothing that it reads is believed. After the first error it returns zeros.
type decoder struct {
	data   []byte
	latest time.Time // times after that are wrong
	err    error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.data = nil
}

var errCutOff = errors.New("ends too early")

func (d *decoder) count(most uint64) int {
	n, size := binary.Uvarint(d.data)
	switch {
	case size <= 0:
		d.fail(errCutOff)
		return 0
	case n > most:
		d.fail(fmt.Errorf("a count of %d, must be at most %d", n, most))
		return 0
	}
	d.data = d.data[size:]
	return int(n)
}

func (d *decoder) whole() int64 {
	n, size := binary.Varint(d.data)
	if size <= 0 {
		d.fail(errCutOff)
		return 0
	}
	d.data = d.data[size:]
	return n
}

// number is one from least to maxValue.
func (d *decoder) number(least float64) float64 {
	if len(d.data) < 8 {
		d.fail(errCutOff)
		return 0
	}
	v := math.Float64frombits(binary.BigEndian.Uint64(d.data))
	if !(v >= least && v <= maxValue) {
		d.fail(fmt.Errorf("the number %v, must be from %v to %v", v, least, maxValue))
		return 0
	}
	d.data = d.data[8:]
	return v
}

func (d *decoder) time() time.Time {
	n := d.whole()
	if n == 0 {
		return time.Time{}
	}
	t := time.Unix(0, n).UTC()
	if t.After(d.latest) {
		d.fail(fmt.Errorf("of %s, which is in the future", t.Format(time.RFC3339)))
	}
	return t
}

// trackers reads those of exactly these models.
func (d *decoder) trackers(models []Model) []tracker {
	if n := d.count(math.MaxInt32); n != len(models) && d.err == nil {
		d.fail(fmt.Errorf("saved for %d models, there are %d", n, len(models)))
	}
	trackers := make([]tracker, 0, len(models))
	for _, model := range models {
		if d.err != nil {
			return nil
		}
		trackers = append(trackers, d.tracker(model))
	}
	if len(d.data) > 0 {
		d.fail(fmt.Errorf("%d bytes too many", len(d.data)))
	}
	return trackers
}

func (d *decoder) tracker(model Model) tracker {
	var t tracker
	kind := d.count(math.MaxInt32)
	switch m := model.(type) {
	case Trend:
		d.expect(model, kind == kindTrend, m.levelHalfLife(), m.slopeHalfLife())
		t = d.record()
		m.Since, m.At = d.time(), d.time()
		m.Level, m.Slope, m.Latest = d.number(-maxValue), d.number(-maxValue), d.number(-maxValue)
		d.inOrder(m.Since, m.At)
		t.model = m
	case Seasonal:
		d.expect(model, kind == kindSeasonal, m.period(), m.part())
		t = d.record()
		m.Started, m.At = d.time(), d.time()
		m.Sum, m.Count, m.Differs = d.number(0), d.count(math.MaxInt32), d.number(-maxValue)
		m.Means = d.means(m.parts())
		d.inOrder(m.Started, m.At)
		t.model = m
	default:
		d.fail(fmt.Errorf("%s has no saved form", model.Name()))
	}
	return t
}

// expect refuses what was saved for another kind of model, or for other settings.
func (d *decoder) expect(model Model, same bool, settings ...time.Duration) {
	for _, want := range settings {
		same = time.Duration(d.whole()) == want && same
	}
	if !same && d.err == nil {
		d.fail(fmt.Errorf("saved for a model that is not this %s, or has other settings", model.Name()))
	}
}

func (d *decoder) inOrder(a, b time.Time) {
	if d.err == nil && (a.After(b) || a.IsZero() != b.IsZero()) {
		d.fail(fmt.Errorf("the first observation at %v, the last at %v", a, b))
	}
}

func (d *decoder) record() tracker {
	t := tracker{due: d.count(mostDue), last: d.time()}
	t.errors, t.naive, t.demand = d.number(0), d.number(0), d.number(0)
	return t
}

func (d *decoder) means(parts int) []float64 {
	n := d.count(mostParts)
	switch {
	case d.err != nil || n == 0:
		return nil
	case n != parts:
		d.fail(fmt.Errorf("%d parts of the period, must be %d", n, parts))
		return nil
	case len(d.data) < 4*n:
		d.fail(errCutOff)
		return nil
	}
	means := make([]float64, n)
	for i := range means {
		mean := float64(math.Float32frombits(binary.BigEndian.Uint32(d.data[4*i:])))
		if mean != -1 && !(mean >= 0 && mean <= 2*maxValue) {
			d.fail(fmt.Errorf("a mean of %v, must be a number from 0, or -1", mean))
			return nil
		}
		means[i] = mean
	}
	d.data = d.data[4*n:]
	return means
}

package sharding

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"k8s.io/apimachinery/pkg/types"
)

// sketch is a summary of a set of objects, of a size that does not depend on theirs. From the difference of two sketches the
// difference of the sets can be read, if that is small: which objects are in one and not in the other.
//
// It is an invertible Bloom lookup table as in Eppstein, Goodrich, Uyeda, Varghese: "What's the Difference? Efficient Set
// Reconciliation without Prior Context" (SIGCOMM 2011). Every element is added to one cell in each of four tables. A cell that holds
// one element alone shows it; with that taken out of its other cells, the next ones can be read.
//
// The zero value is the empty set. Adding an element twice is an error of the caller that no method notices.
type sketch struct {
	cells [sketchTables * sketchCells]sketchCell
}

// The size decides how large a difference can be read: up to 20 objects nearly always, 30 mostly.
const (
	sketchTables   = 4
	sketchCells    = 12
	sketchCellSize = 16
)

type sketchCell struct {
	count int32
	ids   uint64 // XOR
	check uint32 // XOR of checks, which tell one element from the XOR of several
}

// element is an object in a sketch: the hash of its UID.
type element uint64

// elementOf never returns 0: that would not be seen in a cell.
func elementOf(uid types.UID) element { return element(max(1, xxhash.Sum64String(string(uid)))) }

func (e element) check() uint32 { return uint32(spread(uint64(e)^0xa0761d6478bd642f) >> 32) }

// cells returns where in the tables an element is.
func (e element) cells() [sketchTables]int {
	var at [sketchTables]int
	h := spread(uint64(e))
	for i := range at {
		at[i] = i*sketchCells + int(h%sketchCells)
		h >>= 16
	}
	return at
}

// spread mixes all bits: the finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
func spread(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (s *sketch) add(e element) { s.put(e, 1) }

func (s *sketch) put(e element, n int32) {
	check := e.check()
	for _, at := range e.cells() {
		c := &s.cells[at]
		c.count += n
		c.ids ^= uint64(e)
		c.check ^= check
	}
}

// minus returns what is in s and not in t, and the other way round. It answers false if the difference is too large to be read.
func (s *sketch) minus(t *sketch) (only, missing []element, ok bool) {
	var d sketch
	for i := range d.cells {
		a, b := &s.cells[i], &t.cells[i]
		d.cells[i] = sketchCell{a.count - b.count, a.ids ^ b.ids, a.check ^ b.check}
	}
	for found := true; found; {
		found = false
		for i := range d.cells {
			c := d.cells[i]
			e := element(c.ids)
			if c.count != 1 && c.count != -1 || e.check() != c.check {
				continue
			}
			if c.count > 0 {
				only = append(only, e)
			} else {
				missing = append(missing, e)
			}
			if len(only)+len(missing) > len(d.cells) {
				return nil, nil, false // a damaged sketch need not come to an end
			}
			d.put(e, -c.count)
			found = true
		}
	}
	return only, missing, d == sketch{}
}

// String is the text form: base64, "" for the empty set.
func (s *sketch) String() string {
	if *s == (sketch{}) {
		return ""
	}
	data := make([]byte, 0, len(s.cells)*sketchCellSize)
	for _, c := range s.cells {
		data = binary.BigEndian.AppendUint32(data, uint32(c.count))
		data = binary.BigEndian.AppendUint64(data, c.ids)
		data = binary.BigEndian.AppendUint32(data, c.check)
	}
	return base64.StdEncoding.EncodeToString(data)
}

// parseSketch reads the text form.
func parseSketch(text string) (*sketch, error) {
	s := &sketch{}
	if text == "" {
		return s, nil
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("sketch: %w", err)
	}
	if len(data) != len(s.cells)*sketchCellSize {
		return nil, fmt.Errorf("sketch: has %d bytes, must have %d", len(data), len(s.cells)*sketchCellSize)
	}
	for i := range s.cells {
		at := data[i*sketchCellSize:]
		s.cells[i] = sketchCell{int32(binary.BigEndian.Uint32(at)), binary.BigEndian.Uint64(at[4:]), binary.BigEndian.Uint32(at[12:])}
	}
	return s, nil
}

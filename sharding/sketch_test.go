package sharding

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func someElements(random *rand.Rand, n int) []element {
	list := make([]element, n)
	for i := range list {
		list[i] = elementOf(types.UID(fmt.Sprintf("%x-%d", random.Uint64(), i)))
	}
	return list
}

func sketchOf(elements ...element) *sketch {
	s := &sketch{}
	for _, e := range elements {
		s.add(e)
	}
	return s
}

func sorted(list []element) []element { return slices.Sorted(slices.Values(list)) }

func TestSketchShowsTheDifference(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	common := someElements(random, 10000)
	for _, c := range []struct{ here, there, tries, unreadable int }{
		{0, 0, 1, 0}, {1, 0, 2000, 0}, {0, 1, 2000, 0}, {1, 1, 2000, 0}, {5, 5, 2000, 10}, {20, 0, 2000, 80}, {10, 20, 500, 250},
	} {
		unreadable := 0
		for range c.tries {
			here, there := someElements(random, c.here), someElements(random, c.there)
			a, b := sketchOf(here...), sketchOf(there...)
			if c.tries < 1000 {
				a, b = sketchOf(append(here, common...)...), sketchOf(append(there, common...)...)
			}
			only, missing, ok := a.minus(b)
			if !ok {
				unreadable++
				continue
			}
			if !slices.Equal(sorted(only), sorted(here)) || !slices.Equal(sorted(missing), sorted(there)) {
				t.Fatalf("%d here and %d there: read %v and %v, want %v and %v", c.here, c.there, only, missing, here, there)
			}
		}
		if unreadable > c.unreadable {
			t.Errorf("%d here and %d there: %d of %d can't be read, want at most %d", c.here, c.there, unreadable, c.tries, c.unreadable)
		}
	}
}

// TestSketchOfALargeDifference: what can't be read is said to be so.
func TestSketchOfALargeDifference(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for n := 60; n < 100000; n *= 3 {
		only, missing, ok := sketchOf(someElements(random, n)...).minus(&sketch{})
		if ok {
			t.Errorf("a difference of %d was read as %d and %d", n, len(only), len(missing))
		}
	}
}

func TestSketchAsText(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{0, 1, 17, 5000} {
		s := sketchOf(someElements(random, n)...)
		text := s.String()
		if len(text) > 1024 {
			t.Errorf("the sketch of %d has %d characters, the API accepts 1024", n, len(text))
		}
		back, err := parseSketch(text)
		if err != nil || *back != *s {
			t.Errorf("the sketch of %d was read back as something else: %v", n, err)
		}
	}
	for text, wrong := range map[string]string{"AAAA": "has 3 bytes, must have 768", "%": "illegal base64"} {
		if _, err := parseSketch(text); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%q: got %v, want an error about %q", text, err, wrong)
		}
	}
}

// FuzzSketch: a sketch that somebody else wrote does no harm.
func FuzzSketch(f *testing.F) {
	f.Add(sketchOf(1, 2, 3).String(), sketchOf(3, 4).String())
	f.Fuzz(func(t *testing.T, a, b string) {
		x, err := parseSketch(a)
		if err != nil {
			return
		}
		y, err := parseSketch(b)
		if err != nil {
			return
		}
		if only, missing, ok := x.minus(y); ok && len(only)+len(missing) > sketchTables*sketchCells {
			t.Errorf("read %d elements from %d cells", len(only)+len(missing), sketchTables*sketchCells)
		}
	})
}

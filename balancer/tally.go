package balancer

// tally counts what was placed on each eligible shard of a view, on top of the objects the view knows of.
type tally struct {
	view    *View
	objects []int64 // of each eligible shard
	total   int64
	weights float64
}

// begin makes the tally one of the view; if it is another view than before, what was placed is in that view's counts now.
func (t *tally) begin(v *View) (fresh bool) {
	if t.view == v {
		return false
	}
	*t = tally{view: v, objects: make([]int64, len(v.eligible))}
	for i, s := range v.eligible {
		t.objects[i] = s.Objects
		t.total += s.Objects
		t.weights += s.Weight
	}
	return true
}

func (t *tally) add(i int) {
	t.objects[i]++
	t.total++
}

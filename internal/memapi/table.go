package memapi

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
)

// table holds the objects of one resource, their recent history and the watches on them. The server's
// lock guards it.
type table struct {
	Resource
	prefix   []byte // the opening of every object: kind and apiVersion
	typed    runtime.Object
	apply    fieldManagers
	objects  map[string]*object
	sorted   []string   // the keys in order; nil when it must be made again
	history  []*entry   // ascending by rv
	floor    int64      // events up to this revision are forgotten
	watchers []*watcher // in the order in which they began, so that a seed replays
	limit    int
}

// entry is one committed write. created: old is nil; deleted: new is nil.
type entry struct {
	rv       int64
	at       time.Time
	old, new *object
	gone     *object // old's content under rv, made when first needed
}

func newTable(r Resource, limit int, floor int64) *table {
	apiVersion := r.GVK().GroupVersion().String()
	return &table{
		Resource: r,
		prefix:   fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,`, r.Kind, apiVersion),
		typed:    r.builtin(),
		objects:  map[string]*object{},
		limit:    limit,
		floor:    floor,
	}
}

func (e *entry) key() string {
	if e.new != nil {
		return e.new.key
	}
	return e.old.key
}

// departed is the object that a DELETED event carries: the content before the write, under the
// revision of the write.
func (e *entry) departed() *object {
	if e.gone == nil {
		e.gone = e.old.as(e.rv)
	}
	return e.gone
}

// record stores the outcome of a write and appends it to the history.
func (t *table) record(e *entry) {
	if e.new == nil {
		delete(t.objects, e.old.key)
		t.sorted = nil
	} else {
		if e.old == nil {
			t.sorted = nil
		}
		t.objects[e.new.key] = e.new
	}
	t.history = append(t.history, e)
	if len(t.history) > 2*t.limit {
		t.forget(len(t.history) - t.limit)
	}
}

// forget drops the n oldest entries of the history.
func (t *table) forget(n int) {
	if n == 0 {
		return
	}
	t.floor = t.history[n-1].rv
	t.history = slices.Clone(t.history[n:])
}

// compact forgets all events up to rv.
func (t *table) compact(rv int64) {
	t.forget(t.after(rv))
	t.floor = max(t.floor, rv)
}

// after is the index of the first entry of the history that is younger than rv.
func (t *table) after(rv int64) int {
	return sort.Search(len(t.history), func(i int) bool { return t.history[i].rv > rv })
}

func (t *table) keys() []string {
	if t.sorted == nil {
		t.sorted = make([]string, 0, len(t.objects))
		for k := range t.objects {
			t.sorted = append(t.sorted, k)
		}
		slices.Sort(t.sorted)
	}
	return t.sorted
}

// at gives the objects of a namespace ("" for all) with a key of at least start, in order, as they were
// at revision rv. rv must not lie before the floor.
func (t *table) at(rv int64, namespace, start string) []*object {
	past := map[string]*object{}
	keys := t.keys()
	for i := len(t.history) - 1; i >= 0 && t.history[i].rv > rv; i-- {
		past[t.history[i].key()] = t.history[i].old
	}
	keys = withDeleted(keys, past, t.objects)
	prefix := ""
	if namespace != "" {
		prefix = namespace + "/"
	}
	var out []*object
	for _, k := range keys[sort.SearchStrings(keys, max(prefix, start)):] {
		if !strings.HasPrefix(k, prefix) {
			break
		}
		o, changed := past[k]
		if !changed {
			o = t.objects[k]
		}
		if o != nil {
			out = append(out, o)
		}
	}
	return out
}

// withDeleted adds the keys that exist in the past only.
func withDeleted(keys []string, past, now map[string]*object) []string {
	var extra []string
	for k, o := range past {
		if o != nil && now[k] == nil {
			extra = append(extra, k)
		}
	}
	if extra == nil {
		return keys
	}
	extra = append(extra, keys...)
	slices.Sort(extra)
	return extra
}

// rvAt is the youngest revision of this table that was committed at least age before now, but not
// younger than current and not older than least.
func (t *table) rvAt(now time.Time, age time.Duration, least, current int64) int64 {
	rv := current
	for i := len(t.history) - 1; i >= 0 && now.Sub(t.history[i].at) < age; i-- {
		rv = t.history[i].rv - 1
	}
	return max(rv, least, t.floor)
}

package memapi

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
)

// Options configure a Server. The zero value is a server without resources and without faults.
type Options struct {
	// Resources are what the server stores; see CoreResources and ShardResources.
	Resources []Resource
	// Seed is where uids, generated names and faults are drawn from. The same seed and the same
	// requests give the same answers.
	Seed uint64
	// History is how many events per resource a watch can go back, at least; 0 means 4096. Memory is
	// at most twice that many old objects per resource.
	History int
	// WatchBuffer is how many undelivered events a watch may have before the server ends it, as the
	// real one does with a slow reader; 0 means 16384.
	WatchBuffer int
	// BookmarkInterval is the time between bookmarks of a watch that asked for them; 0 means one minute.
	BookmarkInterval time.Duration
	// RequestLog is how many requests Server.Requests remembers; 0 means 1024, negative none.
	RequestLog int
	// StrictNamespaces refuses objects in namespaces that do not exist or are going, as the real
	// server does; it needs the resource namespaces.
	StrictNamespaces bool
	// ManyReaders makes answers and watches cheaper to read for clients with the codecs of Codecs. No others can be used then.
	ManyReaders bool
	// TypeConverters give server-side apply the schemas of groups, by group name: without one, lists of
	// a custom resource are atomic. Built-in kinds need none.
	TypeConverters map[string]managedfields.TypeConverter
}

func (o Options) withDefaults() Options {
	if o.History == 0 {
		o.History = 4096
	}
	if o.WatchBuffer == 0 {
		o.WatchBuffer = 16384
	}
	if o.BookmarkInterval == 0 {
		o.BookmarkInterval = time.Minute
	}
	if o.RequestLog == 0 {
		o.RequestLog = 1024
	}
	return o
}

// Server is an in-memory Kubernetes API server. It starts no goroutine: everything happens on the
// goroutine of the client that asks. Use from any goroutine; inside a synctest bubble, make it there.
type Server struct {
	options Options

	mu       sync.Mutex
	rv       int64
	draws    uint64
	tables   map[schema.GroupVersionResource]*table
	clients  map[string]*Client
	closed   bool
	down     bool
	silent   bool // and does not even refuse
	onCommit []func(Event)
	admit    []func(Admission) error
	log      requestLog
}

// Event is one committed write.
type Event struct {
	// RV is the revision of the write; it grows by one with every write to the server.
	RV int64
	// Time is when it was committed, on the clock of the goroutine that wrote.
	Time time.Time
	// Actor wrote; "" when the test itself did, through the Server.
	Actor string
	// Verb, Subresource and Resource are those of the request.
	Verb, Subresource string
	Resource          schema.GroupVersionResource
	// Old is nil when the write created the object, New is nil when it removed it. Both are shared with
	// the server: they must not be changed.
	Old, New *unstructured.Unstructured
}

// Admission is a write about to be committed.
type Admission struct {
	// Request is what was asked for.
	Request Request
	// Old and New are the object before and after; see Event.
	Old, New *unstructured.Unstructured
}

// New makes a server. It refuses resources that are not completely named or named twice.
func New(o Options) (*Server, error) {
	s := &Server{options: o.withDefaults(), rv: 1, tables: map[schema.GroupVersionResource]*table{},
		clients: map[string]*Client{}}
	s.log.size = s.options.RequestLog
	for _, r := range o.Resources {
		if err := s.Register(r); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Register adds a resource, as installing a CustomResourceDefinition does.
func (s *Server) Register(r Resource) error {
	if err := r.validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tables[r.GVR()] != nil {
		return fmt.Errorf("memapi: resource %v is registered already", r.GVR())
	}
	t := newTable(r, s.options.History, s.rv)
	t.apply = newFieldManagers(r, s.options.TypeConverters[r.Group])
	s.tables[r.GVR()] = t
	return nil
}

// Close ends all watches and refuses every later request. Nothing is left running.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.endWatches(errClosed)
	s.wakeAll()
}

// OnCommit adds f to the functions called after every committed write, in the order of the
// revisions. f runs on the writer's goroutine under the server's lock: it must not block, nor call
// the server.
func (s *Server) OnCommit(f func(Event)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onCommit = append(s.onCommit, f)
}

// Admit adds f to the functions asked before a write by a client is committed, inside its
// compare-and-swap, dry runs included: Old is the very object that the write replaces. An error
// refuses the write: an API status as it is, any other as Forbidden. As for OnCommit, f must not call
// the server. Writes of the test itself are not asked for.
func (s *Server) Admit(f func(Admission) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admit = append(s.admit, f)
}

// Revision is the revision of the last write.
func (s *Server) Revision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rv
}

// Compact forgets all history, as etcd's compaction and a restart of the watch cache do together: a
// watch or a continued list from an older revision is answered with 410.
func (s *Server) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tables {
		t.compact(s.rv)
	}
}

// commit makes e the next revision. data is nil for a removal. The caller holds the lock.
func (s *Server) commit(r *Request, t *table, old *object, data map[string]any) (*object, error) {
	e := &entry{rv: s.rv + 1, at: time.Now(), old: old}
	if data != nil {
		sealed, err := t.seal(data, e.rv)
		if err != nil {
			return nil, err
		}
		e.new = sealed
	}
	s.rv = e.rv
	t.record(e)
	for _, w := range slices.Clone(t.watchers) {
		w.offer(e)
	}
	s.announce(r, t, e)
	if e.new == nil {
		return old, nil
	}
	return e.new, nil
}

func (s *Server) announce(r *Request, t *table, e *entry) {
	if len(s.onCommit) == 0 {
		return
	}
	event := Event{RV: e.rv, Time: e.at, Actor: r.Actor, Verb: r.Verb, Subresource: r.Subresource,
		Resource: t.GVR(), Old: e.old.unstructured(), New: e.new.unstructured()}
	for _, f := range s.onCommit {
		f(event)
	}
}

// groupVersions lists the served groups and versions with their tables, in order.
func (s *Server) sortedTables() []*table {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*table
	for _, t := range s.tables {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *table) int { return slices.Compare(a.path(), b.path()) })
	return all
}

func (t *table) path() []string { return []string{t.Group, t.Version, t.Plural} }

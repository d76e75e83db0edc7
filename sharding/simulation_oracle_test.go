package sharding

import (
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// oracle sees everything that happens in a simulation, at the moment when it happens, and knows what must not happen. It is told of
// every write by the API server, of every reconcile by the reconciler, and of every trouble by the one who makes it.
type oracle struct {
	w *world

	mu        sync.Mutex
	byName    map[string]*process
	roots     map[types.UID]*rootTruth
	holders   map[string]string    // of the shards' Leases
	bereft    map[string]bereaved  // by shard
	made      map[types.UID]making // the children of roots
	renewed   map[string]*process  // who renewed the Lease of a shard last
	subject   string               // the shard that joins or leaves, if that is all that has happened
	acting    map[types.UID][]*action
	calmSince time.Time // since when nothing new has gone wrong
	troubles  int       // that have not been mended yet
	alone     *step     // the only thing that has happened for long, see onlyTrouble
	broken    []string  // promises
	stale     int       // writes of former owners that a server without fence has let through
	refused   int       // writes of former owners that the fence has refused
	moves     int
	takeovers int
}

// rootTruth is what the API server has about a root.
type rootTruth struct {
	name, owner, drain string
	epoch              int64
	since              time.Time // when the owner changed
}

// bereaved is a manager whose hold of a shard's Lease somebody else has ended by deleting it. It may go on for as long as it had the right to: whoever
// creates the Lease anew waits for a whole lease.
type bereaved struct {
	manager string
	until   time.Time
}

// making is how a child came to be.
type making struct {
	shard string
	at    time.Time
}

// action is a reconcile that goes on.
type action struct {
	p       *process
	counted bool // the process may act, as far as it is not paused or dead
}

func newOracle(w *world) *oracle {
	return &oracle{w: w, byName: map[string]*process{}, roots: map[types.UID]*rootTruth{}, holders: map[string]string{}, renewed: map[string]*process{}, made: map[types.UID]making{},
		bereft: map[string]bereaved{}, acting: map[types.UID][]*action{}, calmSince: time.Now()}
}

// breach notes that a promise is broken. The lock is held.
func (o *oracle) breach(promise, format string, args ...any) {
	text := promise + ": " + fmt.Sprintf(format, args...)
	o.w.tell("VIOLATION %s", text)
	if len(o.broken) < 20 {
		o.broken = append(o.broken, fmt.Sprintf("at %s: %s", o.w.now(), text))
	}
}

// breachState is P6, as the one who watches the states sees it.
func (o *oracle) breachState(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.breach("P6", format, args...)
}

// committed is called for every write, in their order, under the lock of the API server.
func (o *oracle) committed(e memapi.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case e.Resource == secrets:
		o.rootWritten(e)
	case e.Resource == configMaps:
		o.childWritten(e)
	case e.Resource == leases:
		o.leaseWritten(e)
	}
}

func (o *oracle) leaseWritten(e memapi.Event) {
	if e.New == nil {
		o.leaseDeleted(e)
		o.w.tell("%s removes Lease %s", e.Actor, e.Old.GetName())
		return
	}
	holder, _, _ := unstructured.NestedString(e.New.Object, "spec", "holderIdentity")
	if before, had := o.holders[e.New.GetName()]; !had || before != holder {
		o.w.tell("%s: Lease %s is held by %q", e.Actor, e.New.GetName(), holder)
	}
	o.holders[e.New.GetName()] = holder
	if p := o.byName[e.Actor]; p != nil && p.shard != "" && p.shard == e.New.GetName() && holder != "" {
		if o.renewed[p.shard] != p {
			p.troubled = time.Now()
		}
		o.renewed[p.shard] = p
	}
}

func (o *oracle) leaseDeleted(e memapi.Event) {
	shard := e.Old.GetName()
	manager, holds := strings.CutPrefix(o.holders[shard], "manager/")
	manager, _, _ = strings.Cut(manager, "_")
	if delete(o.holders, shard); holds && e.Actor != manager {
		o.bereft[shard] = bereaved{manager, time.Now().Add(o.w.slowestLease())}
	}
}

// takes says whether a manager may take from the shard.
func (o *oracle) takes(manager, shard string) bool {
	b := o.bereft[shard]
	return strings.HasPrefix(o.holders[shard], "manager/") || b.manager == manager && time.Now().Before(b.until)
}

// isChunk says whether a write is to a part of a large state.
func isChunk(e memapi.Event) bool {
	obj := e.New
	if obj == nil {
		obj = e.Old
	}
	return obj.GetNamespace() == simNamespace
}

func (o *oracle) rootWritten(e memapi.Event) {
	if isChunk(e) {
		return
	}
	if e.New == nil {
		delete(o.roots, e.Old.GetUID())
		return
	}
	was := o.roots[e.New.GetUID()]
	if was == nil {
		was = &rootTruth{name: e.New.GetName()}
	}
	is := &rootTruth{name: was.name, epoch: EpochOf(e.New, simRing), since: was.since}
	is.owner, _ = OwnerOf(e.New, simRing)
	is.drain, _ = DrainTargetOf(e.New, simRing)
	if is.owner != was.owner {
		is.since = time.Now()
	}
	o.roots[e.New.GetUID()] = is
	if was.owner == is.owner && was.drain == is.drain {
		o.effect(e, was)
		return
	}
	o.w.tell("%s: %s %s→%s drain %q→%q epoch %d", e.Actor, is.name, was.owner, is.owner, was.drain, is.drain, is.epoch)
	o.checkStill(was, is)
	if was.owner == is.owner {
		o.checkEpoch(e, was, is, 0)
		return
	}
	if was.owner != "" {
		o.moves++
	}
	o.checkEpoch(e, was, is, 1)
	o.checkMove(e, was, is)
	o.checkNobodyActs(e, was, is)
}

// effect judges what an operator writes: P2.
func (o *oracle) effect(e memapi.Event, was *rootTruth) {
	p := o.byName[e.Actor]
	if p == nil || p.shard == "" || e.Old == nil || was.owner == p.shard {
		return
	}
	if o.w.fenced {
		o.breach("P2", "a write of %s to %s, which %q owns, was accepted", e.Actor, was.name, was.owner)
		return
	}
	o.stale++
}

// checkEpoch is P7.
func (o *oracle) checkEpoch(e memapi.Event, was, is *rootTruth, by int64) {
	if is.epoch != was.epoch+by {
		o.breach("P7", "%s changed %s from %q to %q, and its epoch from %d to %d", e.Actor, is.name, was.owner, is.owner, was.epoch, is.epoch)
	}
}

// checkMove says who may change an owner: the owner, to the shard that the manager has named; and a manager, who gives an owner to
// what has none, or takes from a shard whose Lease a manager holds, or would if nobody had deleted it.
func (o *oracle) checkMove(e memapi.Event, was, is *rootTruth) {
	p := o.byName[e.Actor]
	switch {
	case p == nil:
		o.breach("P1", "%q changed the owner of %s", e.Actor, is.name)
	case p.shard != "" && (was.owner != p.shard || was.drain != is.owner):
		o.breach("P1", "%s gave %s of %q to %q, when it was to go to %q", e.Actor, is.name, was.owner, is.owner, was.drain)
	case p.shard != "" || was.owner == "":
	case !o.takes(e.Actor, was.owner):
		o.breach("P1", "%s took %s from %q, whose Lease is held by %q", e.Actor, is.name, was.owner, o.holders[was.owner])
	default:
		o.takeovers++
		o.checkTaken(was.owner)
	}
}

// checkTaken is P10: a shard whose process had no trouble of its own is not taken for dead, whatever happens to the API server.
func (o *oracle) checkTaken(shard string) {
	patience := 3*o.w.leaseFor + time.Minute
	p := o.renewed[shard]
	if p != nil && o.w.synchronous() && !p.dead && !p.frozen && !p.leaving && !p.cut && time.Since(p.troubled) > patience {
		o.breach("P10", "shard %s was taken for dead, though nothing has happened to %s", shard, p.name)
	}
}

// checkNobodyActs: while a reconcile of an owner goes on, its object does not change hands.
func (o *oracle) checkNobodyActs(e memapi.Event, was, is *rootTruth) {
	if !o.w.synchronous() {
		return
	}
	for _, a := range o.acting[e.New.GetUID()] {
		if a.counted && a.p.name != e.Actor || a.counted && was.owner == a.p.shard {
			o.breach("P1", "%s changed the owner of %s from %q to %q while %s acts on it", e.Actor, is.name, was.owner, is.owner, a.p.name)
		}
	}
}

// childWritten: who may label a child. A worker gives away its own, or nobody's.
func (o *oracle) childWritten(e memapi.Event) {
	o.tellChild(e)
	p := o.byName[e.Actor]
	if p == nil || p.shard == "" || e.New == nil {
		return
	}
	if e.Old == nil {
		for _, ref := range e.New.GetOwnerReferences() {
			if root := o.roots[ref.UID]; root != nil && root.owner == p.shard {
				o.made[ref.UID] = making{p.shard, time.Now()}
			}
		}
		return
	}
	was, _ := OwnerOf(e.Old, simRing)
	is, _ := OwnerOf(e.New, simRing)
	if was != is && was != p.shard {
		o.breach("P1", "%s gave child %s of %q to %q", e.Actor, e.New.GetName(), was, is)
	}
}

// tellChild puts into the trace to whom a child is given.
func (o *oracle) tellChild(e memapi.Event) {
	if e.New == nil {
		return
	}
	was := ""
	if e.Old != nil {
		was, _ = OwnerOf(e.Old, simRing)
	}
	if is, _ := OwnerOf(e.New, simRing); e.Old == nil || was != is {
		o.w.tell("%s: %s %s→%s", e.Actor, e.New.GetName(), was, is)
	}
}

// begin is called when a reconcile of a root begins; what it returns is called when it has ended.
func (o *oracle) begin(p *process, uid types.UID, name string) (done func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := &action{p: p, counted: !p.dead && !p.frozen}
	if truth := o.roots[uid]; truth != nil && a.counted && o.w.synchronous() && truth.owner != p.shard {
		o.breach("P1", "%s begins to reconcile %s, which %q owns since %s", p.name, name, truth.owner, truth.since.Sub(o.w.begun))
	}
	o.acting[uid] = append(o.acting[uid], a)
	o.checkAlone(uid, a)
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		list := o.acting[uid]
		for i := range list {
			if list[i] == a {
				o.acting[uid] = append(list[:i:i], list[i+1:]...)
			}
		}
		if len(o.acting[uid]) == 0 {
			delete(o.acting, uid)
		}
	}
}

// checkAlone is P1: nobody else acts on the object.
func (o *oracle) checkAlone(uid types.UID, a *action) {
	for _, b := range o.acting[uid] {
		if a != b && a.counted && b.counted && o.w.synchronous() {
			o.breach("P1", "%s and %s reconcile %s at the same time", a.p.name, b.p.name, o.roots[uid].name)
		}
	}
}

// childWasThere is called by a reconcile that wanted to make the child of its root, because its cache did not show one, and found that
// it exists. The caches of an owner have to show what former owners have made before the root changed hands.
func (o *oracle) childWasThere(p *process, root *corev1.Secret) {
	o.mu.Lock()
	defer o.mu.Unlock()
	made, truth := o.made[root.UID], o.roots[root.UID]
	o.w.tell("%s did not see the child of %s, which %q made", p.name, root.Name, made.shard)
	if o.w.synchronous() && !p.frozen && truth != nil && truth.owner == p.shard && made.shard != "" && made.shard != p.shard && made.at.Before(truth.since) {
		o.breach("P1", "%s did not see the child that %s made for %s before that changed hands", p.name, made.shard, root.Name)
	}
}

// freeze, thaw and die tell of a process that is paused, continued or killed.
func (o *oracle) freeze(p *process) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p.frozen = true
	o.count(p, false)
}

func (o *oracle) thaw(p *process) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.frozen = false; p.worker == nil || p.dead {
		return
	}
	p.troubled = time.Now()
	o.count(p, p.worker.Active())
}

func (o *oracle) die(p *process) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p.dead = true
	o.count(p, false)
}

// count makes the reconciles that go on in a process count, or not: of one that is dead nothing is left, and one that is paused does
// nothing, but for what it writes later.
func (o *oracle) count(p *process, counted bool) {
	for uid, list := range o.acting {
		for _, a := range list {
			if a.p == p {
				if a.counted = counted; counted {
					o.checkAlone(uid, a)
				}
			}
		}
	}
}

// disturb notes that something begins to go wrong; subject is the shard that it is about, if any.
func (o *oracle) disturb(s *step, subject string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	calm := o.calm()
	o.troubles++
	o.calmSince, o.alone, o.subject = time.Now(), nil, ""
	if calm {
		o.alone, o.subject = s, subject
	}
}

// mended notes that what s began is over.
func (o *oracle) mended(s *step) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.troubles--
	o.calmSince = time.Now()
	if o.alone != s || s.what != simJoin && s.what != simLeave {
		o.alone = nil
	}
}

// notAlone notes that more has happened than the one thing that had been all.
func (o *oracle) notAlone() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.alone = nil
}

// checkCalm is P3, and what else must hold when nothing has gone wrong for long: every root has a live owner and rests, every child
// is with its root, and all work is done.
func (o *oracle) checkCalm() {
	o.mu.Lock()
	calm := o.calm()
	o.mu.Unlock()
	if !calm {
		return
	}
	for _, text := range o.w.unwell() {
		o.mu.Lock()
		o.breach("P3", "%s, %s after the last trouble", text, time.Since(o.calmSince))
		o.mu.Unlock()
	}
}

// checkCrash is P3 with its exact time, after the crash of a worker when nothing else has happened.
func (o *oracle) checkCrash(s *step) {
	o.mu.Lock()
	alone := o.alone == s && o.w.equal() && !o.waits()
	o.mu.Unlock()
	if !alone {
		return
	}
	for _, text := range o.w.unowned() {
		o.mu.Lock()
		o.breach("P3", "%s %s after a crash", text, o.w.now()-s.at)
		o.mu.Unlock()
	}
}

// waits says whether somebody has the Lease of his shard, and does not act yet, as he had to create it. The lock is held.
func (o *oracle) waits() bool {
	for _, p := range o.w.processes {
		if p.worker == nil || p.dead {
			continue
		}
		if heartbeat := p.worker.heartbeat.Load(); heartbeat != nil && o.holders[p.shard] == heartbeat.Identity() && !p.worker.Active() {
			return true
		}
	}
	return false
}

// calm says whether nothing has gone wrong for so long that all must be well.
func (o *oracle) calm() bool { return o.troubles == 0 && time.Since(o.calmSince) > o.w.settleTime() }

// checkStill is P8 and P5: without a reason nothing moves; when a shard joins, everything that moves goes to it; when one
// leaves, everything that moves is its.
func (o *oracle) checkStill(was, is *rootTruth) {
	if was.owner == "" || is.owner == "" || o.w.plan.load == nil || !o.w.synchronous() {
		return // where load is measured, the manager evens it out; where clocks differ that much, it may take for dead who lives
	}
	if o.calm() {
		o.breach("P8", "%s moves (%q drain %q → %q drain %q), and nothing has happened for %s", is.name, was.owner, was.drain, is.owner, is.drain, time.Since(o.calmSince))
	}
	if o.alone == nil || is.owner == was.owner {
		return
	}
	switch shard := o.subject; {
	case o.alone.what == simJoin && is.owner != shard:
		o.breach("P5", "%s moves from %s to %s, when %s joins", is.name, was.owner, is.owner, shard)
	case o.alone.what == simLeave && was.owner != shard:
		o.breach("P5", "%s moves from %s to %s, when %s leaves", is.name, was.owner, is.owner, shard)
	}
}

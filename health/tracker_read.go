package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"
)

// watchSeconds is for how long one watch is asked for. A new one goes on where
// it ended.
const watchSeconds = 300

// read makes one read of the Leases: a list of all of them when it is needed,
// and otherwise of a single one, as evidence of being connected.
func (t *Tracker) read(ctx context.Context) {
	t.mu.Lock()
	begun, sequence, full := time.Now(), t.sequence, t.needsFullList()
	t.mu.Unlock()

	options := metav1.ListOptions{LabelSelector: t.selector}
	if !full {
		options.Limit = 1
	}
	request, cancel := context.WithTimeout(ctx, t.currentTiming().RequestTimeout())
	defer cancel()
	list, err := t.leases.List(request, options)
	if ctx.Err() == nil {
		t.logRead(ctx, err)
	}
	if err != nil {
		return
	}
	t.mu.Lock()
	if full {
		t.applyList(list, begun, sequence)
	}
	t.detector.Read(begun, time.Now())
	t.mu.Unlock()
	if full {
		select {
		case <-t.listed: // an older one that nobody has taken
		default:
		}
		t.listed <- list.ResourceVersion
	}
}

// logRead tells of the first read that failed, of every tenth in a row, and of
// the end of it.
func (t *Tracker) logRead(ctx context.Context, err error) {
	logger := klog.FromContext(ctx)
	switch {
	case err != nil:
		if t.readFailures++; t.readFailures%10 == 1 {
			logger.Error(err, "Could not read the Leases of the ring, will try again", "failures", t.readFailures)
		}
	case t.readFailures > 0:
		logger.Info("Reading the Leases of the ring works again", "failures", t.readFailures)
		t.readFailures = 0
	}
}

// needsFullList says whether a look at all Leases is worth its price: there is
// no watch, or it is time to check on it, or somebody has been quiet for long
// enough that the watch, too, may be what is dead. t.mu is held.
func (t *Tracker) needsFullList() bool {
	now := time.Now()
	if !t.synced || !t.watching || now.Sub(t.lastFull) >= t.timing.LeaseDuration {
		return true
	}
	for _, id := range t.detector.IDs() {
		if t.detector.quiet(id, now) {
			return true
		}
	}
	return false
}

// applyList takes in a list that was begun when the sequence was as given. What
// was learned about a Lease meanwhile is newer. t.mu is held.
func (t *Tracker) applyList(list *coordinationv1.LeaseList, begun time.Time, sequence int64) {
	now := time.Now()
	present := make(map[string]bool, len(list.Items))
	for i := range list.Items {
		l := &list.Items[i]
		present[l.Name] = true
		if tomb, ok := t.gone[l.Name]; ok && tomb.sequence > sequence {
			continue
		}
		if e := t.entries[l.Name]; e == nil || e.sequence <= sequence {
			t.apply(l.Name, l, begun, now)
		}
	}
	for _, id := range t.detector.IDs() {
		if e := t.entries[id]; !present[id] && (e == nil || e.sequence <= sequence) {
			// Not in the list is not the same as not there: it may have lost its
			// label. Only a read of the name itself confirms that it is gone.
			t.apply(id, nil, time.Time{}, now)
		}
	}
	for id, tomb := range t.gone {
		if tomb.sequence <= sequence {
			delete(t.gone, id)
		}
	}
	t.synced, t.lastFull = true, begun
}

// apply makes l, or its absence, what is known about id. begun is zero for what
// came by a watch. t.mu is held.
func (t *Tracker) apply(id string, l *coordinationv1.Lease, begun, now time.Time) {
	e := t.entries[id]
	if e == nil {
		e = &entry{}
		t.entries[id] = e
	}
	ours := e.lease != nil && RecordOf(e.lease).Holder == t.holder
	e.lease = l
	e.foreign = e.foreign && l == nil && begun.IsZero()
	if l == nil {
		t.detector.Observe(id, Observation{Missing: true, Begun: begun}, now)
		if _, held := t.held[id]; ours && !held {
			t.detector.Forget(id) // our own deletion, seen late
		}
		if state, since := t.detector.State(id); state == Unknown && since.IsZero() {
			delete(t.entries, id)
		}
		return
	}
	t.detector.Observe(id, Observation{Record: RecordOf(l), Begun: begun}, now)
	if RecordOf(l).Holder != t.holder {
		delete(t.held, id)
	}
}

// confirmDeaths reads the Lease of everyone whom the Detector would declare
// dead, at most every half retry period. It says whether anything was learned.
func (t *Tracker) confirmDeaths(ctx context.Context) bool {
	learned := false
	for _, id := range t.dueForConfirmation() {
		_, err := t.look(ctx, id) // judged each on its own: a confirmation is only good for a while
		learned = learned || err == nil
		if err != nil && !errors.Is(err, ErrForeignLease) && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Could not confirm the death of a shard", "shard", id)
		}
	}
	return learned
}

func (t *Tracker) dueForConfirmation() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, ids := time.Now(), t.confirm
	t.confirm = nil
	return slices.DeleteFunc(ids, func(id string) bool {
		e := t.entries[id]
		if e == nil {
			e = &entry{}
			t.entries[id] = e
		}
		if now.Sub(e.asked) < t.timing.RetryPeriod()/2 {
			return true
		}
		e.asked = now
		return false
	})
}

// look reads one Lease from the server, takes in what it says and publishes
// what follows. It returns nil for a Lease that is missing.
func (t *Tracker) look(ctx context.Context, id string) (*coordinationv1.Lease, error) {
	t.mu.Lock()
	begun, sequence := time.Now(), t.sequence
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, t.currentTiming().RequestTimeout())
	defer cancel()
	l, err := t.leases.Get(ctx, id, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		l, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the Lease %s: %w", id, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[id]; e != nil && e.sequence > sequence {
		return e.lease, nil
	}
	if l != nil && RecordOf(l).Holder != t.holder {
		if err := checkRing(l, t.options.Ring); err != nil {
			if e := t.entries[id]; e != nil && !e.foreign {
				klog.FromContext(ctx).Error(err, "The name of a shard is in use", "shard", id)
				e.foreign = true
				t.evaluate()
			}
			return nil, err
		}
	}
	t.apply(id, l, begun, time.Now())
	t.evaluate()
	return l, nil
}

// watch keeps a watch open, so that news arrive at once. It is only a faster
// way to learn what read would learn.
func (t *Tracker) watch(ctx context.Context) {
	version, forbidden := "", false
	for ctx.Err() == nil {
		if version == "" {
			t.setWatching(false)
			select {
			case version = <-t.listed:
			case <-ctx.Done():
				return
			}
		}
		begun := time.Now()
		next, err := t.watchFrom(ctx, version)
		t.setWatching(false)
		switch {
		case err == nil:
			version = next
		case apierrors.IsResourceExpired(err) || apierrors.IsGone(err):
			version = ""
			t.lost()
			continue
		default:
			version = next
			if apierrors.IsForbidden(err) && !forbidden {
				forbidden = true // reading goes on without, which costs the server more
				klog.FromContext(ctx).Error(err, "A role is missing, bind it to this account: the Leases of the ring can't be watched")
			} else if ctx.Err() == nil {
				klog.FromContext(ctx).V(2).Info("The watch of the Leases ended; opening it again", "err", err)
			}
		}
		// No more than one watch per half retry period, however often it breaks.
		select {
		case <-time.After(time.Until(begun.Add(t.currentTiming().RetryPeriod() / 2))):
		case <-ctx.Done():
		}
	}
}

// lost notes that events may have been missed.
func (t *Tracker) lost() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.detector.Gap(time.Now())
	select {
	case <-t.listed: // as old as what was refused
	default:
	}
}

func (t *Tracker) setWatching(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watching = on
}

// watchFrom watches until the watch ends, and returns where to go on.
func (t *Tracker) watchFrom(ctx context.Context, version string) (string, error) {
	seconds := int64(watchSeconds)
	w, err := t.leases.Watch(ctx, metav1.ListOptions{
		LabelSelector:       t.selector,
		ResourceVersion:     version,
		AllowWatchBookmarks: true,
		TimeoutSeconds:      &seconds,
	})
	if err != nil {
		return version, err
	}
	defer w.Stop()
	t.setWatching(true)
	for {
		var event watch.Event
		var ok bool
		select {
		case <-ctx.Done():
			return version, ctx.Err()
		case event, ok = <-w.ResultChan():
		}
		if !ok {
			return version, nil
		}
		if event.Type == watch.Error {
			return version, apierrors.FromObject(event.Object)
		}
		l, isLease := event.Object.(*coordinationv1.Lease)
		if !isLease {
			return version, errors.New("the watch sent something that is not a Lease")
		}
		version = l.ResourceVersion
		if event.Type != watch.Bookmark {
			t.event(event.Type, l)
		}
	}
}

// event takes in one event of a watch, unless it is older than what is known.
func (t *Tracker) event(kind watch.EventType, l *coordinationv1.Lease) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tomb, ok := t.gone[l.Name]; ok && !newer(l.ResourceVersion, tomb.version) {
		return
	}
	if e := t.entries[l.Name]; e != nil && e.lease != nil && !newer(l.ResourceVersion, e.lease.ResourceVersion) {
		return
	}
	if kind == watch.Deleted {
		l = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: l.Name}}
		t.apply(l.Name, nil, time.Time{}, time.Now())
	} else {
		t.apply(l.Name, l, time.Time{}, time.Now())
	}
	t.sequence++
	if e := t.entries[l.Name]; e != nil {
		e.sequence = t.sequence
	}
	t.poke()
}

// newer says whether resource version a is after b. What cannot be compared is
// taken for new: an event too many is better than one that is lost.
func newer(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err != nil || order > 0
}

// isOutage says whether a request failed for reasons of the server or the way
// to it.
func isOutage(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	return status.Status().Code >= 500 || apierrors.IsTooManyRequests(err)
}

package sharding

import (
	"fmt"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// running returns the processes of the shards, or the managers, that run undisturbed.
func (w *world) running(workers bool) []*process {
	w.oracle.mu.Lock()
	defer w.oracle.mu.Unlock()
	var list []*process
	for _, p := range w.processes {
		if (p.shard != "") == workers && !p.dead && !p.leaving && !p.frozen && !p.cut {
			list = append(list, p)
		}
	}
	return list
}

// victim chooses the process that the step is about; nil if there is none.
func (w *world) victim(s *step, workers bool) *process {
	list := w.running(workers)
	if len(list) == 0 {
		return nil
	}
	if !workers {
		for _, p := range list {
			if p.manager.Leading() {
				return p
			}
		}
	}
	return list[s.who%len(list)]
}

// anyone chooses among workers and managers.
func (w *world) anyone(s *step) *process {
	list := append(w.running(true), w.running(false)...)
	if len(list) == 0 {
		return nil
	}
	return list[s.who%len(list)]
}

// mark changes what is known about a process.
func (w *world) mark(p *process, change func()) {
	w.oracle.mu.Lock()
	defer w.oracle.mu.Unlock()
	change()
	p.troubled = time.Now()
}

// begin notes a trouble with p, which may be nil; the func that it returns mends it at the end.
func (w *world) trouble(s *step, p *process, text string) (mend func(do func())) {
	subject := ""
	if p != nil {
		subject = p.shard
		text += " " + p.name
	}
	w.oracle.disturb(s, subject)
	w.struck[s.what]++
	w.tell("%s: %s", s.what, text)
	return func(do func()) {
		w.agenda.add(w.now()+s.lasts, func() {
			do()
			if p != nil {
				w.mark(p, func() {})
			}
			w.tell("%s is over: %s", s.what, text)
			w.oracle.mended(s)
		})
	}
}

// strike makes the step happen, or another if there is no process left that it could happen to.
func (w *world) strike(s *step) {
	w.oracle.checkCalm()
	before := w.struck[s.what]
	w.take(s)
	if w.struck[s.what] == before {
		s.what = simCompaction
		w.take(s)
	}
}

func (w *world) take(s *step) {
	switch s.what {
	case simCrash, simCrashAtWrite, simRestart, simRollOut, simLeave, simJoin, simTwin:
		w.strikeLife(s)
	case simPauseShort, simPauseLong, simPauseInWork, simManagerPause:
		w.strikePause(s)
	case simManagerCrash:
		w.strikeManager(s)
	case simOutage, simCompaction, simLeaseDeleted, simInstanceDeleted:
		w.strikeServer(s)
	default:
		w.strikeNetwork(s)
	}
}

func (w *world) strikeLife(s *step) {
	p := w.victim(s, true)
	if s.what == simJoin {
		if len(w.running(true)) < w.most {
			w.trouble(s, w.join(), "joins")(func() {})
		}
		return
	}
	if p == nil {
		return
	}
	few := len(w.running(true)) <= 2 && s.lasts > 0 // a ring that is to shrink does
	switch s.what {
	case simCrash:
		w.crash(p)
		mend := w.trouble(s, p, "kill")
		w.agenda.add(s.at+w.leaseFor+2*w.leaseFor*2/15+time.Second, func() { w.oracle.checkCrash(s) })
		mend(func() { w.replace(p, s.flag, few) })
	case simCrashAtWrite:
		p.client.CrashAtWrite(s.n, s.flag, func() { w.gone(p) })
		w.trouble(s, p, fmt.Sprintf("kill at write %d", s.n))(func() {
			w.crash(p)
			w.replace(p, true, few)
		})
	case simRestart:
		w.stopProcess(p)
		w.trouble(s, p, "stop")(func() { w.startWorker(p.shard, s.flag) })
	case simRollOut:
		mend := w.trouble(s, nil, "rolling restart")
		all := w.running(true)
		for i, p := range all {
			w.agenda.add(w.now()+time.Duration(i)*s.lasts, func() { w.stopProcess(p) })
			w.agenda.add(w.now()+time.Duration(i)*s.lasts+w.leaseFor/8, func() { w.startWorker(p.shard, true) })
		}
		s.lasts = time.Duration(len(all))*s.lasts + w.leaseFor
		mend(func() {})
	case simLeave:
		if len(w.running(true)) < 2 {
			return
		}
		w.stopProcess(p)
		w.trouble(s, p, "leave")(func() {
			if few {
				w.join()
				w.oracle.notAlone() // what moves from now on may go to it
			}
		})
	case simTwin:
		second := w.startWorker(p.shard, s.flag)
		if s.n%3 == 0 { // and somebody deletes the Lease that it waits for
			w.agenda.add(w.now()+s.lasts/2, func() { _ = w.server.Delete(leases, simNamespace, p.shard) })
		}
		w.trouble(s, p, "twin "+second.name+" of")(func() {
			if s.flag {
				w.crash(p)
			} else {
				w.stopProcess(p)
			}
		})
	}
}

// join starts a worker of a new name.
func (w *world) join() *process {
	w.shards++
	return w.startWorker(fmt.Sprintf("s%d", w.shards), w.shards%3 == 0)
}

func (w *world) stopProcess(p *process) {
	w.mark(p, func() { p.leaving = true })
	p.stop()
}

// gone notes that a process was killed.
func (w *world) gone(p *process) {
	w.tell("%s is gone", p.name)
	w.oracle.die(p)
	if p.worker != nil {
		p.worker.ring.set(nil) // so that what is left of it does not try to leave in order
	}
	p.stop()
}

func (w *world) crash(p *process) {
	p.client.Crash()
	w.gone(p)
}

// replace starts the next process of a shard that has crashed, or one of another shard, or none.
func (w *world) replace(p *process, back, few bool) {
	switch {
	case back:
		w.startWorker(p.shard, p.keeps)
	case few:
		w.join()
	}
}

func (w *world) strikePause(s *step) {
	p := w.victim(s, s.what != simManagerPause)
	if p == nil {
		return
	}
	mend := w.trouble(s, p, "stop and continue")
	wait := time.Duration(0)
	switch {
	case s.what == simPauseInWork:
		wait = time.Duration(s.n) * 40 * time.Millisecond
		w.poke(len(w.names))
	case s.flag: // with requests and answers on their way
		wait = time.Duration(s.n) * w.leaseFor / 40
		p.client.SetFaults(w.with(nil, w.leaseFor/10))
		w.poke(1)
		w.make(1)
	}
	s.lasts += wait
	w.agenda.add(w.now()+wait, func() {
		w.oracle.freeze(p)
		p.client.Freeze()
	})
	mend(func() {
		w.oracle.thaw(p)
		p.client.Thaw()
		p.client.SetFaults(w.noise)
		if s.n%3 == 0 { // its requests are answered before it hears what has changed
			p.client.StallWatches(w.leaseFor / 4)
		}
	})
}

func (w *world) strikeManager(s *step) {
	p := w.victim(s, false)
	if p == nil {
		return
	}
	if s.n%3 > 0 { // in the middle of something
		w.poke(0)
		p.client.CrashAtWrite(s.n, s.flag, func() { w.gone(p) })
	} else {
		w.crash(p)
	}
	w.trouble(s, p, "kill")(func() {
		w.crash(p)
		w.startManager()
	})
}

func (w *world) strikeServer(s *step) {
	switch s.what {
	case simOutage:
		w.server.SetDown(true)
		w.agenda.add(w.now()+min(s.lasts, 20*time.Second), w.server.SetSilent) // no effect if it is up again
		w.trouble(s, nil, "server is down")(func() {
			if s.flag {
				w.server.Compact()
			}
			w.server.SetDown(false)
		})
	case simCompaction:
		w.server.Compact()
		w.trouble(s, nil, "compaction")(func() {})
		for _, p := range append(w.running(true), w.running(false)...) {
			p.client.DropWatches()
		}
	case simLeaseDeleted:
		w.remove(s, leases)
	case simInstanceDeleted:
		w.remove(s, instances)
	}
}

// remove deletes what belongs to a shard, as a careless person does.
func (w *world) remove(s *step, gvr schema.GroupVersionResource) {
	p := w.victim(s, true)
	if p == nil || w.server.Get(gvr, simNamespace, p.shard) == nil {
		return
	}
	w.trouble(s, nil, gvr.Resource+" deleted: "+p.shard)(func() {})
	if err := w.server.Delete(gvr, simNamespace, p.shard); err != nil {
		w.Error(err)
	}
}

func (w *world) strikeNetwork(s *step) {
	var list []*process
	switch {
	case s.what == simEverybodySilent:
		list = w.running(true)
	case s.what == simCutLink:
		list = append(list, w.victim(s, true))
	case s.what == simManagerCut:
		list = append(list, w.victim(s, false))
	case s.n%6 == 0:
		list = append(w.running(true), w.running(false)...)
	default:
		list = append(list, w.anyone(s))
	}
	if len(list) == 0 || list[0] == nil {
		return
	}
	text := fmt.Sprintf("%d processes", len(list))
	if len(list) == 1 {
		text = list[0].name
	}
	mend := w.trouble(s, nil, text)
	if s.flag {
		w.poke(len(w.names)) // there is work that can't be ended
	}
	for _, p := range list {
		w.mark(p, func() { p.cut = true })
		w.disturbLink(s, p.client)
	}
	mend(func() {
		for _, p := range list {
			w.mark(p, func() { p.cut = false })
			p.client.SetLink(memapi.Connected)
			p.client.SetFaults(w.noise)
			p.client.DelayWatches(0)
			p.client.StaleReads(0)
		}
	})
}

func (w *world) disturbLink(s *step, c *memapi.Client) {
	switch s.what {
	case simCutLink, simManagerCut, simEverybodySilent:
		c.SetLink(memapi.Link(1 + s.n%3))
	case simBurst:
		c.SetFaults(w.with(map[memapi.Fault]float64{bursts[s.n%len(bursts)]: .5}, 0))
	case simSlowNetwork:
		c.SetFaults(w.with(nil, w.leaseFor/10))
	case simWatchesDropped:
		c.DropWatches()
	case simWatchesStalled:
		c.StallWatches(s.lasts)
	case simWatchesLate:
		c.DelayWatches(s.lasts / 2)
	case simStaleLists:
		c.StaleReads(w.leaseFor)
		c.DropWatches()
	}
}

// with is the noise, and more.
func (w *world) with(rates map[memapi.Fault]float64, latency time.Duration) memapi.Faults {
	f := w.noise
	f.Rates = maps.Clone(f.Rates)
	if f.Rates == nil {
		f.Rates = map[memapi.Fault]float64{}
	}
	maps.Copy(f.Rates, rates)
	f.MaxLatency = max(f.MaxLatency, latency)
	return f
}

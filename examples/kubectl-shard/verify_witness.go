package main

import (
	"strings"
	"time"

	"github.com/shard-io/shard-controller/health"
)

// witness sees the Leases of a ring again and again. A shard is alive while its record changes, whatever the clock of anybody else says.
type witness struct {
	lease   time.Duration
	records map[string]leaseRecord
	changed map[string]time.Time // when a record was first seen to have changed
}

type leaseRecord struct{ holder, renewed string }

// byShard says whether it is a shard that holds the Lease: not a manager that takes over, and not nobody.
func (r leaseRecord) byShard() bool {
	return r.holder != "" && !strings.HasPrefix(r.holder, health.ManagerPrefix)
}

func newWitness(lease time.Duration) *witness {
	return &witness{lease: lease, records: map[string]leaseRecord{}, changed: map[string]time.Time{}}
}

// observe is told what the Leases say now.
func (w *witness) observe(now time.Time, records map[string]leaseRecord) {
	for shard, record := range records {
		if before, known := w.records[shard]; known && before != record {
			w.changed[shard] = now
		}
	}
	for shard := range w.changed {
		if _, there := records[shard]; !there {
			delete(w.changed, shard)
		}
	}
	w.records = records
}

// known says whether there is a Lease of that name.
func (w *witness) known(shard string) bool {
	_, known := w.records[shard]
	return known
}

// lives says whether the shard renews its Lease.
func (w *witness) lives(now time.Time, shard string) bool {
	at, changed := w.changed[shard]
	return changed && w.records[shard].byShard() && now.Sub(at) <= w.lease
}

// undecided says whether somebody that has not been seen alive may still turn out to be.
func (w *witness) undecided(now time.Time) bool {
	for shard, record := range w.records {
		if record.byShard() && !w.lives(now, shard) {
			return true
		}
	}
	return false
}

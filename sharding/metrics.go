package sharding

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// managerMetrics are what a Manager counts. They are always counted, and only visible if the caller passed a Registerer.
type managerMetrics struct {
	shards         *prometheus.GaugeVec     // ring, state
	loadAverage    *prometheus.GaugeVec     // ring
	shardLoad      *prometheus.GaugeVec     // ring, shard
	unowned        *prometheus.GaugeVec     // ring
	unownedOldest  *prometheus.GaugeVec     // ring
	ringGeneration *prometheus.GaugeVec     // ring
	assignments    *prometheus.CounterVec   // ring, shard
	moves          *prometheus.CounterVec   // ring, cause
	movesInFlight  *prometheus.GaugeVec     // ring
	takeover       *prometheus.HistogramVec // ring
	frozen         *prometheus.GaugeVec     // ring

	imbalance     *prometheus.GaugeVec   // ring
	largestShare  *prometheus.GaugeVec   // ring
	planDecisions *prometheus.CounterVec // ring, reason
	desired       *prometheus.GaugeVec   // ring
	scalings      *prometheus.CounterVec // ring, direction, reason
	scalingRounds *prometheus.CounterVec // ring, reason
	forecastError *prometheus.GaugeVec   // ring, model
	sourceErrors  *prometheus.CounterVec // ring

	migrationSeconds *prometheus.HistogramVec // ring, reason, result
	migrationPhase   *prometheus.HistogramVec // ring, phase
	migrationObjects *prometheus.GaugeVec     // ring, stage
	migrationBytes   *prometheus.GaugeVec     // ring

	stateOrphans    *prometheus.GaugeVec   // ring
	statesCollected *prometheus.CounterVec // ring
	fencedWrites    *prometheus.CounterVec // no labels: all rings are led together

	auditSeconds    *prometheus.HistogramVec // ring
	auditObjects    *prometheus.GaugeVec     // ring
	auditLast       *prometheus.GaugeVec     // ring
	auditErrors     *prometheus.CounterVec   // ring
	auditRepairs    *prometheus.CounterVec   // ring, kind
	auditUnreported *prometheus.GaugeVec     // ring
	coverageGaps    *prometheus.GaugeVec     // ring, kind
	doubleOwners    *prometheus.CounterVec   // ring
}

// newManagerMetrics registers them. leads is asked at each scrape.
func newManagerMetrics(registerer prometheus.Registerer, leads func() bool) (*managerMetrics, error) {
	var b metricsBuilder
	b.live("manager_leading", "1 while this manager is the leader and may write.", nil, func() float64 {
		if leads() {
			return 1
		}
		return 0
	})
	m := &managerMetrics{
		shards:         b.gauge("shards_total", "Shards of the ring by state: Alive, Silent, Dead, Released or Unknown.", "ring", "state"),
		loadAverage:    b.gauge("load_average", "Mean load of the shards that report one; 1 is full.", "ring"),
		shardLoad:      b.gauge("shard_load", "Load of a shard as it reported it last; 1 is full.", "ring", "shard"),
		unowned:        b.gauge("unowned_objects", "Objects of the ring's targets that had no live owner when last looked at.", "ring"),
		unownedOldest:  b.gauge("unowned_oldest_seconds", "For how long the object that has been without a live owner the longest has been seen so.", "ring"),
		ringGeneration: b.gauge("ring_generation", "Number of the ring's slot table; it grows with every change of the table in one manager's term.", "ring"),
		assignments:    b.counter("assignments_total", "Objects that were given their first owner.", "ring", "shard"),
		moves:          b.counter("moves_total", "Objects whose owner was asked to hand them over, or that were taken over, by cause.", "ring", "cause"),
		movesInFlight:  b.gauge("moves_in_flight", "Objects that are to be handed over and have not been yet.", "ring"),
		takeover:       b.seconds("takeover_seconds", "From the declaration of a shard's death to the new owner of its last object.", "ring"),
		frozen:         b.gauge("failure_detection_frozen", "1 while take-overs are held back, as the fault may be the manager's own.", "ring"),
	}
	m.fencedWrites = b.counter("manager_fenced_writes_total", "Requests that a manager did not send, as it did not lead at that moment.")
	m.stateOrphans = b.gauge("state_orphans", "Secrets with states of objects that no object refers to.", "ring")
	m.statesCollected = b.counter("state_orphans_collected_total", "Secrets with states that were deleted as no object had referred to them for long.", "ring")
	m.addAudit(&b)
	m.addMigrations(&b)
	m.addLoad(&b)
	return m, b.register(registerer)
}

// begin shows counters of a ring before they count: one that is first seen at 1 has not increased, for Prometheus.
func (m *managerMetrics) begin(ring string) {
	m.auditErrors.WithLabelValues(ring)
	m.doubleOwners.WithLabelValues(ring)
}

func (m *managerMetrics) addMigrations(b *metricsBuilder) {
	m.migrationSeconds = b.seconds("migration_duration_seconds", "From the first object that was asked for to the end of a ShardMigration, by its reason and by how it ended.", "ring", "reason", "result")
	m.migrationPhase = b.seconds("migration_phase_seconds", "How long a ShardMigration that somebody asked for was in a phase.", "ring", "phase")
	m.migrationObjects = b.gauge("migration_objects", "Objects of the ShardMigration that is under way, by stage.", "ring", "stage")
	m.migrationBytes = b.gauge("migration_state_bytes", "Processing state on objects of the ShardMigration that is under way, not yet acknowledged by their new owners.", "ring")
}

func (m *managerMetrics) addLoad(b *metricsBuilder) {
	m.imbalance = b.gauge("imbalance_ratio", "Largest load of a shard over the mean; 1 is even.", "ring")
	m.largestShare = b.gauge("largest_object_share", "Part of the whole load that the largest slot is, which cannot be divided.", "ring")
	m.planDecisions = b.counter("plan_decisions_total", "Rounds of the planner, by what they came to.", "ring", "reason")
	m.desired = b.gauge("desired_shards", "Shards that there should be, after windows and limits.", "ring")
	m.scalings = b.counter("scaling_operations_total", "Decisions to change the number of shards, by direction (up or down) and reason.", "ring", "direction", "reason")
	m.scalingRounds = b.counter("scaling_rounds_total", "Rounds of the scaler, by what they came to.", "ring", "reason")
	m.sourceErrors = b.counter("metric_source_errors_total", "Calls of the ring's MetricSource that failed, or brought something that can't be used.", "ring")
	m.forecastError = b.gauge("forecast_error", "Mean of how far the forecasts of the load were off, in full shards, by model.", "ring", "model")
}

func (m *managerMetrics) addAudit(b *metricsBuilder) {
	m.auditSeconds = b.seconds("audit_pass_seconds", "Duration of complete passes of the coverage audit, without the time for which they held back.", "ring")
	m.auditObjects = b.gauge("audit_objects", "Objects, with children, that the last complete pass of the audit looked at.", "ring")
	m.auditLast = b.gauge("audit_last_pass_timestamp_seconds", "When the last complete pass of the audit ended, in seconds since 1970.", "ring")
	m.auditErrors = b.counter("audit_errors_total", "Passes of the audit that could not look at everything.", "ring")
	m.auditRepairs = b.counter("audit_repairs_total", "Writes of the audit to mend a gap, by the kind of the gap.", "ring", "kind")
	m.auditUnreported = b.gauge("audit_unreported_shards", "Live shards that do not report what they hold.", "ring")
	m.coverageGaps = b.gauge("coverage_gaps", "Objects with a proven gap in their ownership, as of the last complete pass of the audit, by kind.", "ring", "kind")
	m.doubleOwners = b.counter("double_owner_detected_total", "Objects that two shards reported to hold at the same time.", "ring")
}

// workerMetrics are what a Worker counts. They are always counted, and only visible if the caller passed a Registerer.
type workerMetrics struct {
	active           *prometheus.GaugeVec     // ring
	owned            *prometheus.GaugeVec     // ring, resource
	reconciles       *prometheus.CounterVec   // ring, resource, result
	reconcileSeconds *prometheus.HistogramVec // ring, resource
	setAside         *prometheus.GaugeVec     // ring, resource
	waiting          *prometheus.GaugeVec     // ring, resource
	waitingOldest    *prometheus.GaugeVec     // ring, resource
	handover         *prometheus.HistogramVec // ring
	handoverForced   *prometheus.CounterVec   // ring
	leaseRenewErrors *prometheus.CounterVec   // ring
	fencedWrites     *prometheus.CounterVec   // ring
	fenceEnforced    *prometheus.GaugeVec     // ring
	stateBytes       *prometheus.HistogramVec // ring, operation
	stateRefused     *prometheus.CounterVec   // ring, reason
	stateUnusable    *prometheus.CounterVec   // ring, reason
}

// newWorkerMetrics registers them. leaseLeft is asked at each scrape.
func newWorkerMetrics(registerer prometheus.Registerer, ring string, leaseLeft func() float64) (*workerMetrics, error) {
	var b metricsBuilder
	b.live("lease_remaining_ratio", "How much is left of the time for which a renewal of its Lease gives a shard the right to act: 1 after a renewal, 0 without the right.",
		prometheus.Labels{"ring": ring}, leaseLeft)
	m := &workerMetrics{
		active:           b.gauge("shard_active", "1 while this process has the right to act for its shard.", "ring"),
		owned:            b.gauge("owned_objects", "Objects that this shard owns.", "ring", "resource"),
		reconciles:       b.counter("reconciles_total", "Reconciles by result: success, requeue, error, terminal, panic or cancelled.", "ring", "resource", "result"),
		reconcileSeconds: b.seconds("reconcile_seconds", "Duration of reconciles.", "ring", "resource"),
		setAside:         b.gauge("set_aside_objects", "Objects that failed so often that they are retried rarely.", "ring", "resource"),
		waiting:          b.gauge("waiting_objects", "Objects that wait for a reconcile that is due.", "ring", "resource"),
		waitingOldest:    b.gauge("waiting_oldest_seconds", "For how long the object that has waited the longest for a reconcile has been due.", "ring", "resource"),
		handover:         b.seconds("handover_seconds", "From seeing the request to hand an object over to its new owner.", "ring"),
		handoverForced:   b.counter("handover_forced_total", "Hand-overs that had to cancel a reconcile in flight.", "ring"),
		leaseRenewErrors: b.counter("lease_renew_errors_total", "Failed attempts to renew the shard's Lease.", "ring"),
		fencedWrites:     b.counter("fenced_writes_total", "Requests that were refused in the process, as it had no right to act.", "ring"),
		fenceEnforced:    b.gauge("fence_enforced", "1 if the API server was found to refuse what this shard may not write, when it was checked last.", "ring"),
		stateBytes:       b.bytes("state_bytes", "Size of the states of objects by operation: export, import or checkpoint.", "ring", "operation"),
		stateRefused:     b.counter("state_refused_total", "Objects that could not be taken over or handed over because of their state.", "ring", "reason"),
		stateUnusable:    b.counter("state_unusable_total", "Objects that went on without their state, which was put aside.", "ring", "reason"),
	}
	// Shown from the beginning on: a shard that has never been active is not to be missed, nor is the first increase of a counter.
	m.active.WithLabelValues(ring)
	for _, c := range []*prometheus.CounterVec{m.handoverForced, m.leaseRenewErrors, m.fencedWrites} {
		c.WithLabelValues(ring)
	}
	return m, b.register(registerer)
}

// metricsBuilder makes metrics of the library's name space and remembers them for their registration.
type metricsBuilder struct {
	made []prometheus.Collector
}

func (b *metricsBuilder) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "shard_controller", Name: name, Help: help}, labels)
	b.made = append(b.made, g)
	return g
}

func (b *metricsBuilder) counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "shard_controller", Name: name, Help: help}, labels)
	b.made = append(b.made, c)
	return c
}

// live makes a gauge that is read when it is asked for.
func (b *metricsBuilder) live(name, help string, labels prometheus.Labels, read func() float64) {
	b.made = append(b.made, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "shard_controller", Name: name, Help: help, ConstLabels: labels}, read))
}

// seconds makes a histogram from a millisecond to about two minutes.
func (b *metricsBuilder) seconds(name, help string, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "shard_controller", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 18),
	}, labels)
	b.made = append(b.made, h)
	return h
}

// bytes makes a histogram from 64 bytes to 16 MiB.
func (b *metricsBuilder) bytes(name, help string, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "shard_controller", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(64, 4, 10),
	}, labels)
	b.made = append(b.made, h)
	return h
}

// register makes the metrics visible; with a nil registerer they stay private. Two Workers or two Managers in one
// process need a Registerer each, for example by prometheus.WrapRegistererWith.
func (b *metricsBuilder) register(registerer prometheus.Registerer) error {
	if registerer == nil {
		return nil
	}
	for _, c := range b.made {
		if err := registerer.Register(c); err != nil {
			return fmt.Errorf("registerer: %w", err)
		}
	}
	return nil
}

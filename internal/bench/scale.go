//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	listers "github.com/shard-io/shard-controller/generated/listers/shard/v1"
)

// scaleTrial is when the steps of one answer to more load were seen.
type scaleTrial struct {
	began       time.Time // the worker was told to report more
	reported    time.Time // its ShardInstance says so: the load is above the threshold, with its tolerance
	recommended time.Time // the ShardConfig asks for more shards
	decided     time.Time // it wants them, after the sustained period
}

const (
	sustained = time.Second
	// threshold is the mean load above which shards are added: 0.8, and a tenth.
	threshold = 0.88
	// loads are smoothed over 10 s. So they begin not far below the threshold, and go back towards 0 until they are there again.
	restLoad, highLoad = 0.75, 2
	backAt             = 0.82
	// scaleRings is how many rings take their turns side by side, each with one shard: most of the time is spent with waiting until a load has fallen.
	scaleRings = 4
)

// measureScale makes the loads of some rings rise, again and again, and measures when that is decided on. Nothing is scaled.
func measureScale(ctx context.Context, c *cluster, s settings) (table, error) {
	turns := (s.steps + scaleRings - 1) / scaleRings
	t := table{Title: fmt.Sprintf("Load above the threshold → decision, %d times in each of %d rings", turns, scaleRings)}
	if err := c.createNamespace(ctx, ring, false); err != nil {
		return t, err
	}
	rings := make([]*scaledRing, scaleRings)
	for i := range rings {
		rings[i] = &scaledRing{cluster: c, name: fmt.Sprintf("scale-%d", i+1), file: filepath.Join(c.dir, fmt.Sprintf("load-%d", i+1))}
		if err := rings[i].create(ctx); err != nil {
			return t, err
		}
	}
	if _, err := c.startManager(); err != nil {
		return t, err
	}
	for _, r := range rings {
		if err := r.start(ctx); err != nil {
			return t, err
		}
	}
	var mu sync.Mutex
	var toReport, toRecommend, toDecide, whole []float64
	err := parallel(ctx, scaleRings, scaleRings, func(i int) error {
		for range turns {
			trial, err := rings[i].step(ctx)
			if err != nil {
				return err
			}
			mu.Lock()
			toReport = append(toReport, trial.reported.Sub(trial.began).Seconds())
			toRecommend = append(toRecommend, max(0, trial.recommended.Sub(trial.reported).Seconds()))
			toDecide = append(toDecide, max(0, trial.decided.Sub(trial.reported).Seconds()))
			whole = append(whole, trial.decided.Sub(trial.began).Seconds())
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return t, err
	}
	t.add("load in a ShardInstance above the threshold → status.recommendedShards, p50", median(toRecommend), "s")
	t.add("… p99", quantile(toRecommend, 0.99), "s", "< 5")
	t.add(fmt.Sprintf("… → status.desiredShards, with %v of sustainedPeriod, p50", sustained), median(toDecide), "s")
	t.add("… p99", quantile(toDecide, 0.99), "s", "< 5")
	t.add("load rises in the worker → above the threshold in its ShardInstance (half-life 10 s), p50", median(toReport), "s")
	t.add("… → status.desiredShards, p50", median(whole), "s")
	t.add("… p99", quantile(whole, 0.99), "s")
	return t, nil
}

// scaledRing is a ring with one shard, which reports the load that is in a file. It is seen through watches.
type scaledRing struct {
	*cluster
	name, file string
	configs    listers.ShardConfigLister
	instances  listers.ShardInstanceLister
}

// create makes the ring. No two have a target in common, and there are no objects.
func (r *scaledRing) create(ctx context.Context) error {
	config := &v1.ShardConfig{ObjectMeta: metav1.ObjectMeta{Name: r.name, Namespace: ring}}
	config.Spec.HealthCheckInterval = &metav1.Duration{Duration: r.settings.lease}
	config.Spec.Targets = []v1.Target{{Resource: "secrets", NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{selected: r.name}}}}
	config.Spec.Scaling = &v1.Scaling{SustainedPeriod: metav1.Duration{Duration: sustained}, Forecast: v1.ForecastNone}
	_, err := r.shards.ShardV1().ShardConfigs(ring).Create(ctx, config, metav1.CreateOptions{})
	return err
}

// start starts the worker and the watches, and returns when the worker is seen alive.
func (r *scaledRing) start(ctx context.Context) error {
	if err := writeLoad(r.file, restLoad); err != nil {
		return err
	}
	factory := r.informers()
	r.configs, r.instances = factory.Shard().V1().ShardConfigs().Lister(), factory.Shard().V1().ShardInstances().Lister()
	if err := r.startInformers(ctx, factory); err != nil {
		return err
	}
	if _, err := r.startWorker(ring, r.name, false, "--ring="+r.name, "--load="+r.file); err != nil {
		return err
	}
	return r.await(ctx, func(_ float64, s v1.ShardConfigStatus) bool { return s.ReadyShards == 1 })
}

func writeLoad(file string, load float64) error {
	next := file + ".next"
	if err := os.WriteFile(next, fmt.Appendf(nil, "%g", load), 0o644); err != nil {
		return err
	}
	return os.Rename(next, file)
}

// await waits until load and status are so.
func (r *scaledRing) await(ctx context.Context, so func(load float64, status v1.ShardConfigStatus) bool) error {
	ticks := time.NewTicker(2 * time.Millisecond)
	defer ticks.Stop()
	for {
		config, err := r.configs.ShardConfigs(ring).Get(r.name)
		instance, missing := r.instances.ShardInstances(ring).Get(r.name)
		if err == nil {
			load := 0.0
			if missing == nil && instance.Status.Load != nil {
				load = instance.Status.Load.Float64()
			}
			if so(load, config.Status) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: waited in vain: %w", r.name, context.Cause(ctx))
		case <-ticks.C:
		}
	}
}

// step lets the load rise, and fall again when that was decided on.
func (r *scaledRing) step(ctx context.Context) (scaleTrial, error) {
	var trial scaleTrial
	err := r.await(ctx, func(load float64, s v1.ShardConfigStatus) bool {
		return load > 0 && load <= backAt && s.RecommendedShards == 1 && s.DesiredShards == 1
	})
	if err != nil {
		return trial, err
	}
	trial.began = time.Now()
	if err := writeLoad(r.file, highLoad); err != nil {
		return trial, err
	}
	err = r.await(ctx, func(load float64, s v1.ShardConfigStatus) bool {
		now := time.Now()
		for _, mark := range []struct {
			at *time.Time
			is bool
		}{
			{&trial.reported, load > threshold}, {&trial.recommended, s.RecommendedShards > 1}, {&trial.decided, s.DesiredShards > 1},
		} {
			if mark.is && mark.at.IsZero() {
				*mark.at = now
			}
		}
		return !trial.decided.IsZero() && !trial.reported.IsZero()
	})
	if err != nil {
		return trial, err
	}
	if err := writeLoad(r.file, 0); err != nil {
		return trial, err
	}
	if err := r.await(ctx, func(load float64, _ v1.ShardConfigStatus) bool { return load <= backAt }); err != nil {
		return trial, err
	}
	return trial, writeLoad(r.file, restLoad)
}

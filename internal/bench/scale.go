//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// scaleTrial is when the steps of one answer to more load were seen.
type scaleTrial struct {
	began       time.Time // the workers were told to report more
	reported    time.Time // the ShardInstances say so: the mean load is above the threshold, with its tolerance
	recommended time.Time // the ShardConfig asks for more shards
	decided     time.Time // it wants them, after the sustained period
}

const (
	sustained = time.Second
	// threshold is the mean load above which shards are added: 0.8, and a tenth.
	threshold = 0.88
)

// measureScale makes the load of all shards rise, again and again, and measures
// when that is decided on. Nothing is scaled.
func measureScale(ctx context.Context, c *cluster, s settings) (table, error) {
	t := table{Title: fmt.Sprintf("Load above the threshold → decision, %d times", s.steps)}
	err := c.createRing(ctx, ring, false, func(config *v1.ShardConfig) {
		config.Spec.Scaling = &v1.Scaling{SustainedPeriod: metav1.Duration{Duration: sustained}, Forecast: v1.ForecastNone}
	})
	if err != nil {
		return t, err
	}
	if _, err := c.startManager(); err != nil {
		return t, err
	}
	file := filepath.Join(c.dir, "load")
	if err := writeLoad(file, 0.5); err != nil {
		return t, err
	}
	ids := []string{"shard-1", "shard-2"}
	for _, id := range ids {
		if _, err := c.startWorker(ring, id, false, "--load="+file); err != nil {
			return t, err
		}
	}
	if err := c.waitReady(ctx, int32(len(ids))); err != nil {
		return t, err
	}
	var toReport, toRecommend, toDecide []float64
	for range s.steps {
		trial, err := c.step(ctx, file, len(ids))
		if err != nil {
			return t, err
		}
		toReport = append(toReport, trial.reported.Sub(trial.began).Seconds())
		toRecommend = append(toRecommend, max(0, trial.recommended.Sub(trial.reported).Seconds()))
		toDecide = append(toDecide, max(0, trial.decided.Sub(trial.reported).Seconds()))
	}
	t.add("mean load in ShardInstances above the threshold → status.recommendedShards, p50", median(toRecommend), "s")
	t.add("… p99", quantile(toRecommend, 0.99), "s", "< 5")
	t.add(fmt.Sprintf("… → status.desiredShards, with %v of sustainedPeriod, p50", sustained), median(toDecide), "s")
	t.add("… p99", quantile(toDecide, 0.99), "s")
	t.add("load × 6 in the worker → above the threshold in ShardInstances (half-life 10 s), p50", median(toReport), "s")
	return t, nil
}

func writeLoad(file string, load float64) error {
	next := file + ".next"
	if err := os.WriteFile(next, fmt.Appendf(nil, "%g", load), 0o644); err != nil {
		return err
	}
	return os.Rename(next, file)
}

// step lets the load rise from half, and fall to half again when that was decided on.
func (c *cluster) step(ctx context.Context, file string, shards int) (scaleTrial, error) {
	settled := func(most float64) error {
		return until(ctx, func() (bool, error) {
			load, config, err := c.scalingState(ctx)
			return err == nil && load <= most && load > 0 && config.Status.RecommendedShards == int32(shards) && config.Status.DesiredShards == int32(shards), nil
		})
	}
	if err := settled(0.6); err != nil {
		return scaleTrial{}, err
	}
	trial := scaleTrial{began: time.Now()}
	if err := writeLoad(file, 3); err != nil {
		return trial, err
	}
	for trial.decided.IsZero() || trial.reported.IsZero() {
		if err := ctx.Err(); err != nil {
			return trial, err
		}
		load, config, err := c.scalingState(ctx)
		if err != nil {
			continue
		}
		now := time.Now()
		for _, mark := range []struct {
			at *time.Time
			is bool
		}{
			{&trial.reported, load > threshold}, {&trial.recommended, config.Status.RecommendedShards > int32(shards)},
			{&trial.decided, config.Status.DesiredShards > int32(shards)},
		} {
			if mark.is && mark.at.IsZero() {
				*mark.at = now
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := writeLoad(file, 0.2); err != nil { // falls sooner than to a half
		return trial, err
	}
	err := until(ctx, func() (bool, error) {
		load, _, err := c.scalingState(ctx)
		return err == nil && load < 0.6, nil
	})
	if err != nil {
		return trial, err
	}
	return trial, writeLoad(file, 0.5)
}

// scalingState returns the mean of the loads that the shards report, and the ShardConfig.
func (c *cluster) scalingState(ctx context.Context) (load float64, config *v1.ShardConfig, err error) {
	list, err := c.shards.ShardV1().ShardInstances(ring).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return 0, nil, err
	}
	for i := range list.Items {
		if l := list.Items[i].Status.Load; l != nil {
			load += l.Float64() / float64(len(list.Items))
		}
	}
	config, err = c.shards.ShardV1().ShardConfigs(ring).Get(ctx, ring, metav1.GetOptions{ResourceVersion: "0"})
	return load, config, err
}

package sharding

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	applyv1 "github.com/shard-io/shard-controller/generated/applyconfiguration/shard/v1"
	"github.com/shard-io/shard-controller/sharding/scaling"
)

// A season is learnt over days, and leaders change more often. So what the models of a ring have learnt is in the status of its ShardConfig.

// forecastFieldManager is that of status.forecastMemory alone, which is written apart from the rest of the status, and less often.
const forecastFieldManager = "shard-manager-forecast"

const (
	// memoryInterval is how often what was learnt is written at most while a term lasts: so much is lost when a leader dies.
	memoryInterval = 15 * time.Minute
	// memoryTimeout is what the write at the end of a term may take.
	memoryTimeout = 2 * time.Second
)

// keptForecasts is what is written down of what the models have learnt.
type keptForecasts struct {
	ring types.UID // of the ShardConfig
	of   scaling.Memory
	at   time.Time // when it was read, or written, or that was tried
	drop bool      // it is of other models, and has to go
}

// recall takes up what the former leader has written down. An error says why it can't be used; the models then begin with nothing.
func (s *scaler) recall(config *shardv1.ShardConfig, models []scaling.Model, now time.Time) error {
	var err error
	s.memory, err = scaling.Restore(config.Status.ForecastMemory, now, models...)
	s.kept = keptForecasts{ring: config.UID, of: s.memory, at: now, drop: err != nil && len(models) == 0}
	return err
}

// forget begins with nothing, as the models have been changed.
func (s *scaler) forget(config *shardv1.ShardConfig, now time.Time) {
	s.memory, s.kept = scaling.Memory{}, keptForecasts{ring: config.UID, at: now, drop: config.Status.ForecastMemory != ""}
}

// keepForecasts writes down what the models have learnt, if it is time and they have learnt something.
func (c *ringController) keepForecasts(ctx context.Context, config *shardv1.ShardConfig) {
	s, now := &c.scaler, time.Now()
	switch {
	case s.kept.drop:
		c.writeForecasts(ctx, config, "")
	case now.Sub(s.kept.at) >= memoryInterval && s.memory.LearntSince(s.kept.of):
		c.saveForecasts(ctx, config)
	}
}

// leaveForecasts writes down, at the end of a term, what the next leader may go on with. A leader that was voted out can't write any more.
func (c *ringController) leaveForecasts(ctx context.Context) {
	config, err := c.configs.Get(c.ring)
	if err != nil || config.UID != c.scaler.kept.ring || config.DeletionTimestamp != nil || !c.scaler.memory.LearntSince(scaling.Memory{}) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), memoryTimeout)
	defer cancel()
	c.saveForecasts(ctx, config)
}

func (c *ringController) saveForecasts(ctx context.Context, config *shardv1.ShardConfig) {
	text, err := c.scaler.memory.Save()
	if err != nil {
		c.scaler.kept.at = time.Now()
		klog.FromContext(ctx).Error(err, "What the forecasts have learnt can't be kept")
		return
	}
	c.writeForecasts(ctx, config, text)
}

// writeForecasts carries no version: nobody else writes the field, and the latest is right. If it fails, it is tried again when the next write is due.
func (c *ringController) writeForecasts(ctx context.Context, config *shardv1.ShardConfig, text string) {
	status := applyv1.ShardConfigStatus()
	if text != "" {
		status.WithForecastMemory(text)
	}
	apply := applyv1.ShardConfig(c.ring, c.namespace).WithUID(config.UID).WithStatus(status)
	_, err := c.shards.ShardV1().ShardConfigs(c.namespace).ApplyStatus(ctx, apply, metav1.ApplyOptions{FieldManager: forecastFieldManager, Force: true})
	c.scaler.kept.at = time.Now()
	if err != nil {
		klog.FromContext(ctx).V(1).Info("Keeping what the forecasts have learnt failed, will try again later", "err", err)
		return
	}
	c.scaler.kept.of, c.scaler.kept.drop = c.scaler.memory, false
}

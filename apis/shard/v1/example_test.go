package v1_test

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/apis/shard/v1"
)

func ExampleRatioFrom() {
	load, err := v1.RatioFrom(0.1 + 0.2)
	if err != nil {
		fmt.Println(err)
		return
	}
	data, _ := json.Marshal(v1.ShardInstanceStatus{Load: &load})
	fmt.Println(string(data), load.Milli())

	_, err = v1.RatioFrom(-1)
	fmt.Println(err)
	// Output:
	// {"load":0.3} 300
	// ratio -1: must be a number from 0 to 1000
}

func ExamplePhaseOf() {
	alive := []metav1.Condition{{Type: v1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1.ReasonAlive}}
	fmt.Println(v1.PhaseOf(v1.ShardInstanceSpec{}, nil))
	fmt.Println(v1.PhaseOf(v1.ShardInstanceSpec{}, alive))
	fmt.Println(v1.PhaseOf(v1.ShardInstanceSpec{Draining: true}, alive))
	// Output:
	// Pending
	// Running
	// Draining
}

func ExampleShardConfig_SetDefaults() {
	config := v1.ShardConfig{Spec: v1.ShardConfigSpec{MaxShards: 4}}
	config.SetDefaults()
	fmt.Println(config.Spec.MinShards, config.Spec.MaxShards, config.Spec.ScaleUpThreshold, config.Spec.Handover.DrainTimeout.Duration)
	// Output:
	// 1 4 0.8 30s
}

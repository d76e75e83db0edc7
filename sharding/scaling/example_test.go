package scaling_test

import (
	"fmt"
	"time"

	"github.com/shard-io/shard-controller/sharding/scaling"
)

// Two shards are above the upper threshold of 0.8. After half a minute a third is added; the memory goes from round to round.
func ExampleScaler_Decide() {
	scaler, _ := scaling.New(scaling.Options{Min: 2, Max: 10})
	var memory scaling.Memory
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	last := scaling.Reason("")
	for range 8 {
		now = now.Add(5 * time.Second)
		var d scaling.Decision
		d, memory, _ = scaler.Decide(memory, scaling.Input{Now: now, Shards: 2, Loads: []scaling.ShardLoad{
			{ID: "shard-0", Load: 0.95, At: now}, {ID: "shard-1", Load: 0.9, At: now},
		}})
		if d.Reason != last {
			fmt.Println(d.Desired, d.Reason, "-", d.Text)
		}
		last = d.Reason
	}
	// Output:
	// 2 StabilizingUp - the mean load of 0.925 is above 0.8; not for 30s yet
	// 3 LoadHigh - the mean load of 0.925 is above 0.8
}

// Thresholds with which shards would be removed and added again are refused.
func ExampleNew_flapping() {
	_, err := scaling.New(scaling.Options{Min: 2, UpThreshold: 0.8, DownThreshold: 0.6})
	fmt.Println(err)
	// Output:
	// scaling: DownThreshold: 0.6, must be below 0.533: with Min 2, removing a shard can overload those that stay
}

// A model learns what is the same every day. What it has learnt can be written down for the next process.
func ExampleSeasonal() {
	var model scaling.Model = scaling.Seasonal{}
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for minute := range 24 * 60 {
		demand := 2.0
		if minute/60 == 9 {
			demand = 6
		}
		model = model.Observe(day.Add(time.Duration(minute)*time.Minute), demand)
	}
	tomorrow, known := model.Forecast(day.Add(33*time.Hour + 30*time.Minute))
	fmt.Println(tomorrow, known)
	// Output:
	// 6 true
}

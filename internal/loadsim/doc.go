// Package loadsim simulates a ring under load, hours in milliseconds: the planner of package balancer and the scaler of package scaling as
// they are, a cluster that takes its time to start shards and to move objects, and generated load. The HorizontalPodAutoscaler and a fixed
// number of shards can take the scaler's place, for comparison.
//
// Work is counted in full shards: a demand of 3 keeps three shards of speed 1 fully busy. Everything follows from the scenario and its seed;
// nothing is random but what the seed draws.
package loadsim

// Package scaling decides how many shards a ring should have. It decides only: it talks to nobody, reads no clock and starts no goroutine.
//
// A [Scaler] is a pure function of what is observed ([Input]) and of what it remembers ([Memory]): it returns a [Decision] and the memory for
// the next round. Its arithmetic is that of the Kubernetes HorizontalPodAutoscaler (ratio to a target, tolerance, stabilisation windows, rate
// limits), around two thresholds, and it adds what a ring needs.
//
// # What is promised
//
//   - Decision.Desired is never below Options.Min and never above Options.Max, whatever the input.
//   - What is not known decides nothing. A load that is NaN, infinite, negative or stale is unknown, and so is a metric. With something unknown,
//     shards are added only if what is known asks for them when all that is unknown counts as idle, and none are removed.
//   - Shards are added only when the need has been there for the whole of Options.Sustained, and removed only when they were not needed for
//     the whole of Options.Cooldown; after a gap in the rounds both begin anew. At most MaxStepUp are added in UpPeriod, at most MaxStepDown
//     removed in DownPeriod, and no decision more than doubles the number.
//   - Removing shards never calls for adding them: those that stay are below the upper threshold, by the load that was observed and by the one
//     that is forecast. Options that cannot keep that are refused by [New].
//   - Nothing is decided while a plan is in flight, members are rolled out, or health is frozen; except that a number outside of Min and Max is
//     brought inside.
//   - When one indivisible object is more than a shard should have, no shards are added for it: they could not take any of it.
//   - A forecast may only add shards or keep them. Its error is measured all the time against that of no forecast at all, and it is left out
//     while it is not better.
//   - Every decision, also the one to hold, has a reason: one word for programs, and a sentence for people.
//   - Equal arguments give equal decisions. Wrong input is an error that names the field, never a panic; the decision that comes along holds.
//
// # What is not promised
//
//   - That the number is right when load is not in proportion to work: the arithmetic assumes that twice the shards have half the load each.
//   - Speed under surprise: a load that nothing announced is answered after Options.Sustained, and helps after the new shards have started.
//   - That loads are even. The mean decides; making shards even is the work of the planner in package balancer.
//   - That the number is in force. Whoever acts on it may fail, and may wait: the decision is made again in the next round.
package scaling

// Package alerts tests examples/deploy/observability: that the alerts fire when they should and not before, and that alerts and dashboard ask
// for metrics and labels that exist. What exists is read from docs/metrics.md, which a test of the root module holds against what is
// registered. It is a module of its own, as Prometheus is large.
package alerts

// Package helm has only a test: Helm renders the chart in examples/deploy to what kustomize makes of its folders.
package helm

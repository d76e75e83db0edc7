// Package kustomize has only a test: kustomize renders the folders of examples/deploy to what is in their files, all of it and nothing else.
package kustomize

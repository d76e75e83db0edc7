# Everything that is needed beyond Go and make is built or installed by these targets; they say so when it takes long.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export GOTOOLCHAIN := local

.PHONY: help quickstart test race bench faults workload generate verify lint alerts build images controlplane sim-load sim sim-long sim-planted e2e e2e-node

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: ## See a sharded controller at work on a real API server, in about two minutes (KEEP=1 keeps it, KUBECONFIG=... uses your cluster)
	@go run ./examples/quickstart

# Tests with processes and short leases run one package at a time, so that they have the machine to themselves.
PROCESS_TESTS := ./internal/controlplane/... ./internal/child/... ./internal/bench/... ./internal/faults/... ./examples/deploy/... ./examples/quickstart/... ./examples/internal/e2e/... ./examples/kubectl-shard/... ./examples/embed-clientgo/...

# These hardly compute, and have no short time limits.
PROGRAMS := examples/internal/e2e/programs

# With -count=1 where what is tested is outside of the test's module: the go command would take it for unchanged.
test: controlplane ## Run all tests, with those on a real control plane
	go test -timeout 20m $$(go list ./... | grep -v $(foreach p,$(PROCESS_TESTS:./%/...=%),-e /$(p)))
	cd hack/goget && go test -count=1 .
	cd sharding/ctrlruntime && go test .
	cd hack/kustomize && go test -count=1 .
	cd hack/images && go test .
	cd hack/node && go test .
	cd hack/alerts && go test -count=1 .
	go test -timeout 20m -p 1 $$(go list $(PROCESS_TESTS) | grep -v /$(PROGRAMS))
	go test -timeout 20m -parallel 4 ./$(PROGRAMS)
	cd examples/embed-controllerruntime && go test -count=1 -p 1 ./...
	$(MAKE) sim

# Of sharding only what needs no virtual time, and not health: the race detector of Go 1.26 has crashed in the runtime of their simulations (testing/synctest).
race: ## Run tests under the race detector
	go test -race -run '^Test(Lanes|Roster|Sketch|Flight|Epochs|SessionFrom)' ./sharding
	go test -race -timeout 20m ./ring/... ./balancer/... ./sharding/scaling/... ./internal/timeline/... ./examples/internal/journal/... ./examples/worker/... ./examples/manager/...

bench: controlplane ## Measure: the ring, the balancer, what guard and fence cost, then the whole system on a real control plane
	go test -run '^$$' -bench . -benchmem ./ring ./balancer
	go test -run '^$$' -bench '^Benchmark(Guard|FencedWrite|Acquired)$$' -benchmem ./sharding
	go run ./internal/bench

# Simulations trade memory for speed: up to 2 GiB.
MEMORY := GOGC=1600 GOMEMLIMIT=2GiB
# One seed is an hour or more of simulated time with at least 20 faults. SEEDS and FIRST choose others.
SIMULATION := $(MEMORY) go test ./sharding -run 'TestSimulatedFaults$$'
SEEDS ?= 1000
FIRST ?= 0

sim: ## Simulate rings under faults: 1,000 seeds of an hour each, and every state of the model of the protocol
	go test ./internal/ownermodel
	$(SIMULATION) -timeout 120m -simulation.seeds $(SEEDS) -simulation.first $(FIRST)

sim-long: ## The same for 20,000 hours and a million faults
	@$(MAKE) sim SEEDS=18600 FIRST=100000

sim-planted: ## Show that the simulation, and the tests of health, find mistakes which are planted for them
	go test ./health -tags shardbugs -run 'TestPlantedBugs$$'
	$(MEMORY) go test ./sharding -tags shardbugs -run 'TestPlantedBugs$$' -timeout 6h

faults: controlplane ## Kill, stop and cut off real processes on a real API server, and count what gets through: about 20 minutes
	go run ./internal/faults

# The version is stamped, as the program behaves by it.
KUBERNETES := k8s.io/component-base/version
workload: controlplane ## Scale a real Deployment and a real StatefulSet, with a kube-controller-manager that is built for it: some minutes
	go -C hack/node build -ldflags "-X $(KUBERNETES).gitVersion=v1.37.2 -X $(KUBERNETES).gitMajor=1 -X $(KUBERNETES).gitMinor=37" -o $(CURDIR)/bin/kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager
	KUBE_CONTROLLER_MANAGER=$(CURDIR)/bin/kube-controller-manager go test -count=1 -v ./sharding -run 'TestRealWorkload$$'

sim-load: ## Simulate planner and scaling under load; writes the tables of docs/scaling.md and docs/img/scaling-*.svg
	go -C hack/loadsim run .

generate: ## Generate clients, CRDs and deep copies from apis/shard/v1
	hack/generate.sh

# The first time it compiles Prometheus: two to three CPU minutes.
alerts: ## Check alerts and dashboard with the parser and the rules of Prometheus, and against the metrics that exist
	go -C hack/alerts test -count=1 .

verify: ## Check that generated files are up to date, and lint
	hack/verify.sh

lint: ## Check gofmt, go mod tidy, go vet and staticcheck
	hack/lint.sh

build: ## Build the reference manager and worker, and kubectl-shard, into bin/
	go build -o bin/ ./examples/manager ./examples/worker ./examples/kubectl-shard

images: ## Build the images of manager and worker into bin/images, without Docker, and the lists of what is in them
	go -C hack/images run .

controlplane: ## Build etcd and kube-apiserver for the tests, unless they are cached or KUBEBUILDER_ASSETS names them
	@go run ./internal/controlplane/run -build

# Not among the tests of "make test": it takes minutes of waiting for Leases of 30 s, and the cluster takes 20 CPU minutes to build.
E2E := examples/internal/e2enode

e2e: ## Install, disturb and uninstall the system on a cluster with real Pods: KUBECONFIG=..., where the images of "make images" are
	@test -n "$(KUBECONFIG)" || { echo "KUBECONFIG must name a cluster for it; make e2e-node starts one" >&2; exit 1; }
	cd $(E2E) && KUBECONFIG="$(abspath $(KUBECONFIG))" go test -count=1 -v -timeout 60m .

e2e-node: ## The same on a cluster of one node that it builds and starts, without Docker: Linux and root; about 20 CPU minutes the first time
	go -C hack/images run . -out ../../bin/node-images -platforms linux/$$(go env GOARCH)
	go -C hack/images run . -out ../../bin/node-images/next -platforms linux/$$(go env GOARCH) -programs manager -tag next
	go -C hack/node build -o ../../bin/node .
	go -C $(E2E) test -c -o ../../../bin/e2e.test .
	cd $(E2E) && ../../../bin/node -source ../../../hack/node -images ../../../bin/node-images -- ../../../bin/e2e.test -next next -test.v -test.timeout 60m

#!/usr/bin/env bash
# Generates everything that follows from the types in apis/shard/v1: deepcopy functions, CRDs, apply configurations, clientset,
# listers and informers. Usage: hack/generate.sh (no arguments; works on the tree that it is part of).
#
# All output is written to a temporary directory first and put in place when every generator has succeeded. The generators are tools
# of the nested module hack/tools, so that importers of this module do not depend on them.
set -euo pipefail
export GOTOOLCHAIN=local GOWORK=off LC_ALL=C

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
module=github.com/shard-io/shard-controller
types=$module/apis/shard/v1
out=$module/generated
header=$root/hack/tools/boilerplate.go.txt
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
cd "$root"

# run TOOL ARGS... runs a tool of hack/tools on this module. The go command caches its executable.
run() {
  local path
  path="$(go -C "$root/hack/tools" tool -n "$1")"
  echo "  $1" >&2
  shift
  "$path" "$@"
}

echo "generate: from apis/shard/v1 (the first time, the generators are built: about a minute)" >&2

run deepcopy-gen --go-header-file "$header" --output-file zz_generated.deepcopy.go "$types"

run controller-gen crd paths=./apis/shard/v1 output:crd:dir="$tmp/crd"

# Apply configurations need the OpenAPI schema, or apply on the fake clientset merges wrongly. An overlay shows the generated Go code
# to the program that prints it as JSON, without a file in the tree.
run openapi-gen --go-header-file "$header" --output-file openapi.go --report-filename "$tmp/violations" \
  --output-dir "$tmp/openapi" --output-pkg "$module/hack/modelschema/openapi" \
  k8s.io/apimachinery/pkg/apis/meta/v1 k8s.io/apimachinery/pkg/api/resource k8s.io/apimachinery/pkg/runtime \
  k8s.io/apimachinery/pkg/version "$types"
printf '{"Replace": {"%s": "%s"}}\n' "$root/hack/modelschema/openapi/openapi.go" "$tmp/openapi/openapi.go" >"$tmp/overlay.json"
go run -overlay "$tmp/overlay.json" hack/modelschema/main.go >"$tmp/schema.json"

run applyconfiguration-gen --go-header-file "$header" --openapi-schema "$tmp/schema.json" \
  --output-dir "$tmp/generated/applyconfiguration" --output-pkg "$out/applyconfiguration" "$types"
run client-gen --go-header-file "$header" --clientset-name versioned \
  --input-base "$module/apis" --input shard/v1 --apply-configuration-package "$out/applyconfiguration" \
  --output-dir "$tmp/generated/clientset" --output-pkg "$out/clientset"
run lister-gen --go-header-file "$header" \
  --output-dir "$tmp/generated/listers" --output-pkg "$out/listers" "$types"
run informer-gen --go-header-file "$header" \
  --versioned-clientset-package "$out/clientset/versioned" --listers-package "$out/listers" \
  --output-dir "$tmp/generated/informers" --output-pkg "$out/informers" "$types"

rm -rf generated
mv "$tmp/generated" generated
rm -f apis/crd/shard.io_*.yaml
mv "$tmp"/crd/shard.io_*.yaml apis/crd/

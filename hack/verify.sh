#!/usr/bin/env bash
# Verifies the tree without changing it: generated files are what the generators make, hack/lint.sh finds nothing, and the Helm chart makes what
# kustomize makes. Usage: hack/verify.sh (no arguments). Exit code 1 means that something was found, and
# everything that was found has been printed.
set -uo pipefail
export GOTOOLCHAIN=local GOWORK=off LC_ALL=C

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root" || exit 1
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
failed=0

say() { echo "verify: $*" >&2; }
fail() {
  say "$*"
  failed=1
}

say "generated files"
cp -R go.mod go.sum apis generated hack "$tmp/" || exit 1
if "$tmp/hack/generate.sh" >"$tmp/log" 2>&1; then
  for dir in apis generated; do
    diff -ru "$dir" "$tmp/$dir" || fail "$dir is not what the generators make of the types: run make generate"
  done
else
  cat "$tmp/log" >&2
  fail "the generators failed"
fi

hack/lint.sh || failed=1

say "the Helm chart makes what kustomize makes: about two CPU minutes when nothing is cached"
go -C hack/helm test -count=1 . || fail "the chart in examples/deploy/chart and the folders next to it make different objects"

[ "$failed" = 0 ] && say "all is well"
exit "$failed"

#!/usr/bin/env bash
# Checks this module and the nested ones with gofmt, go mod tidy, go vet and staticcheck, without changing anything. Usage: hack/lint.sh (no
# arguments). Exit code 1 means that something was found, and everything that was found has been printed.
set -uo pipefail
export GOTOOLCHAIN=local GOWORK=off LC_ALL=C

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
failed=0

say() { echo "lint: $*" >&2; }
fail() {
  say "$*"
  failed=1
}

say "gofmt"
unformatted="$(gofmt -l .)"
if [ -n "$unformatted" ]; then
  echo "$unformatted"
  fail "gofmt would change these files: run gofmt -w on them"
fi

say "staticcheck is built when this runs for the first time: about two minutes"
staticcheck="$(go -C hack/tools tool -n staticcheck)" || exit 1
while IFS= read -r mod; do
  dir="$(dirname "$mod")"
  (cd "$dir" && go mod tidy -diff) || fail "go.mod or go.sum is not tidy in $dir: run go mod tidy there"
  packages="$(cd "$dir" && go list ./...)" || fail "go list failed in $dir"
  [ -n "$packages" ] || continue
  say "go vet and staticcheck in $dir"
  (cd "$dir" && go vet ./...) || fail "go vet found something in $dir"
  # Generated code is as good as its generator: client-go's own informers use what client-go deprecates.
  grep -v '/generated/' <<<"$packages" | (cd "$dir" && xargs "$staticcheck") || fail "staticcheck found something in $dir"
done < <(find . -name go.mod -not -path '*/testdata/*' | sort)

[ "$failed" = 0 ] && say "all is well"
exit "$failed"

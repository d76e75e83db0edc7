#!/usr/bin/env bash
# Verifies the tree without changing it: generated files are what the generators make, and gofmt, go vet and staticcheck have nothing to
# say about this module and the nested ones. Usage: hack/verify.sh (no arguments). Exit code 1 means that something was found, and
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

say "gofmt"
unformatted="$(gofmt -l .)"
if [ -n "$unformatted" ]; then
  echo "$unformatted"
  fail "gofmt would change these files: run gofmt -w on them"
fi

staticcheck="$(go -C hack/tools tool -n staticcheck)" || exit 1
while IFS= read -r mod; do
  dir="$(dirname "$mod")"
  packages="$(cd "$dir" && go list ./...)" || fail "go list failed in $dir"
  [ -n "$packages" ] || continue
  say "go vet and staticcheck in $dir"
  (cd "$dir" && go vet ./...) || fail "go vet found something in $dir"
  # Generated code is as good as its generator: client-go's own informers use what client-go deprecates.
  grep -v '/generated/' <<<"$packages" | (cd "$dir" && xargs "$staticcheck") || fail "staticcheck found something in $dir"
done < <(find . -name go.mod -not -path '*/testdata/*' | sort)

[ "$failed" = 0 ] && say "all is well"
exit "$failed"

#!/bin/sh
# Limits that linters do not know: files of one concept, no grab-bag packages, and
# a root package that imports the standard library alone.
set -eu
bad=$(git ls-files '*.go' | grep -v '_test\.go$' | while read -r f; do
  [ -f "$f" ] || continue
  n=$(wc -l <"$f"); [ "$n" -le 500 ] || echo "$f: $n lines, split it by concept"
done
git ls-files '*.go' | grep -E '(^|/)(util|utils|common|helpers|types)/' | sed 's/$/: say what the package is about/' || true
go list -f '{{join .Imports "\n"}}' . | grep '\.' | sed 's/^/the root package imports /' || true)
[ -z "$bad" ] || { echo "$bad"; exit 1; }

#!/bin/sh
# Runs every fuzz target of the module for the given time each.
set -eu
time=${1:-3s}
n=0
for dir in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz' | xargs -n1 dirname | sort -u); do
  for f in $(grep -h -o '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | awk '{print $2}'); do
    go test -run '^$' -fuzz "^$f\$" -fuzztime "$time" -parallel 2 "./$dir" >/tmp/fuzz.$$ 2>&1 || { cat /tmp/fuzz.$$; rm -f /tmp/fuzz.$$; exit 1; }
    n=$((n + 1))
  done
done
rm -f /tmp/fuzz.$$
[ "$n" -gt 0 ] || { echo "no fuzz target found"; exit 1; }
echo "fuzzed $n targets, $time each"

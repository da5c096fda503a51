#!/bin/sh
# Runs all tests and counts them.
#   run.sh        what CI runs
#   run.sh race   the same under the race detector, wherever that is possible
# The rooms run under the race detector. Without it run what links the engine, since
# its C++ would have to be compiled a second time, and what would take ten times as
# long for little: tests that start processes, or that only reckon.
set -u
cd "$(dirname "$0")/.."
mkdir -p build
links='github.com/ollama/ollama/(llama|runner|server)|cloister/models/engine/child'
module=$(go list -m)
all=$(go list ./...)
engine=$(go list -f '{{.ImportPath}} {{join .Deps " "}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./... |
  awk -v links="$links" '$0 ~ links {print $1}')
alone=$module/test/chaos # it bounds what a busy machine cannot promise
if [ "${1:-}" = race ]; then
  plain=$engine limit=60m
else
  limit=15m
  plain=$(printf '%s\n' "$engine" $(printf '%s\n' "$all" | grep -E "^$module/(test/|graph/answer$|auth/audit/proof$)") | sort -u)
fi
plain=$(printf '%s\n' "$plain" | grep -vxF "$alone")
raced=$(printf '%s\n' "$all" | grep -vxF "$plain" | grep -vxF "$alone")
{
  go test -race -json -timeout $limit $raced
  go test ${1:+-race} -json -timeout $limit "$alone"
  go test -json -timeout $limit $plain
} 2>&1 | tee build/test.json | go run ./test/tally

#!/bin/sh
# Runs all tests and counts them. The pure Go rooms run under the race detector;
# the packages that link the engine run without it, since its C++ would have to be
# compiled a second time.
set -u
cd "$(dirname "$0")/.."
mkdir -p build
links='github.com/ollama/ollama/(llama|runner|server)|cloister/models/engine/child'
engine=$(go list -f '{{.ImportPath}} {{join .Deps " "}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./... |
  awk -v links="$links" '$0 ~ links {print $1}')
pure=$(go list ./... | grep -vxF "$engine")
{
  go test -race -json -timeout 15m $pure
  go test -json -timeout 15m $engine
} 2>&1 | tee build/test.json | go run ./test/tally

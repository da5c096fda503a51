#!/bin/sh
# Runs all tests and counts them. The pure Go rooms run under the race detector;
# the packages that link the engine run without it, since its C++ would have to be
# compiled a second time.
set -u
cd "$(dirname "$0")/.."
mkdir -p build
engine=$(go list -f '{{if .DepOnly}}{{end}}{{.ImportPath}} {{join .Deps " "}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./... |
  awk '/github.com\/ollama\/ollama|cloister\/models\/engine/ {print $1}')
pure=$(go list ./... | grep -vxF "$engine")
{
  go test -race -json -timeout 15m $pure
  go test -json -timeout 15m $engine
} 2>&1 | tee build/test.json | go run ./test/tally

#!/bin/sh
# Builds the release binaries with a pinned toolchain, so that they start on every
# system with glibc 2.28 or newer (RHEL 8 and what came after) and build alike
# everywhere: the C and C++ of the engine are compiled by zig, whose libc++ is
# linked in. What was built from the same inputs is not built again.
#   build.sh OUT VERSION
set -eu
out=${1:?"build.sh takes a folder and a version"} version=${2:?"build.sh takes a folder and a version"}
cd "$(dirname "$0")/../.."
root=$(pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)

inputs=$({
  echo "$version"
  go version
  git ls-files -co --exclude-standard -z -- cmd node store graph agents models auth ui go.mod go.sum packaging/release |
    xargs -0 sha256sum
} | sha256sum)
if [ -x "$out/cloister" ] && [ -x "$out/cloister-verify" ] && [ "$(cat "$out/inputs" 2>/dev/null)" = "$inputs" ]; then
  exit 0
fi
rm -f "$out/inputs"

zig=$root/build/zig-0.17.1
if [ ! -x "$zig/ziglang/zig" ]; then
  python3 -m pip install --quiet --no-deps --require-hashes --root-user-action ignore --target "$zig" -r packaging/release/zig.txt
fi
export PYTHONPATH=$zig ZIG_GLOBAL_CACHE_DIR=$root/build/zig-cache ZIG_LOCAL_CACHE_DIR=$root/build/zig-cache

# The headers that the engine's module lacks, in a folder of their own: the
# machine's other headers are not the target's.
include=$root/build/release-include
mkdir -p "$include/miniaudio"
cp -r /usr/include/nlohmann /usr/include/stb "$include/"
cp -f "$(go list -m -f '{{.Dir}}' github.com/gen2brain/malgo)/miniaudio.h" "$include/miniaudio/"
chmod -R u+w "$include"

export CC="python3 -m ziglang cc -target x86_64-linux-gnu.2.28"
export CXX="python3 -m ziglang c++ -target x86_64-linux-gnu.2.28"
export CGO_CFLAGS="-O3 -mcpu=x86_64_v3 -I$include" CGO_CXXFLAGS="-O3 -mcpu=x86_64_v3 -I$include"
unset CPATH || true
flags="-s -w -X main.version=$version -extldflags=-s"
log=$out/build.log # the engine's C++ warns a lot; it is shown when something fails
if ! {
  CGO_ENABLED=1 GOOS=linux GOARCH=amd64 go build -trimpath -ldflags "$flags" -o "$out/cloister" ./cmd/cloister &&
    CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -trimpath -ldflags "$flags" -o "$out/cloister-verify" ./cmd/cloister-verify
} >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
echo "$inputs" >"$out/inputs"

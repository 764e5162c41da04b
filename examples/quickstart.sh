#!/usr/bin/env bash
# quickstart.sh: on a bare Debian or Ubuntu, installs what is missing, builds, and lets the built-in model write a story.
# usage: examples/quickstart.sh [options of clformer-generate]
set -euo pipefail
cd "$(dirname "$0")/.."

cmake/packages.sh build
cmake/packages.sh --optional opencl
cmake --preset release -DCLFORMER_TESTS=OFF -DCLFORMER_BENCH=OFF >&2
cmake --build --preset release -j "$(nproc)" >&2
echo >&2
if [ $# -gt 0 ]; then exec build/bin/clformer-generate "$@"; fi
exec build/bin/clformer-generate --prompt "Once upon a time" --temperature 0.7 --seed 1 --tokens 250

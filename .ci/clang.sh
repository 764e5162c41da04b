#!/usr/bin/env bash
# clang.sh: clang compiles everything without a warning, and the op tests pass in its build.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v clang >/dev/null || exit 77
cmake --preset clang -DCLFORMER_WERROR=ON >/dev/null
cmake --build --preset clang -j "$(nproc)" 2>&1 | tail -3
ctest --preset clang -j "$(nproc)" -E 'opencl|fuzz'

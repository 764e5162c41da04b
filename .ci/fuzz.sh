#!/usr/bin/env bash
# fuzz.sh: every libFuzzer target for a moment, from its seeds. tests/fuzz and cmake/tests/fuzz.cmake say how to run one for long.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v clang >/dev/null || exit 77
cmake --preset fuzz -DCLFORMER_OPENCL=OFF >/dev/null
cmake --build --preset fuzz -j "$(nproc)" --target fuzz 2>&1 | tail -2
ctest --preset fuzz -j "$(nproc)"

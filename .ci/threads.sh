#!/usr/bin/env bash
# threads.sh: the op tests under the thread sanitizer, with clang and its OpenMP runtime, whose Archer tool tells the sanitizer about barriers.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v clang >/dev/null && [ -n "$(find /usr/lib/llvm* -name 'libarcher.so' 2>/dev/null | head -1)" ] || exit 77
cmake --preset tsan -DCLFORMER_OPENCL=OFF -DCLFORMER_BENCH=OFF >/dev/null
cmake --build --preset tsan -j "$(nproc)" 2>&1 | tail -3
export TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1"
ctest --preset tsan -j "$(nproc)" -L threads

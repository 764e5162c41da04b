#!/usr/bin/env bash
# threads.sh: the op tests under the thread sanitizer, with clang and its OpenMP runtime, whose Archer tool tells the sanitizer about barriers.
set -euo pipefail
cd "$(dirname "$0")/.."

OMP_TOOL_LIBRARIES=$(find /usr/lib/llvm* -name libarcher.so 2>/dev/null | head -1)
export OMP_TOOL_LIBRARIES
command -v clang >/dev/null && [ -n "$OMP_TOOL_LIBRARIES" ] || exit 77
cmake --preset tsan -DCLFORMER_OPENCL=OFF -DCLFORMER_BENCH=OFF >/dev/null
cmake --build --preset tsan -j "$(nproc)" 2>&1 | tail -3
export TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" OMP_WAIT_POLICY=passive
ctest --preset tsan -j "$(nproc)" -L threads -E 'attention|linear|embedding'
# these have variants that would take an hour here: the cheaper ones
for op in attention linear embedding; do build-tsan/bin/test-$op --most-cost 3e5; done

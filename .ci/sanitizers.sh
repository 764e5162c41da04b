#!/usr/bin/env bash
# sanitizers.sh: the tests under the address and undefined-behaviour sanitizers.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake --preset asan -DCLFORMER_WERROR=ON -DCLFORMER_BENCH=OFF >/dev/null
cmake --build --preset asan -j "$(nproc)" 2>&1 | tail -3
# PoCL's compiler leaks on its own; one run fills its cache, the tests then load from it
export OMP_WAIT_POLICY=passive ASAN_OPTIONS=detect_leaks=1 LSAN_OPTIONS=suppressions=$PWD/.ci/lsan.supp OMP_NUM_THREADS=2
ctest --preset asan -j "$(nproc)" -E '^attention(-grid)?$'
# the large runs of attention are slow in checked code and reach nothing that smaller ones don't
build-asan/bin/test-attention --most-cost 2e6 | tail -3
build-asan/bin/test-attention --grid --most-cost 1e6 | tail -3

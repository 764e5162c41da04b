#!/usr/bin/env bash
# run.sh: installs what is missing, builds into build/, and runs every test that needs no GPU, on the CPU tables and on PoCL. Tests that a
# machine can't run are counted as skipped, with the reason.
# usage: tests/run.sh [ctest options]
set -euo pipefail
cd "$(dirname "$0")/.."

cmake/packages.sh build
cmake/packages.sh --optional opencl test
cmake --preset release ${CI:+-DCLFORMER_WERROR=ON}
cmake --build --preset release -j "$(nproc)"
export OMP_WAIT_POLICY=passive # tests run side by side: a thread that waits must not spin
ctest --preset release -j "$(nproc)" "$@"

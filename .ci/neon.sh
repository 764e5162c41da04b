#!/usr/bin/env bash
# neon.sh: the op tests of aarch64's tables, cross-compiled and run under qemu-user.
set -euo pipefail
cd "$(dirname "$0")/.."

root=/usr/aarch64-linux-gnu
command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null && [ -d $root ] || { echo "needs aarch64-linux-gnu-gcc and qemu-aarch64"; exit 77; }
cmake -S .ci/neon -B build-neon -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc \
    -DCMAKE_CROSSCOMPILING_EMULATOR="qemu-aarch64;-L;$root" >/dev/null
cmake --build build-neon -j "$(nproc)" 2>&1 | tail -3
ctest --test-dir build-neon -j "$(nproc)" --output-on-failure

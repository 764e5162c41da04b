#!/usr/bin/env bash
# fuzz.sh [seconds]: every libFuzzer target for a short while (default 20 s each), from its seed corpus. A finding is left in build-fuzz/.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-20}
command -v clang >/dev/null || exit 77
cmake -S . -B build-fuzz -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=clang -DCLFORMER_SANITIZE=address,undefined -DCLFORMER_FUZZ=ON \
    -DCLFORMER_OPENCL=OFF -DCLFORMER_BENCH=OFF -DCLFORMER_EXAMPLES=OFF >/dev/null
targets=$(cmake --build build-fuzz --target help | grep -oE 'fuzz-[a-z0-9_]+' | sort -u)
[ -n "$targets" ] || { echo "fuzz: no targets" >&2; exit 1; }
# shellcheck disable=SC2086
cmake --build build-fuzz -j "$(nproc)" --target $targets 2>&1 | tail -2
for target in $targets; do
    corpus=build-fuzz/corpus/$target
    mkdir -p "$corpus"
    [ ! -d "tests/fuzz/corpus/${target#fuzz-}" ] || cp -n tests/fuzz/corpus/"${target#fuzz-}"/* "$corpus"
    echo "-- $target"
    status=0
    "build-fuzz/bin/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -artifact_prefix=build-fuzz/ \
        -print_final_stats=1 "$corpus" >"build-fuzz/$target.log" 2>&1 || status=$?
    grep -E 'stat::number_of_executed' "build-fuzz/$target.log" || true
    [ $status = 0 ] || { tail -40 "build-fuzz/$target.log" >&2; exit 1; }
done

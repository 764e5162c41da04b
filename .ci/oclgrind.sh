#!/usr/bin/env bash
# oclgrind.sh: the op tests' small variants on the portable kernels under oclgrind, which finds accesses out of bounds,
# data races and diverging barriers. It exits with 0 whatever it finds, so its log must stay empty.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v oclgrind >/dev/null || { echo "skipped: no oclgrind"; exit 77; }
[ -f build/lib/clformer-opencl.so ] || { echo "skipped: no OpenCL module in build/"; exit 77; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export CLFORMER_CACHE_DIR=off # the self test runs too

tests=0
for op in $(sed -nE 's/^CLF_OP\((.*)\)$/\1/p' lib/ops/ops.def); do
    test=build/bin/test-$op
    [ -x "$test" ] && [ -f "cl/$op.cl" ] || continue
    echo "$op"
    [ "$op" = attention ] && cost=2e4 || cost=3e4 # its tiles are computed whole, however few of them are seen
    : >"$log"
    nice oclgrind --data-races --log "$log" "$test" --device opencl --dtype f16 --most-cost "${COST:-$cost}"
    if [ -s "$log" ]; then
        head -60 "$log"
        echo "oclgrind: $op: see above" >&2
        exit 1
    fi
    tests=$((tests + 1))
done
echo "$tests ops without a finding"

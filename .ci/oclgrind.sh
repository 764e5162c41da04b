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

# ARGUMENTS...: runs a program, which passes and of which oclgrind says nothing
check() {
    echo "$(basename "$1")"
    : >"$log"
    nice oclgrind --data-races --log "$log" "$@"
    [ -s "$log" ] || return 0
    head -60 "$log"
    echo "oclgrind: $1: see above" >&2
    exit 1
}

tests=0
for op in $(sed -nE 's/^CLF_OP\((.*)\)$/\1/p' lib/ops/ops.def); do
    test=build/bin/test-$op
    [ -x "$test" ] && [ -f "cl/$op.cl" ] || continue
    [ "$op" = attention ] && cost=2e4 || cost=3e4 # its tiles are computed whole, however few of them are seen
    check "$test" --device opencl --dtype f16 --most-cost "${COST:-$cost}"
    tests=$((tests + 1))
done
[ ! -x build/bin/test-attention_indices ] || EVERY=19 check build/bin/test-attention_indices
echo "$tests ops without a finding"

#!/usr/bin/env bash
# tensor_cores.sh: the kernels of cl/nvidia in their emulation, on any OpenCL device, against the runs that every table passes; late-landing copies and the
# order of accesses are tracked. The log must show that they, not the portable kernels, had the calls.
# usage: tests/tensor_cores.sh TEST-ATTENTION [its options]
set -uo pipefail
test=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export CLFORMER_OPENCL_TENSOR_CORES=${CLFORMER_OPENCL_TENSOR_CORES:-emulate} CLFORMER_LOG=4
"$test" --device opencl --verbose "$@" >"$log"
status=$?
grep -E '^FAIL|^skip|^[0-9]+ passed' "$log"
[ $status = 0 ] || exit $status
forward=$(grep -c '^log attention: tensor cores' "$log") backward=$(grep -c '^log attention_backward: tensor cores' "$log")
split=$(grep -c '^log attention: tensor cores.* [2-9][0-9]* splits' "$log")
wgmma=$(grep -c '^log attention: tensor cores.* by wgmma' "$log")
echo "tensor cores: $forward calls forward, $split of them with split keys, $wgmma by wgmma, $backward backward"
[ "$CLFORMER_OPENCL_TENSOR_CORES" != emulate:90 ] || [ "$wgmma" -gt 0 ] || exit 1
grep -q 'known answers are right' "$log" && [ "$forward" -gt 0 ] && [ "$backward" -gt 0 ] && [ "$split" -gt 0 ]

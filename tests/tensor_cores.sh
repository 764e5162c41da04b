#!/usr/bin/env bash
# tensor_cores.sh: the kernels of cl/nvidia in their emulation, on any OpenCL device, against the runs that every table passes; late-landing copies and the
# order of accesses are tracked. The log must show that they, not the portable kernels, had the calls.
# usage: tests/tensor_cores.sh TEST-ATTENTION|TEST-LINEAR [its options]
set -uo pipefail
test=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export CLFORMER_OPENCL_TENSOR_CORES=${CLFORMER_OPENCL_TENSOR_CORES:-emulate} CLFORMER_LOG=4
"$test" --device opencl --verbose "$@" >"$log"
status=$?
grep -E '^FAIL|^skip|^[0-9]+ passed' "$log"
grep '^log trial' "$log" | grep -v 'known answers are right$'
[ $status = 0 ] || exit $status
calls() { grep -c "^log $1: tensor cores${2-}" "$log"; }
grep -q 'known answers are right' "$log" || exit 1
if [[ $test == *linear ]]; then
    operands=$(calls linear ', b\?f16') down=$(calls linear_backward) bytes=$(calls linear ', bytes') decode=$(calls linear ', decode')
    ternary=$(calls linear ', .*, t2$') tiles=$(calls linear ', .*, u8$')
    echo "tensor cores: $operands calls of 16-bit operands, $bytes of bytes, $down of gradients, $decode of few rows; $ternary with T2, $tiles with tiles"
    [ "$decode" -gt 0 ] && [ "$ternary" -gt 0 ] && [ "$tiles" -gt 0 ] && [ $((operands + bytes)) -gt 0 ] && { [ "$operands" = 0 ] || [ "$down" -gt 0 ]; }
    exit
fi
forward=$(calls attention) backward=$(calls attention_backward) split=$(calls attention '.* [2-9][0-9]* splits') wgmma=$(calls attention '.* by wgmma')
echo "tensor cores: $forward calls forward, $split of them with split keys, $wgmma by wgmma, $backward backward"
[ "$CLFORMER_OPENCL_TENSOR_CORES" != emulate:90 ] || [ "$wgmma" -gt 0 ] || exit 1
[ "$forward" -gt 0 ] && [ "$backward" -gt 0 ] && [ "$split" -gt 0 ]

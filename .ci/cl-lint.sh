#!/bin/bash
# cl-lint.sh: every kernel source through clang's OpenCL C 1.2 front end, with each set of options that its launcher
# builds it with. Warnings are errors; nothing of double or of an extension is allowed. With --driver: through the compiler
# of NVIDIA's driver instead (nvidia/driver.sh), and ptxas.
set -euo pipefail
cd "$(dirname "$0")/.."
clang=${CLANG:-clang-15} # 14 hides vload_half
PATH=$PATH:/usr/local/cuda/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ "${1-}" = --driver ]; then
    command -v ptxas >/dev/null || { echo "skipped: no ptxas"; exit 77; }
    . .ci/nvidia/driver_compile.sh
    clang=
else
    command -v "$clang" >/dev/null || { echo "skipped: no $clang"; exit 77; }
fi

.ci/cl-dtypes.sh >"$work/dtypes.cl"
floats="F32 F16 BF16"
blocks=$(grep -oE '[A-Z0-9_]+_values = [0-9]+' "$work/dtypes.cl" | awk '$3 > 1 && $1 !~ /^T[12]_/ { sub("_values", "", $1); print $1 }')

lint() { # SOURCE OPTIONS...
    local source=$1
    shift
    if [ -n "$clang" ]; then
        cat "$work/dtypes.cl" cl/common.cl cl/blocks.cl "cl/$source.cl" >"$work/$source.cl"
        "$clang" -x cl -cl-std=CL1.2 --target=spir64 -Icl -Xclang -finclude-default-header -Xclang -cl-ext=-all -fsyntax-only -Wall -Wextra -Wno-missing-prototypes \
            -Wno-unused-parameter -Wdouble-promotion -Werror "$@" "$work/$source.cl" || { echo "cl/$source.cl $*"; exit 1; }
    else
        program_text "$work/dtypes.cl" cl/{common,blocks,"$source"}.cl >"$work/$source.cl"
        compile_text sm_80 "$@" <"$work/$source.cl" >"$work/x.ptx" && ptxas -arch=sm_80 "$work/x.ptx" -o "$work/x.cubin" || { echo "cl/$source.cl $*"; exit 1; }
    fi
    count=$((count + 1))
}

count=0
for source in add glu softcap dropout rms_norm argmax rope sum_squares fake_quantize ternarize; do
    for t in $floats; do lint $source -DT="$t"; done
done
lint convert
for w in $floats; do lint embedding -DW="$w"; lint linear -DW="$w"; done
for w in $blocks; do
    for source in embedding linear linear_backward convert; do lint $source -DW="$w" -DBLOCKS; done
done
for w in T2 T1; do
    lint linear -DW=$w -DPANELS
    for to in $floats T2 T1 TQ1_0 TQ2_0 Q2_0; do lint convert_ternary -DW=$w -DPANELS -DTO="$to"; done
    for rows in TQ1_0 TQ2_0 Q2_0; do lint convert_ternary -DW=$rows -DTO=$w; done
done
for rows in 1 4; do lint linear_tiles -DW=F32 -DROWS=$rows; done
for source in linear_backward linear_cross_entropy; do lint $source -DW=F32; done
for rule in 0 1 2; do
    for state in F32 U8; do lint optimizer_step -DRULE=$rule -DMOMENTUM=$state -DVARIANCE=$state; done
done
lint attention_starts
tile="-DQUERIES=64 -DKEYS=32 -DITEMS=128 -DDEPTH=16"
for chunks in 1 2 4; do lint attention $tile -DCHUNKS=$chunks; done
for chunks in 1 2 4; do lint attention_backward $tile -DCHUNKS=$chunks; done
for rows in 1 2 4 8; do lint attention_few -DROWS=$rows; done
for source in cl/*.cl; do
    [ -e "$work/$(basename "$source")" ] || [[ $source =~ /(common|blocks|philox|attention_rules|attention_tile|linear_epilogue)\.cl$ ]] || { echo "$source: not linted"; exit 1; }
done
echo "$count programs"

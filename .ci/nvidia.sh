#!/usr/bin/env bash
# nvidia.sh: every kernel of cl/nvidia, with each tile of tiles.def and linear_tiles.def and set of features, compiled by clang with the PTX body of warp.h and assembled by
# ptxas: no GPU is needed. Fails on spills, on a stack frame (arrays left in memory are no spills to ptxas), on products of wgmma that ptxas takes one at a
# time, on local memory beyond 48 KB, and on more registers or local memory than cl/nvidia/budgets says.
# usage: .ci/nvidia.sh [--update]    --update writes the budgets instead of comparing with them
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/cuda/bin
clang=${CLANG:-clang-14}
for tool in "$clang" ptxas; do command -v "$tool" >/dev/null || { echo "skipped: no $tool"; exit 77; }; done
archs=(sm_80 sm_86 sm_90 sm_90a sm_120)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# the dtypes as cl/program.c gives them
sed -n '/define CLF_DTYPES(X)/,/^$/p' include/clformer/base.h | sed -nE 's/.*X\(([A-Z0-9_]+), "[a-z0-9_]+", (-?[0-9]+), ([0-9]+), ([0-9]+)\).*/\1 \3 \4/p' |
    awk '{ names = names $1 ","; sizes = sizes $1 "_values = " $2 "," $1 "_bytes = " $3 "," } END { print "enum {" names "};\nenum {" sizes "};" }' >"$work/dtypes.h"

# SOURCE LABEL OPTIONS...: a line "kernel label registers... local" for each kernel
assemble() {
    local source=$1 label=$2 arch
    shift 2
    local headers=(-Icl -include .ci/nvidia/builtins.h -include "$work/dtypes.h" -include cl/nvidia/warp.h -include cl/nvidia/tile.h)
    # functions of the portable sources that a kernel doesn't use are not to be assembled
    sed -E 's/^#include "([a-z_]+\.cl)"/#pragma clang attribute push(__attribute__((internal_linkage)), apply_to = function)\n&\n#pragma clang attribute pop/' \
        "cl/nvidia/$source.cl" >"$work/x.cl"
    local bytes
    bytes=$(printf '#include "%s"\n@ LOCAL_BYTES\n' "$work/x.cl" | "$clang" -E -P -x cl --target=nvptx64-nvidia-nvcl "${headers[@]}" "$@" - | sed -n 's/^@ //p')
    [[ $bytes == LOCAL_BYTES ]] && bytes=0
    "$clang" -x cl -cl-std=CL1.2 --target=nvptx64-nvidia-nvcl -Xclang -finclude-default-header -Xclang -target-cpu -Xclang sm_80 -Xclang -target-feature \
        -Xclang +ptx75 "${headers[@]}" "$@" -Wall -Werror -Wno-unused-function -O3 -S "$work/x.cl" -o "$work/x.ptx"
    local targets=(sm_80 sm_86 sm_90 sm_120)
    if [[ " $* " == *" -DWGMMA=1 "* ]]; then # as ptx.c does it; clang knows no sm_90a
        sed -i 's,//@,,; s/^\.version.*/.version 8.0/; s/^\.target.*/.target sm_90a, texmode_independent/' "$work/x.ptx"
        targets=(sm_90a)
    fi
    for arch in "${targets[@]}"; do
        ptxas -arch="$arch" -v "$work/x.ptx" -o "$work/x.cubin" 2>&1 | awk -v label="$label" -v arch="$arch" '
            /error/ || /wgmma/ { print > "/dev/stderr"; bad = 1 }
            /Compiling entry function/ { split($0, name, "\047") }
            /bytes stack frame/ { stack = $1; spill = $5 + $9 }
            /Used [0-9]+ registers/ {
                match($0, /Used [0-9]+/)
                print name[2], label, arch, substr($0, RSTART + 5, RLENGTH - 5), stack + spill
            }
            END { exit bad }' >>"$work/lines"
    done
    awk -v label="$label" -v bytes="$((bytes))" '$2 == label && !seen[$1]++ { print $1, label, "local", $1 ~ /_(join|rows|heads)$/ ? 0 : bytes, 0 }' \
        "$work/lines" >>"$work/locals"
}

: >"$work/lines"
: >"$work/locals"
assemble warp_ops bf16 -DEMULATE=0 -DOPERAND_F16=0
assemble warp_ops f16 -DEMULATE=0 -DOPERAND_F16=1
while IFS=', ' read -r use dim least _ features warps row_tiles keys k_stages q_in_registers products; do
    case $products in
    MMA) wgmma=() label_dim=$dim ;;
    WGMMA_PTX) wgmma=(-DWGMMA=1 -DWGMMA_MARKED=1) label_dim=$dim-wgmma ;;
    *) continue ;; # the same kernel, by another way
    esac
    sets=("plain 0 0 0 0")
    [ "$features" = 0 ] || sets+=("scores 1 0 0 0" "layout 0 0 1 0" "dropout 0 0 0 1" "all 1 1 1 1")
    [ "$features" = 0 ] || [ "$use" = BACKWARD ] || sets+=("paged 0 1 0 0")
    for half in 0 1; do
        for set in "${sets[@]}"; do
            read -r name scores paged layout dropout <<<"$set"
            [ $half = 0 ] || [ "$name" = plain ] || continue # registers don't depend on the format
            options=(-DEMULATE=0 -DOPERAND_F16=$half -DHEAD_DIM="$dim" -DV_DIM="$dim" -DN_WARPS="$warps" -DSCORES="$scores" -DLAYOUT="$layout" -DDROPOUT="$dropout")
            [ $half = 0 ] || name=f16
            label=$use-$label_dim-$least-$features-$name
            if [ "$use" = BACKWARD ]; then
                # dK and dV together, or each in a launch of its own
                parts=("3 $label")
                [ "$dim" -le 128 ] || parts=("1 $label-dk" "2 $label-dv")
                for part in "${parts[@]}"; do
                    assemble attention_backward "${part#* }" "${options[@]}" -DSTEP="$keys" -DGRADIENTS="${part%% *}"
                done
                [ "$scores" = 0 ] || assemble attention_backward_mask "$label" "${options[@]}" -DSTEP="$keys"
            else
                assemble attention "$label" "${options[@]}" -DPAGED="$paged" -DROW_TILES="$row_tiles" -DBLOCK_K="$keys" -DK_STAGES="$k_stages" \
                    -DQ_IN_REGISTERS="$q_in_registers" "${wgmma[@]}"
            fi
        done
    done
done < <(sed -nE 's/^CLF_TILE\((.*)\)$/\1/p' cl/nvidia/tiles.def)

# linear: formats that differ in what a kernel does; run, minima; parts that decode takes together, and their distance; codes at multiples of 16 bytes
formats=("Q8_0 32 0 2 1 0" "Q4_0 32 0 2 1 0" "Q4_K 32 1 2 2 1" "Q6_K 16 0 4 2 0" "TQ2_0 32 0 4 2 0" "Q2_K 16 1 4 2 0")
ternary=(-DEMULATE=0 -DOPERAND_F16=0)
while IFS=', ' read -r rows columns warp_rows warp_columns; do
    gemm() { # LABEL F16 DOWN INT8 CODES RUN MINIMA PARTS ALIGNED WEIGHT...
        assemble linear "$rows-$1" -DEMULATE=0 -DOPERAND_F16="$2" -DDOWN="$3" -DINT8="$4" -DCODES="$5" -DRUN="$6" -DMINIMA="$7" -DPARTS="$8" -DALIGNED="$9" \
            -DBLOCK_M="$rows" -DBLOCK_N="$columns" -DWARP_M="$warp_rows" -DWARP_N="$warp_columns" "${@:10}"
    }
    for down in 0 1; do
        [ $down = 0 ] && label= || label=down-
        gemm ${label}bf16 0 $down 0 0 32 0 1 1 -DW=BF16
        gemm ${label}f16 1 $down 0 0 32 0 1 1 -DW=F16
        gemm ${label}unaligned 0 $down 0 0 32 0 1 0 -DW=BF16
        gemm ${label}nf4-bf16 0 $down 0 0 32 0 2 1 -DW=NF4 -DBLOCKS
        gemm ${label}nf4-f16 1 $down 0 0 32 0 1 1 -DW=NF4 -DBLOCKS
    done
    for format in "${formats[@]}"; do
        read -r w run minima _ <<<"$format"
        gemm "$w" 0 0 0 1 "$run" "$minima" 1 1 -DW="$w" -DBLOCKS
        gemm "$w-unaligned" 1 0 0 1 "$run" "$minima" 1 0 -DW="$w" -DBLOCKS
        gemm "$w-bytes" 0 0 1 1 "$run" "$minima" 1 1 -DW="$w" -DBLOCKS
        gemm "down-$w" 0 1 0 0 32 "$minima" 2 1 -DW="$w" -DBLOCKS
    done
    assemble linear_ternary "$rows-T2" "${ternary[@]}" -DTILES=0 -DBLOCK_M="$rows" -DBLOCK_N="$columns" -DWARP_M="$warp_rows" -DWARP_N="$warp_columns"
done < <(sed -nE 's/^CLF_LINEAR_TILE\((.*)\)$/\1/p' cl/nvidia/linear_tiles.def)
assemble linear_bytes round -DEMULATE=0 -DOPERAND_F16=0 -DWIDE=0 -DW=F32
for format in "${formats[@]}"; do
    read -r w _ minima unit distance wide <<<"$format"
    for rows in 1 2 4 8; do
        assemble linear_bytes "$w-$rows" -DEMULATE=0 -DOPERAND_F16=0 -DW="$w" -DBLOCKS -DMINIMA="$minima" -DROWS=$rows -DUNIT="$unit" -DDISTANCE="$distance" -DWIDE="$wide"
    done
done
for span in 256 row; do [ $span = 256 ] && items=64 || items=256; assemble linear_ternary "of-$span" "${ternary[@]}" -DTILES=0 -DITEMS=$items; done
for rows in 16 32; do assemble linear_ternary "$((rows * 4))-tiles" "${ternary[@]}" -DTILES=1 -DBLOCK_M=$((rows * 4)) -DBLOCK_N=16 -DWARP_M=$rows -DWARP_N=16; done
for rows in 1 2 4 8; do
    assemble linear_ternary "T2-$rows" "${ternary[@]}" -DTILES=0 -DROWS=$rows
    assemble linear_ternary "tiles-$rows" "${ternary[@]}" -DTILES=1 -DROWS=$rows
done

# one line for each kernel and label
cat "$work/lines" "$work/locals" | awk -v archs="${archs[*]}" '
    $5 { bad = 1; print $0 ": spills or a stack frame" > "/dev/stderr" }
    { key = $1 " " $2; value[key, $3] = $4; if (!(key in order)) { order[key] = ++n; keys[n] = key } }
    END {
        split(archs, a, " ")
        for (i = 1; i <= n; i++) {
            line = keys[i]
            for (j = 1; j in a; j++) {
                if ((keys[i], a[j]) in value) line = line " " value[keys[i], a[j]]
                else if ((a[j] == "sm_90a") != (keys[i] ~ /wgmma/)) line = line " -"
                else { bad = 1; print keys[i] ": not assembled for " a[j] > "/dev/stderr" }
            }
            print line, value[keys[i], "local"]
            if (value[keys[i], "local"] > 49152) { bad = 1; print keys[i] ": more than 48 KB of local memory" > "/dev/stderr" }
        }
        exit bad
    }' >"$work/table" || { cat "$work/table"; exit 1; }

head="# Registers and bytes of local memory that a kernel may take, by .ci/nvidia.sh --update: kernel, tile (use, dim, least sm and features of tiles.def;
# rows of linear_tiles.def) and features, or weights and rows, registers on ${archs[*]}, local memory; wgmma is of sm_90a alone"
if [ "${1-}" = --update ]; then
    { echo "$head"; column -t "$work/table"; } >cl/nvidia/budgets
else
    awk 'NR == FNR { if (!/^#/) for (i = 3; i <= NF; i++) budget[$1, $2, i] = $i; next }
        { for (i = 3; i <= NF; i++) if (!(($1, $2, i) in budget) || $i > budget[$1, $2, i] + 0) { bad = 1; print "over its budget (" budget[$1, $2, i] "): " $0; break } }
        END { exit bad }' cl/nvidia/budgets "$work/table"
fi
echo "$(wc -l <"$work/table") kernels on ${#archs[@]} architectures: no spills, no stack frames"

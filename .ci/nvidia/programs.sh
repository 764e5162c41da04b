#!/usr/bin/env bash
# programs.sh: the programs of cl/nvidia, a line "SOURCE LABEL OPTIONS..." each: every tile of tiles.def and linear_tiles.def with the sets of features that
# differ in what a kernel does, and linear's formats likewise.
set -euo pipefail
cd "$(dirname "$0")/../.."

program() { echo "$*"; }

program warp_ops bf16 -DEMULATE=0 -DOPERAND_F16=0
program warp_ops f16 -DEMULATE=0 -DOPERAND_F16=1
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
                    program attention_backward "${part#* }" "${options[@]}" -DSTEP="$keys" -DGRADIENTS="${part%% *}"
                done
                [ "$scores" = 0 ] || program attention_backward_mask "$label" "${options[@]}" -DSTEP="$keys"
            else
                program attention "$label" "${options[@]}" -DPAGED="$paged" -DROW_TILES="$row_tiles" -DBLOCK_K="$keys" -DK_STAGES="$k_stages" \
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
        program linear "$rows-$1" -DEMULATE=0 -DOPERAND_F16="$2" -DDOWN="$3" -DINT8="$4" -DCODES="$5" -DRUN="$6" -DMINIMA="$7" -DPARTS="$8" -DALIGNED="$9" \
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
    program linear_ternary "$rows-T2" "${ternary[@]}" -DTILES=0 -DBLOCK_M="$rows" -DBLOCK_N="$columns" -DWARP_M="$warp_rows" -DWARP_N="$warp_columns"
done < <(sed -nE 's/^CLF_LINEAR_TILE\((.*)\)$/\1/p' cl/nvidia/linear_tiles.def)
program linear_bytes round -DEMULATE=0 -DOPERAND_F16=0 -DWIDE=0 -DW=F32
for format in "${formats[@]}"; do
    read -r w _ minima unit distance wide <<<"$format"
    for rows in 1 2 4 8; do
        program linear_bytes "$w-$rows" -DEMULATE=0 -DOPERAND_F16=0 -DW="$w" -DBLOCKS -DMINIMA="$minima" -DROWS=$rows -DUNIT="$unit" -DDISTANCE="$distance" -DWIDE="$wide"
    done
done
for span in 256 row; do [ $span = 256 ] && items=64 || items=256; program linear_ternary "of-$span" "${ternary[@]}" -DTILES=0 -DITEMS=$items; done
for rows in 16 32; do program linear_ternary "$((rows * 4))-tiles" "${ternary[@]}" -DTILES=1 -DBLOCK_M=$((rows * 4)) -DBLOCK_N=16 -DWARP_M=$rows -DWARP_N=16; done
for rows in 1 2 4 8; do
    program linear_ternary "T2-$rows" "${ternary[@]}" -DTILES=0 -DROWS=$rows
    program linear_ternary "tiles-$rows" "${ternary[@]}" -DTILES=1 -DROWS=$rows
done

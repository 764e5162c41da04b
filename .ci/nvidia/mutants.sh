#!/usr/bin/env bash
# mutants.sh: does the emulation notice? Removes or weakens one thing of the tensor-core kernels at a time, synchronisation above all, and runs the tests of
# attention and linear with the module built from the damaged sources: it must fail. Nightly, not for every push: each mutant is compiled anew.
# usage: .ci/nvidia/mutants.sh [attention|mask|linear]    needs build/ with test-attention, test-linear and the OpenCL module
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -x build/bin/test-attention ] && [ -x build/bin/test-linear ] && [ -f build/lib/clformer-opencl.so ] || { echo "skipped: no test-attention, test-linear or OpenCL module in build/"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tree"
git ls-files -z | grep -zvE '^tests/golden/' | xargs -0 cp --parents -t "$work/tree"
cmake -S "$work/tree" -B "$work/build" -DCMAKE_BUILD_TYPE=Release >"$work/log" || { tail "$work/log"; exit 1; }
export CLFORMER_MODULE_DIR=$work/build/lib CLFORMER_CACHE_DIR=off
kernels=$work/tree/cl/nvidia

# variants: decode, 700 keys; 300 by 300; everything packed; 130 by 130 of width 128; forward and backward each
setting=emulate op=attention test=attention
# the mask's gradient: packed, for all heads; packed, for all queries; for all keys; of one element
# linear's: 280 rows by 101 of 352, Q8_0, in bf16 and from float32; 27 of 24 by 30 in f16; 33 by 64 of 256, Q4_K, from float32; 3 by 40 of 512, Q8_0;
# T2: 1 by 112 of 768, 37 by 32 of 2304, 300 by 80 of 256; tiles: 7 by 208 of 512, 70 by 240 of 512, 1 by 16 of 16384, every one there
runs() {
    case $op in
    attention) echo "bf16 10 bf16 21 bf16 31 bf16 51" ;;
    mask) echo "bf16 47 bf16 48 bf16 49 bf16 50" ;;
    linear) echo "bf16 29 f32 29 f16 17 f32 21 f32 24 f32 60 f32 64 f32 66 f32 98 f32 101 f32 104" ;;
    esac
}
passes() {
    cmake --build "$work/build" --target clformer_opencl >"$work/log" 2>&1 || { tail "$work/log"; exit 1; }
    local dtype variant
    export CLFORMER_OPENCL_TENSOR_CORES=$setting
    while read -r dtype variant; do build/bin/test-$test --device opencl --dtype "$dtype" --variant "$variant" >"$work/log" 2>&1 || break; done < <(runs | xargs -n2)
    if grep -q 'compiler refused' "$work/log"; then cat "$work/log"; exit 1; fi
    ! grep -q '^FAIL' "$work/log"
}

bad=0 n=0
mutant() { # WHAT FILE OCCURRENCE FIND REPLACE: nth occurrence of a fixed text; it must be there
    n=$((n + 1))
    cp "cl/nvidia/$2" "$kernels/$2"
    python3 - "$kernels/$2" "$3" "$4" "$5" <<'PY'
import sys
path, nth, find, replace = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
text = open(path).read()
parts = text.split(find)
assert len(parts) > nth, f"{path}: no occurrence {nth} of {find!r}"
open(path, "w").write(find.join(parts[:nth]) + replace + find.join(parts[nth:]))
PY
    if passes; then echo "not noticed: $1"; bad=1; else echo "noticed: $1"; fi
    cp "cl/nvidia/$2" "$kernels/$2"
}

attention_mutants() {
    passes || { echo "the unchanged kernels fail"; tail -5 "$work/log"; exit 1; }
    for i in 3 4 5 6; do mutant "forward: barrier $i missing" attention.cl $i "block_barrier(w);" ""; done
    # the second barrier keeps K from overwriting Q while other warps read it: the only tile with Q in registers has one warp
    mutant "decode: barrier 1 missing" attention.cl 1 "block_barrier(w);" ""
    for i in 1 2 3 4; do mutant "backward: barrier $i missing" attention_backward.cl $i "block_barrier(w);" ""; done
    mutant "forward: Q, one group fewer waited for" attention.cl 1 "wait_group(w, 0)" "wait_group(w, 1)"
    mutant "forward: K of two stages, one group fewer" attention.cl 1 "wait_group(w, 2)" "wait_group(w, 3)"
    mutant "forward: K of one stage, one group fewer" attention.cl 1 "wait_group(w, 1)" "wait_group(w, 2)"
    mutant "forward: V, one group fewer" attention.cl 2 "wait_group(w, 1)" "wait_group(w, 2)"
    mutant "forward: V not committed" attention.cl 3 "cp_async_commit(w);" ""
    mutant "dK, dV: one group fewer" attention_backward.cl 1 "wait_group(w, 0)" "wait_group(w, 1)"
    mutant "dQ: one group fewer" attention_backward.cl 2 "wait_group(w, 0)" "wait_group(w, 1)"
    mutant "tiles: copies without swizzle" tile.h 1 "(c ^ (r & 7))" "(c)"
    mutant "forward: mask off by one" rules.h 1 "(position) + right)" "(position) + right + 1)"
    mutant "forward: rows that see nothing" attention.cl 1 "top == -INFINITY ? 0.0f : top" "top"
    mutant "backward: steps of a row's last block left out" backward.h 1 "meets |= at < high" "meets |= at + 1 < high"
    mutant "backward: dK without scale" attention_backward.cl 1 "dk[j][2 * h] * scale" "dk[j][2 * h]"
    mutant "dropout: words exchanged" rules.h 1 "(uint2)(c, d) : (uint2)(a, b)" "(uint2)(a, b) : (uint2)(c, d)"
    setting=emulate:90 # the tiles with wgmma
    passes || { echo "the unchanged kernels with wgmma fail"; tail -5 "$work/log"; exit 1; }
    mutant "wgmma: K not made visible" attention.cl 1 "wgmma_visible(w);" ""
    mutant "wgmma: V not made visible" attention.cl 2 "wgmma_visible(w);" ""
    mutant "wgmma: S added to what was there" attention.cl 1 "k > 0, 0)" "1, 0)"
    mutant "wgmma: V not transposed" attention.cl 1 "BLOCK_K, k), 1, 1)" "BLOCK_K, k), 1, 0)"
    mutant "wgmma: K by columns of 16 bytes" tile.h 1 "(block_column & 3) * 32" "(block_column & 3) * 16"
    mutant "wgmma: K of one page" tile.h 2 "(block_column >> 2) * PAGE_BYTES(rows)" "0"
    mutant "wgmma: V of one page" tile.h 1 "PAGE_BYTES(rows), 1024)" "0, 1024)"
    mutant "wgmma: eights of rows 512 bytes apart" tile.h 1 "0, 1024)" "0, 512)"
    mutant "wgmma: barrier 3 missing" attention.cl 3 "block_barrier(w);" ""
    mutant "wgmma: K of two stages, one group fewer" attention.cl 1 "wait_group(w, 2)" "wait_group(w, 3)"
}

mask_mutants() {
    local file=attention_backward_mask.cl
    setting=emulate op=mask test=attention
    passes || { echo "the unchanged kernels of the mask's gradient fail"; tail -5 "$work/log"; exit 1; }
    for i in 1 2 3; do mutant "d_mask: barrier $i missing" $file $i "block_barrier(w);" ""; done
    mutant "d_mask: one group fewer waited for" $file 1 "wait_group(w, 0)" "wait_group(w, 1)"
    mutant "d_mask: not committed" $file 1 "cp_async_commit(w);" ""
    mutant "d_mask: of one head" $file 1 "head_end = mask_heads == 1 ? heads" "head_end = mask_heads == 1 ? 1"
    mutant "d_mask: of the first sequence" $file 1 "all_keys ? sequences : index + 1" "all_keys ? 1 : index + 1"
    mutant "d_mask: queries and keys of unlike sequences" $file 1 "index_end = index; /*" "; /*"
    mutant "d_mask: of the first step of keys" $file 1 "key_end = all_keys ? limit" "key_end = all_keys ? min(limit, seen_from + 1)"
    mutant "d_mask: lanes left out of a query's sum" $file 1 "sum += warp_shfl_xor(w, sum, 2);" ""
    mutant "d_mask: lanes left out of a key's sum" $file 1 "sum += warp_shfl_xor(w, sum, 16);" ""
    mutant "d_mask: another warp's part" $file 1 "(c * N_WARPS + n) * 4" "(c * N_WARPS + (n | 1)) * 4"
    mutant "d_mask: every group takes every turn" $file 1 "if (--turn) continue;" ""
    mutant "d_mask: the last part left out" $file 1 "n < splits; n++" "n < splits - 1; n++"
    mutant "d_mask: one column to the right" $file 1 "at = n + j * 8 + column + e;" "at = n + j * 8 + column + e + 1;"
}

linear_mutants() {
    setting=emulate op=linear test=linear
    passes || { echo "the unchanged kernels of linear fail"; tail -5 "$work/log"; exit 1; }
    mutant "linear: barrier missing" linear.cl 1 "block_barrier(w);" ""
    for i in 1 2; do mutant "linear: barrier $i of the result missing" linear_result.cl $i "block_barrier(w);" ""; done
    mutant "linear: one group fewer waited for" linear.cl 1 "wait_group(w, STAGES - 2)" "wait_group(w, STAGES - 1)"
    mutant "linear: not committed" linear.cl 1 "cp_async_commit(w);" ""
    mutant "linear: blocks put where they are read" linear.cl 1 "PUT_W(free_stage)" "PUT_W(stage)"
    mutant "linear: scales of the next column" linear.cl 1 "j * 16 + e * 8 + column) * 4" "j * 16 + e * 8 + (column ^ 2)) * 4"
    mutant "linear: minima added" linear.cl 1 "fma(-minimum.x, sum0" "fma(minimum.x, sum0"
    mutant "linear: panels without swizzle" tile.h 1 "(c ^ (r >> 1 & 3)) << 4)" "c << 4)"
    mutant "linear: rounded towards zero" linear_bytes.cl 1 "(int)rint(v[4 * i + j] * inverse)" "(int)(v[4 * i + j] * inverse * 0.999f)"
    mutant "decode: words not shifted" linear_bytes.cl 1 "inside ? v >> 16 | (uint4)(v.yzw, last) << 16 : v" "v"
    mutant "decode: the last column twice" linear_bytes.cl 1 "column0 + c, n - 1" "column0, n - 1"
    for i in 1 2; do mutant "ternary: barrier $i missing" linear_ternary.cl $i "block_barrier(w);" ""; done
    mutant "ternary: one group fewer waited for" linear_ternary.cl 1 "wait_group(w, STAGES - 2)" "wait_group(w, STAGES - 1)"
    mutant "ternary: not committed" linear_ternary.cl 2 "cp_async_commit(w);" ""
    mutant "ternary: scales a step early" linear_ternary.cl 1 "if ((s) % 4 == 3)" "if ((s) % 4 == 2)"
    mutant "ternary: codes not less 1" linear_ternary.cl 1 "(codes4(word, p) + 0x7f7f7f7fu) ^ 0x80808080u" "codes4(word, p)"
    mutant "ternary: spans not apart" linear_ternary.cl 2 "PRODUCT_START;" "c[i][j][e];"
    mutant "tiles: none after the first four" linear_ternary.cl 1 "e < l.to; e += AT_ONCE" "e < min(l.to, l.from + 1); e += AT_ONCE"
    mutant "tiles: the list's end is there" linear_ternary.cl 1 "const bool in = e + q < l.to;" "const bool in = true;"
    mutant "tiles, decode: seven of eight" linear_ternary.cl 1 "e += N_WARPS * 8" "e += N_WARPS * 8 + 1"
}

what=${1-all}
case $what in attention | all) attention_mutants ;; esac
case $what in attention | mask | all) mask_mutants ;; esac
case $what in linear | all) linear_mutants ;; esac
echo "$n mutants"
exit $bad

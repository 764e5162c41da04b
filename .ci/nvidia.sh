#!/usr/bin/env bash
# nvidia.sh: every program of cl/nvidia (nvidia/programs.sh), with the PTX body of warp.h, compiled by clang and assembled by ptxas: no GPU is needed. Fails on
# spills, on a stack frame (arrays left in memory are no spills to ptxas), on products of wgmma that ptxas takes one at a time, on local memory beyond 48 KB,
# and on more registers or local memory than cl/nvidia/budgets says. With --driver the compiler is that of NVIDIA's driver (nvidia/driver.sh), as on a machine
# with a GPU, and the text is the one that cl/program.c gives it; registers and spilled bytes are those of cl/nvidia/budgets_driver, if that was written with
# the same version of it.
# usage: .ci/nvidia.sh [--driver] [--update]    --update writes the budgets instead of comparing with them
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/cuda/bin
export clang=${CLANG:-clang-14} work
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v ptxas >/dev/null || { echo "skipped: no ptxas"; exit 77; }
if [[ " $* " == *" --driver "* ]]; then
    . .ci/nvidia/driver_compile.sh
    compile=compile_by_driver archs=(sm_80 sm_90 sm_90a) budgets=cl/nvidia/budgets_driver last="spilled bytes" by="$(basename "$driver_library")"
else
    command -v "$clang" >/dev/null || { echo "skipped: no $clang"; exit 77; }
    compile=compile_by_clang archs=(sm_80 sm_86 sm_90 sm_90a sm_120) budgets=cl/nvidia/budgets last="local memory" by=$clang
fi
export compile archs_of_mma="${archs[*]/sm_90a/}"

.ci/cl-dtypes.sh >"$work/dtypes.h"

# ARCH SOURCE OPTIONS...: $work/$at.ptx
compile_by_clang() {
    [ ! -e "$work/$at.ptx" ] || return 0 # it knows sm_80, and the rest is ptxas's
    # functions of the portable sources that a kernel doesn't use are not to be assembled
    sed -E 's/^#include "([a-z_]+\.cl)"/#pragma clang attribute push(__attribute__((internal_linkage)), apply_to = function)\n&\n#pragma clang attribute pop/' \
        "cl/nvidia/$2.cl" >"$work/$at.cl"
    local headers=(-Icl -include .ci/nvidia/builtins.h -include "$work/dtypes.h" -include cl/nvidia/warp.h -include cl/nvidia/tile.h)
    printf '#include "%s"\n@ LOCAL_BYTES\n' "$work/$at.cl" | "$clang" -E -P -x cl --target=nvptx64-nvidia-nvcl "${headers[@]}" "${@:3}" - |
        sed -n 's/^@ LOCAL_BYTES$/0/; s/^@ //p' >"$work/$at.local"
    "$clang" -x cl -cl-std=CL1.2 --target=nvptx64-nvidia-nvcl -Xclang -finclude-default-header -Xclang -target-cpu -Xclang sm_80 -Xclang -target-feature \
        -Xclang +ptx75 "${headers[@]}" "${@:3}" -Wall -Werror -Wno-unused-function -O3 -S "$work/$at.cl" -o "$work/$at.ptx"
}
compile_by_driver() {
    echo 0 >"$work/$at.local"
    program_text "$work/dtypes.h" cl/nvidia/{warp.h,tile.h,"$2.cl"} | compile_text "${1%a}" "${@:3}" >"$work/$at.ptx"
}

# "AT SOURCE LABEL OPTIONS...": lines "kernel label registers... local" in $work/$at.lines
assemble() {
    set -euo pipefail
    local at source label options arch bytes archs=$archs_of_mma
    read -r at source label options <<<"$1"
    [[ $options != *-DWGMMA=1* ]] || archs=sm_90a
    for arch in $archs; do
        # shellcheck disable=SC2086
        $compile "$arch" "$source" $options || { echo "$source.cl $options: refused" >&2; return 1; }
        # as ptx.c does it; clang knows no sm_90a
        [[ $archs != sm_90a ]] || sed -i 's,//@,,; s/^\.version [1-7].*/.version 8.0/; s/^\.target.*/.target sm_90a, texmode_independent/' "$work/$at.ptx"
        ptxas -arch="$arch" -v "$work/$at.ptx" -o "$work/$at.cubin" 2>&1 | awk -v label="$label" -v arch="$arch" '
            /error/ || /wgmma/ { print > "/dev/stderr"; bad = 1 }
            /Compiling entry function/ { split($0, name, "\047") }
            /bytes stack frame/ { stack = $1; spill = $5 + $9 }
            /Used [0-9]+ registers/ {
                match($0, /Used [0-9]+/)
                print name[2], label, arch, substr($0, RSTART + 5, RLENGTH - 5), stack + spill
            }
            END { exit bad }' >>"$work/$at.lines"
    done
    bytes=$(<"$work/$at.local")
    awk -v label="$label" -v bytes="$((bytes))" '!seen[$1]++ { print $1, label, "local", $1 ~ /_(join|rows|heads)$/ ? 0 : bytes, 0 }' \
        "$work/$at.lines" >"$work/$at.locals"
    rm "$work/$at.ptx" "$work/$at.cubin"
}
export -f assemble compile_by_clang compile_by_driver
.ci/nvidia/programs.sh | awk '{ printf "%04d %s\n", NR, $0 }' | xargs -P "$(nproc)" -d '\n' -I{} bash -c 'assemble "$1"' - {}

# one line for each kernel and label
cat "$work"/*.lines "$work"/*.locals | awk -v archs="${archs[*]}" -v compile=$compile '
    $5 && compile == "compile_by_clang" { bad = 1; print $0 ": spills or a stack frame" > "/dev/stderr" }
    {
        key = $1 " " $2
        value[key, $3] = $4
        if ($5 > spills[key] + 0) spills[key] = $5
        if (!(key in order)) { order[key] = ++n; keys[n] = key }
    }
    END {
        split(archs, a, " ")
        for (i = 1; i <= n; i++) {
            line = keys[i]
            for (j = 1; j in a; j++) {
                if ((keys[i], a[j]) in value) line = line " " value[keys[i], a[j]]
                else if ((a[j] == "sm_90a") != (keys[i] ~ /wgmma/)) line = line " -"
                else { bad = 1; print keys[i] ": not assembled for " a[j] > "/dev/stderr" }
            }
            print line, compile == "compile_by_clang" ? value[keys[i], "local"] : spills[keys[i]] + 0
            if (value[keys[i], "local"] > 49152) { bad = 1; print keys[i] ": more than 48 KB of local memory" > "/dev/stderr" }
        }
        exit bad
    }' >"$work/table" || { cat "$work/table"; exit 1; }

head="# Registers, and $last, that a kernel may take, by .ci/nvidia.sh --update: kernel, tile (use, dim, least sm and features of tiles.def;
# rows of linear_tiles.def) and features, or weights and rows, registers on ${archs[*]}, $last; wgmma is of sm_90a alone
# compiled by $by"
if [[ " $* " == *" --update "* ]]; then
    { echo "$head"; column -t "$work/table"; } >"$budgets"
elif [ $compile = compile_by_clang ] || grep -qx "# compiled by $by" $budgets; then
    awk 'NR == FNR { if (!/^#/) for (i = 3; i <= NF; i++) budget[$1, $2, i] = $i; next }
        { for (i = 3; i <= NF; i++) if (!(($1, $2, i) in budget) || $i > budget[$1, $2, i] + 0) { bad = 1; print "over its budget (" budget[$1, $2, i] "): " $0; break } }
        END { exit bad }' $budgets "$work/table"
else
    echo "registers and spills not compared: $budgets is of another compiler than $by"
fi
if [ $compile = compile_by_clang ]; then
    echo "$(wc -l <"$work/table") kernels on ${#archs[@]} architectures: no spills, no stack frames"
else
    awk '{ n += $NF > 0; if ($NF > most) most = $NF } END { printf "%d kernels: %d of them spill, %d bytes at most\n", NR, n, most }' "$work/table"
fi

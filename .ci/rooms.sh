#!/usr/bin/env bash
# rooms.sh: each op of ops.def stands in every room under its one name, and no room holds a stranger at the root.
set -euo pipefail
cd "$(dirname "$0")/.."

bad=0
complain() { echo "rooms: $*" >&2; bad=1; }
for op in $(sed -n 's/^CLF_OP(\(.*\))$/\1/p' lib/ops/ops.def); do
    for file in lib/ops/$op.c cpu/$op.c cl/$op.c cl/$op.cl tests/$op.c; do
        [ -f "$file" ] || complain "$file is missing"
    done
    grep -q "CLF_API clf_status clf_$op(" include/clformer/ops.h || complain "clf_$op() is not in ops.h"
    grep -q "^## $op$" docs/ops.md || complain "docs/ops.md has no heading '## $op'"
done
for op in $(sed -n 's/^CLF_OP_BACKWARD(\(.*\))$/\1/p' lib/ops/ops.def); do
    grep -q "CLF_API clf_status clf_${op}_backward(" include/clformer/ops.h || complain "clf_${op}_backward() is not in ops.h"
    grep -q "^## ${op}_backward$" docs/ops.md || complain "docs/ops.md has no heading '## ${op}_backward'"
done
known='^(CMakeLists.txt|CMakePresets.json|README.md|LICENSE|\.clang-format|\.clang-tidy|\.gitignore|(include|lib|cl|cpu|tests|bench|examples|cmake|docs|\.ci)/.*)$'
strangers=$(git ls-files | grep -vE "$known" || true)
[ -z "$strangers" ] || complain "not of this house: $strangers"
if grep -rlE 'immintrin|arm_neon|CL/cl' lib include --include='*.[ch]' | grep -v include/clformer/opencl.h; then
    complain "lib/ holds no vector and no OpenCL code"
fi
size=$(git ls-files -z tests | xargs -0 du -bc | tail -1 | cut -f1)
[ "$size" -lt $((13 << 20)) ] || complain "tests/ holds $size bytes, at most 13 MiB are meant"
exit $bad

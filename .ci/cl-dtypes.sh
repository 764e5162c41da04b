#!/usr/bin/env bash
# cl-dtypes.sh: the dtypes for OpenCL C, as cl/program.c gives them.
set -euo pipefail
cd "$(dirname "$0")/.."
sed -n '/define CLF_DTYPES(X)/,/^$/p' include/clformer/base.h | sed -nE 's/.*X\(([A-Z0-9_]+), "[a-z0-9_]+", (-?[0-9]+), ([0-9]+), ([0-9]+)\).*/\1 \3 \4/p' |
    awk '{ names = names $1 ","; sizes = sizes $1 "_values = " $2 "," $1 "_bytes = " $3 "," } END { print "enum {" names "};\nenum {" sizes "};" }'

#!/usr/bin/env bash
# symbols.sh: the library exports exactly the functions that the headers declare, the module its one table; neither needs OpenCL (library) nor
# an executable stack.
set -euo pipefail
cd "$(dirname "$0")/.."

lib=build/lib/libclformer.so
exported() { nm -D --defined-only "$1" | awk '{print $3}' | sed 's/@.*//' | grep -v '^CLFORMER_' | sort -u; }
declared=$(cat include/clformer/*.h | tr '\n' ' ' | grep -oE 'CLF_API [^;]*' | grep -oE 'clf_[a-z0-9_]+ ?\(' | tr -d ' (' |
    sort -u)
diff <(echo "$declared") <(exported $lib) || { echo "symbols: '<' declared, not exported; '>' exported, not declared" >&2; exit 1; }
if readelf -d $lib | grep -E 'NEEDED.*(OpenCL|clblast)'; then echo "symbols: the library links OpenCL" >&2; exit 1; fi
module=build/lib/clformer-opencl.so
if [ -f $module ]; then
    [ "$(exported $module)" = clf_backend_opencl ] || { echo "symbols: the module exports $(exported $module)" >&2; exit 1; }
fi
if readelf -lW $lib | grep GNU_STACK | grep -q E; then echo "symbols: executable stack" >&2; exit 1; fi

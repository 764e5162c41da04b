#!/usr/bin/env bash
# compare.sh: clformer against pinned peers (llama.cpp, PyTorch), alternating, medians and ratios. The peers go into a private Python
# environment, made once; the models (8 GB) beside it. Nothing else on the machine is touched.
# usage: bench/compare.sh [--env DIR] [--models DIR] [--build DIR] [--threads N] [--rounds N] [--only models|context|ops|attention …] [--json FILE]
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/clformer
env=$cache/bench-env models=$cache/bench-models build=build rest=()
while [ $# -gt 0 ]; do
    case $1 in
    --env) env=$2; shift 2 ;;
    --models) models=$2; shift 2 ;;
    --build) build=$2; shift 2 ;;
    -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
    *) rest+=("$1"); shift ;;
    esac
done

versions() { grep -E '^[a-z0-9-]+==' bench/requirements.txt; }
missing() { # the pinned packages that the environment lacks
    "$env/bin/python" - "$@" <<'PYTHON'
import sys
from importlib.metadata import PackageNotFoundError, version
for pin in sys.argv[1:]:
    name, want = pin.split("==")
    try:
        have = version(name).split("+")[0]
    except PackageNotFoundError:
        have = None
    if have != want:
        print(pin)
PYTHON
}
if [ ! -x "$env/bin/python" ]; then
    echo "making $env" >&2
    python3 -m venv "$env"
fi
# shellcheck disable=SC2046
if [ -n "$(missing $(versions))" ]; then
    echo "installing $(missing $(versions) | tr '\n' ' ')into $env; llama.cpp is compiled, which takes a while" >&2
    "$env/bin/pip" install -q -r bench/requirements.txt
fi
[ -x "$build/bin/clformer-bench" ] || { echo "$build/bin/clformer-bench is missing: cmake --preset release && cmake --build --preset release" >&2; exit 1; }
exec "$env/bin/python" bench/compare.py --bench "$build/bin/clformer-bench" --models "$models" ${rest[@]+"${rest[@]}"}

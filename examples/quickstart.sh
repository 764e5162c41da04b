#!/usr/bin/env bash
# quickstart.sh: on a bare Debian or Ubuntu, installs what is missing, builds, lets the built-in model write a story, fine-tunes it on 40 lines of
# pirate talk, lets it write again, and quantises the built-in model. With options: those of clformer-generate, and that is all it runs.
# usage: examples/quickstart.sh [options of clformer-generate]
set -euo pipefail
cd "$(dirname "$0")/.."

cmake/packages.sh build
cmake/packages.sh --optional opencl
cmake --preset release -DCLFORMER_TESTS=OFF -DCLFORMER_BENCH=OFF >&2
cmake --build --preset release -j "$(nproc)" >&2
echo >&2
if [ $# -gt 0 ]; then exec build/bin/clformer-generate "$@"; fi
tell() { build/bin/clformer-generate --prompt "Once upon a time" --temperature 0.7 --seed 1 --tokens "$@"; }
tell 250
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
echo >&2
build/bin/clformer-finetune --data examples/finetune.jsonl --output "$run" --steps 120 --context 128 --accumulate 2 --learning-rate 1e-2
echo >&2
tell 100 --adapter "$run/adapter"
echo >&2
build/bin/clformer-quantize --quiet examples/default_model/default.gguf "$run/story.gguf" --type q4_k_m
